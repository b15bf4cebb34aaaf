"""Texts of subnets and addresses, checked and made into values, with Docker's words.

What contradicts itself is refused here; what contradicts other networks (overlaps,
leases) is for the core and IPAM to say.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from cnm.engine.wire import EndpointBody, NetworkCreateBody, PoolBody
from cnm.errors import InvalidParameter
from cnm.types import EndpointRequest, IPAddress, IpamConfig, IPNetwork, NetworkRequest

A = TypeVar("A", IPv4Address, IPv6Address)

_PREFIX = re.compile(r"[0-9a-fA-F:.]+/(0|[1-9][0-9]{0,2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # and halves of characters
_INT_MAX = (1 << 63) - 1  # what Go's int holds
_MAC = re.compile(r"([0-9a-fA-F]{2})((:[0-9a-fA-F]{2}){5}|(-[0-9a-fA-F]{2}){5})")


def network_request(body: NetworkCreateBody, *, ipv4_can_be_off: bool) -> NetworkRequest:
    """What a create request asks for. Below API 1.48 ``EnableIPv4`` does not exist.

    :raises InvalidParameter: naming every subnet and address that is wrong.
    """
    faults: list[str] = []
    pools = [_pool(item, faults) for item in body.ipam.config]
    _printable("driver option", [*body.options, *body.options.values()], faults)
    _refuse("invalid network config", faults)
    return NetworkRequest(
        name=body.name,
        driver=body.driver,
        scope=body.scope,
        enable_ipv4=body.enable_ipv4 if ipv4_can_be_off else None,
        enable_ipv6=body.enable_ipv6,
        internal=body.internal,
        attachable=body.attachable,
        ingress=body.ingress,
        config_only=body.config_only,
        config_from=body.config_from.network,
        options=body.options,
        labels=body.labels,
        ipam_driver=body.ipam.driver or "default",
        ipam_options=body.ipam.options,
        ipam_config=tuple(pool for pool in pools if pool is not None),
    )


def endpoint_request(body: EndpointBody, *, mac_counts: bool) -> EndpointRequest:
    """What a connect request asks for. Below API 1.54 a MAC address in it has no effect.

    :raises InvalidParameter: naming every address that is wrong.
    """
    faults: list[str] = []
    wanted = body.ipam_config
    request = EndpointRequest(
        ipv4=_of_family(IPv4Address, "IPv4", wanted.ipv4_address, faults),
        ipv6=_of_family(IPv6Address, "IPv6", wanted.ipv6_address, faults),
        link_local=tuple(_link_local(wanted.link_local_ips, faults)),
        mac=_mac(body.mac_address, faults) if mac_counts else None,
        aliases=tuple(body.aliases),
        links=tuple(body.links),
        driver_opts=body.driver_opts,
        gw_priority=body.gw_priority,
    )
    _printable("alias", body.aliases, faults)
    _printable("link", body.links, faults)
    _printable("driver option", [*body.driver_opts, *body.driver_opts.values()], faults)
    if abs(body.gw_priority) > _INT_MAX:
        faults.append("invalid gateway priority: out of range")
    _refuse("invalid endpoint settings", faults)
    return request


def _pool(body: PoolBody, faults: list[str]) -> IpamConfig | None:
    """One entry of ``IPAM.Config``; an entry that says nothing is none."""
    if not (body.subnet or body.ip_range or body.gateway or body.aux_addresses):
        return None
    subnet = _network("subnet", body.subnet, faults)
    if subnet is None:
        return None
    ip_range = _range(body.ip_range, subnet, faults) if body.ip_range else None
    gateway = _inside(body.gateway, subnet, f"gateway {body.gateway}", faults)
    named = {
        name: _inside(text, subnet, f"auxiliary address {name}", faults)
        for name, text in body.aux_addresses.items()
    }
    found = {name: address for name, address in named.items() if address is not None}
    return IpamConfig(subnet, ip_range, gateway, found)


def _network(what: str, text: str, faults: list[str]) -> IPNetwork | None:
    try:
        if not _PREFIX.fullmatch(text):
            raise ValueError(text)
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        faults.append(f"invalid {what} {text}: invalid CIDR block notation")
        return None
    if network.network_address != ipaddress.ip_address(text.partition("/")[0]):
        faults.append(f"invalid {what} {text}: it should be {network}")
    return network


def _range(text: str, subnet: IPNetwork, faults: list[str]) -> IPNetwork | None:
    network = _network("ip-range", text, faults)
    if network is None:
        return None
    if network.version != subnet.version:
        faults.append(f"invalid ip-range {text}: parent subnet is an IPv{subnet.version} block")
        return None
    if network.prefixlen < subnet.prefixlen:
        faults.append(
            f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"
        )
    if not network.overlaps(subnet):
        faults.append(f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range")
    return network


def _inside(text: str, subnet: IPNetwork, what: str, faults: list[str]) -> IPAddress | None:
    if not text:
        return None
    address = _address(text)
    if address is None:
        faults.append(f"invalid {what}: invalid address")
    elif address.version != subnet.version:
        faults.append(f"invalid {what}: parent subnet is an IPv{subnet.version} block")
    elif address not in subnet:
        faults.append(f"invalid {what}: parent subnet {subnet} doesn't contain this address")
    return address


def _of_family(family: type[A], name: str, text: str, faults: list[str]) -> A | None:
    if not text:
        return None
    address = _address(text)
    if isinstance(address, family) and not address.is_unspecified:
        return address
    faults.append(f"invalid {name} address: {text}")
    return None


def _link_local(texts: Iterable[str], faults: list[str]) -> Iterable[IPAddress]:
    for text in texts:
        address = _address(text)
        if address is None or not address.is_link_local:
            faults.append(f"invalid link-local IP address: {text}")
        else:
            yield address


def _mac(text: str, faults: list[str]) -> str | None:
    if not text:
        return None
    if not _MAC.fullmatch(text):
        faults.append(f"invalid MAC address: {text}")
    return text.lower().replace("-", ":")


def unusable(text: str) -> bool:
    """Whether the text has what no name, path or option can have: control characters, NUL."""
    return _CONTROL.search(text) is not None


def _printable(what: str, texts: Iterable[str], faults: list[str]) -> None:
    if any(unusable(text) for text in texts):
        faults.append(f"invalid {what}: it has control characters")


def _address(text: str) -> IPAddress | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # a zone (fe80::1%eth0) means nothing inside a sandbox
    return None if isinstance(address, IPv6Address) and address.scope_id else address


def _refuse(what: str, faults: list[str]) -> None:
    """Docker's way to tell several errors: each on a line of its own, marked ``*``."""
    if len(faults) == 1:
        raise InvalidParameter(f"{what}:\n{faults[0]}")
    if faults:
        raise InvalidParameter(f"{what}:\n" + "\n".join(f"* {fault}" for fault in faults))
