"""The wires that networks lie on: who has an address there, before it is used and afterwards."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from cnm import labels
from cnm.core.events import Events
from cnm.core.registry import Registry
from cnm.core.state import State
from cnm.driverapi import OnWire, Wire
from cnm.hostapi import WireProbe
from cnm.types import Endpoint, EndpointInterface, IPAddress, Network, NetworkID, Phase

log = logging.getLogger(__name__)

SHOWN_S = 3600.0  # `net doctor` shows the conflicts of the last hour


class WireGuard:
    """Asks the host's probe; tells what it hears. Networks on no wire cost a look at a class."""

    def __init__(self, state: State, registry: Registry, probe: WireProbe, events: Events) -> None:
        self._state = state
        self._registry = registry
        self._probe = probe
        self._events = events
        self._heard: dict[tuple[NetworkID, IPAddress, str], float] = {}  # and when, monotonic
        probe.watch(self._taken)

    def wire(self, network: Network) -> Wire | None:
        """Where a network meets others."""
        if network.config_only:
            return None
        driver = self._registry.driver(network.driver)
        return driver.wire(network.spec()) if isinstance(driver, OnWire) else None

    def network(self, network_id: NetworkID) -> Network | None:
        """The record as it is now."""
        return self._state.network(network_id)

    def holders(self, network: Network, interface: EndpointInterface) -> Mapping[IPAddress, str]:
        """Addresses of an interface-to-be that somebody on the wire has, with his MAC.

        :raises KernelError: the wire cannot be asked.
        """
        wire = self._probed(network)
        addresses = _addresses(interface)
        return self._probe.holders(wire.link, addresses) if wire and addresses else {}

    def _probed(self, network: Network) -> Wire | None:
        if not labels.parse_bool(
            labels.CONFLICT_PROBE, network.options.get(labels.CONFLICT_PROBE, "true")
        ):
            return None
        return self.wire(network)

    def changed(self, network: Network) -> None:
        """Endpoints of a network have come, gone, or got another address."""
        if self._probed(network) is not None:
            self._probe.guard(self._guarded)

    def refresh(self) -> None:
        """Guard what there is: at the start, and when links may have come back."""
        self._probe.guard(self._guarded)

    def conflicts(self) -> list[tuple[Network, IPAddress, str]]:
        """Addresses in use that others were heard to use too, with their MAC, lately."""
        found = []
        for network_id, address, mac in self._lately():
            network = self._state.network(network_id)
            held = self._state.endpoints_of_network(network_id)
            if network is not None and any(address in _addresses(item.interface) for item in held):
                found.append((network, address, mac))
        return found

    def _lately(self) -> dict[tuple[NetworkID, IPAddress, str], float]:
        now, heard = time.monotonic(), tuple(self._heard.items())
        return {key: then for key, then in heard if now - then < SHOWN_S}

    def _guarded(self) -> dict[str, dict[IPAddress, str]]:
        wires: dict[str, dict[IPAddress, str]] = {}
        for network in self._state.networks():
            if network.phase is not Phase.ACTIVE or not (wire := self._probed(network)):
                continue
            held = wires.setdefault(wire.link, {})
            for endpoint in self._state.endpoints_of_network(network.id):
                if endpoint.phase is Phase.ACTIVE:
                    mac = endpoint.interface.mac or ""
                    held.update(dict.fromkeys(_addresses(endpoint.interface), mac))
        return wires

    def _taken(self, link: str, address: IPAddress, mac: str) -> None:
        for network in self._state.networks():
            wire = self._probed(network)
            if wire is None or wire.link != link:
                continue
            for endpoint in self._state.endpoints_of_network(network.id):
                if endpoint.phase is Phase.ACTIVE and address in _addresses(endpoint.interface):
                    self._tell(network, endpoint, link, address, mac)

    def _tell(
        self, network: Network, endpoint: Endpoint, link: str, address: IPAddress, mac: str
    ) -> None:
        self._heard = {**self._lately(), (network.id, address, mac): time.monotonic()}
        record = self._state.sandbox(endpoint.sandbox_id)
        log.warning(
            "network %s: address %s of container %s is in use by %s on %s too",
            network.name,
            address,
            record.name if record else endpoint.sandbox_id[:12],
            mac,
            link,
        )
        self._events.publish(
            "network",
            "conflict",
            network.id,
            {
                "name": network.name,
                "type": network.driver,
                "container": endpoint.sandbox_id,
                "address": str(address),
                "mac": mac,
                "link": link,
            },
        )


def _addresses(interface: EndpointInterface) -> list[IPAddress]:
    found = (interface.address, interface.address_ipv6)
    return [item.ip for item in found if item is not None]
