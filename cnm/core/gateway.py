"""Which endpoint of a sandbox gives the default route, for each family apart. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cnm.sandboxapi import DefaultRoute
from cnm.types import Endpoint, NetworkID


def choose(
    endpoints: Iterable[Endpoint], names: Mapping[NetworkID, str]
) -> tuple[DefaultRoute | None, DefaultRoute | None]:
    """The IPv4 and the IPv6 default route.

    Highest ``--gw-priority`` first, then the network's name in alphabetical order, as
    Docker; only among endpoints that have a gateway in that family.
    """
    ordered = sorted(
        endpoints,
        key=lambda item: (-item.request.gw_priority, names.get(item.network_id, ""), item.id),
    )
    v4 = v6 = None
    for endpoint in ordered:
        if endpoint.join is None:
            continue
        if v4 is None and endpoint.join.gateway is not None:
            v4 = DefaultRoute(endpoint.interface_name, endpoint.join.gateway)
        if v6 is None and endpoint.join.gateway_ipv6 is not None:
            v6 = DefaultRoute(endpoint.interface_name, endpoint.join.gateway_ipv6)
    return v4, v6
