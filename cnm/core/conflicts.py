"""Routes of the host that come to lie on a subnet of ours: told, with both names."""

from __future__ import annotations

import logging

from cnm.core import subnets
from cnm.core.events import Events
from cnm.core.registry import Registry
from cnm.core.state import State
from cnm.core.wires import WireGuard
from cnm.driverapi import DeviceOwner
from cnm.hostapi import HostRoute, HostRoutes
from cnm.types import Network

log = logging.getLogger(__name__)


class Conflicts:
    """Watches the host's routes (a VPN that comes up) against our networks."""

    def __init__(
        self,
        state: State,
        registry: Registry,
        wires: WireGuard,
        events: Events,
        host_routes: HostRoutes,
    ) -> None:
        self._state = state
        self._registry = registry
        self._wires = wires
        self._events = events
        self._host_routes = host_routes

    def present(self) -> list[tuple[Network, HostRoute]]:
        """All conflicts as of now."""
        own = self._own_devices()
        return [
            (network, route)
            for route in self._host_routes.routes()
            if route.device not in own
            for network in self._overlapping(route)
        ]

    def route_added(self, route: HostRoute) -> None:
        """Publish and log a conflict; to be called for each route that appears."""
        if route.device in self._own_devices():
            return
        for network in self._overlapping(route):
            log.warning("network %s: route %s now covers its subnet", network.name, route)
            self._events.publish(
                "network",
                "conflict",
                network.id,
                {"name": network.name, "type": network.driver, "route": str(route)},
            )

    def _overlapping(self, route: HostRoute) -> list[Network]:
        return [
            network
            for network in self._state.networks()
            for pool in network.ipv4 + network.ipv6
            if subnets.overlaps_route(pool.pool, route) and not self._is_wire(network, route)
        ]

    def _is_wire(self, network: Network, route: HostRoute) -> bool:
        """The host has an address on the LAN that its containers are on: as it should be."""
        wire = self._wires.wire(network)
        return wire is not None and wire.link == route.device

    def _own_devices(self) -> set[str]:
        own: set[str] = set()
        for _, driver in self._registry.drivers():
            if isinstance(driver, DeviceOwner):
                own.update(driver.devices())
        return own
