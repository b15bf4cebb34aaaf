"""Which endpoint of a sandbox gives the default route, for each family apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cnm.core.state import State
from cnm.sandboxapi import DefaultRoute
from cnm.types import Endpoint, NetworkID, Phase, SandboxID

Gateways = tuple[Endpoint | None, Endpoint | None]
Routes = tuple[DefaultRoute | None, DefaultRoute | None]


def of_sandbox(state: State, sandbox_id: SandboxID, besides: Endpoint | None = None) -> Gateways:
    """Those of a sandbox as it is, with one more endpoint if given."""
    endpoints = [
        item for item in state.endpoints_of_sandbox(sandbox_id) if item.phase is Phase.ACTIVE
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
            v4 = endpoint
        if v6 is None and endpoint.join.gateway_ipv6 is not None:
            v6 = endpoint
    return v4, v6


def routes(v4: Endpoint | None, v6: Endpoint | None) -> Routes:
    """The default routes that these give."""
    return (
        DefaultRoute(v4.interface_name, v4.join.gateway)
        if v4 and v4.join and v4.join.gateway
        else None,
        DefaultRoute(v6.interface_name, v6.join.gateway_ipv6)
        if v6 and v6.join and v6.join.gateway_ipv6
        else None,
    )
