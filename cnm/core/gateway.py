"""Which endpoint of a sandbox gives the default route, for each family apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cnm.core.state import State
from cnm.sandboxapi import DefaultRoute
from cnm.types import Endpoint, NetworkID, Phase, SandboxID

Gateways = tuple[Endpoint | None, Endpoint | None]
Routes = tuple[DefaultRoute | None, DefaultRoute | None]


def of_sandbox(state: State, sandbox_id: SandboxID, besides: Endpoint | None = None) -> Gateways:
    """Those of a sandbox as it is, with one more endpoint if given.

    An endpoint that is there already counts as it is given.
    """
    endpoints = [
        item
        for item in state.endpoints_of_sandbox(sandbox_id)
        if item.phase is Phase.ACTIVE and (besides is None or item.id != besides.id)
    ]
    if besides is not None:
        endpoints.append(besides)
    names: dict[NetworkID, str] = {}
    for endpoint in endpoints:
        network = state.network(endpoint.network_id)
        names[endpoint.network_id] = network.name if network else ""
    return choose(endpoints, names)


def choose(endpoints: Iterable[Endpoint], names: Mapping[NetworkID, str]) -> Gateways:
    """The endpoints of the IPv4 and of the IPv6 default route.

    Highest ``--gw-priority`` first, then the network's name in alphabetical order, as
    Docker; only among endpoints that have a way out in that family.
    """
    ordered = sorted(
        endpoints,
        key=lambda item: (-item.request.gw_priority, names.get(item.network_id, ""), item.id),
    )
    v4 = v6 = None
    for endpoint in ordered:
        v4 = v4 or (endpoint if _way_out(endpoint, 4) else None)
        v6 = v6 or (endpoint if _way_out(endpoint, 6) else None)
    return v4, v6


def routes(v4: Endpoint | None, v6: Endpoint | None) -> Routes:
    """The default routes that these give."""
    return (_way_out(v4, 4) if v4 else None, _way_out(v6, 6) if v6 else None)


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
