"""What may be asked of an endpoint. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from cnm import labels
from cnm.errors import InvalidParameter
from cnm.types import EndpointRequest, Network


def is_static(request: EndpointRequest) -> bool:
    """Whether an address of its own is asked for."""
    return request.ipv4 is not None or request.ipv6 is not None


def request_faults(network: Network, request: EndpointRequest) -> list[str]:
    """All that is wrong with a request for this network."""
    faults = []
    if network.predefined and is_static(request):
        faults.append("user specified IP address is supported on user defined networks only")
    if network.predefined and request.aliases:
        faults.append(
            "network-scoped alias is supported only for containers in user defined networks"
        )
    if not network.predefined:
        for wanted, pools in ((request.ipv4, network.ipv4), (request.ipv6, network.ipv6)):
            if wanted is not None and not any(wanted in pool.pool for pool in pools):
                faults.append(f"no configured subnet or ip-range contain the IP address {wanted}")
    return faults + _option_faults(request.driver_opts)


def _option_faults(options: Mapping[str, str]) -> list[str]:
    faults = []
    try:
        wanted_servers = options.get(labels.ENDPOINT_DNS_SERVERS, "")
        labels.parse_dns_servers(labels.ENDPOINT_DNS_SERVERS, wanted_servers)
    except InvalidParameter as error:
        faults.append(str(error))
    wanted_name = options.get(labels.ENDPOINT_IFNAME)
    if wanted_name is not None:
        try:
            labels.parse_ifname(labels.ENDPOINT_IFNAME, wanted_name)
        except InvalidParameter as error:
            faults.append(str(error))
    return faults
