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
    Docker; only among endpoints that have a way out in that family.
    """
    ordered = sorted(
        endpoints,
        key=lambda item: (-item.request.gw_priority, names.get(item.network_id, ""), item.id),
    )
    v4 = v6 = None
    for endpoint in ordered:
        v4 = v4 or _way_out(endpoint, 4)
        v6 = v6 or _way_out(endpoint, 6)
    return v4, v6


def _way_out(endpoint: Endpoint, version: int) -> DefaultRoute | None:
    """By the gateway, or by the device itself where a static route says so."""
    join, name = endpoint.join, endpoint.interface_name
    if join is None:
        return None
    gateway = join.gateway if version == 4 else join.gateway_ipv6
    if gateway is not None:
        return DefaultRoute(name, gateway)
    for route in join.static_routes:
        if route.destination.version == version and route.destination.prefixlen == 0:
            return DefaultRoute(name, route.next_hop)
    return None
