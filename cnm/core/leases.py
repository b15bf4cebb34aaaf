"""Leases from servers outside, in the course of time: what has changed reaches the container."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Interface

from cnm.core import claims
from cnm.core.connect import Connections
from cnm.core.events import Events
from cnm.core.locks import Locks
from cnm.core.naming import Naming
from cnm.core.registry import Registry
from cnm.core.state import State
from cnm.core.wires import WireGuard
from cnm.errors import SandboxGone
from cnm.ipamapi import LeaseChange, Leasing
from cnm.sandboxapi import PlacedInterface, SandboxProvider
from cnm.types import (
    Endpoint,
    EndpointID,
    IPAddress,
    Network,
    NetworkID,
    Phase,
    PoolID,
    SandboxID,
    SandboxRecord,
    SandboxStatus,
)

log = logging.getLogger(__name__)


class LeaseKeeper:
    """Listens to the IPAM drivers that lease; one for a core."""

    def __init__(
        self,
        state: State,
        registry: Registry,
        locks: Locks,
        connections: Connections,
        events: Events,
        provider: SandboxProvider,
        naming: Naming,
        wires: WireGuard,
        look_after: Callable[[NetworkID], object],
        tell_container: Callable[[SandboxID], object],
    ) -> None:
        """``look_after``: puts a network's side on the host right, by its records.
        ``tell_container``: writes what a container finds of its addresses in /etc."""
        self._state = state
        self._registry = registry
        self._locks = locks
        self._connections = connections
        self._events = events
        self._provider = provider
        self._naming = naming
        self._wires = wires
        self._look_after = look_after
        self._tell_container = tell_container

    def begin(self) -> None:
        """Renew leases from now on, those of an earlier daemon too."""
        for name, ipam in self._registry.ipam_drivers():
            if isinstance(ipam, Leasing):
                ipam.begin(partial(self._changed, name))

    def close(self) -> None:
        """The daemon stops; leases stay."""
        for _, ipam in self._registry.ipam_drivers():
            if isinstance(ipam, Leasing):
                ipam.close()

    def _changed(self, ipam_driver: str, change: LeaseChange) -> None:
        found = self._holder(ipam_driver, change.pool_id, change.address)
        if found is None:
            self._finish(ipam_driver, change)
            return
        if change.becomes is None:
            self._tell_expired(found, change)
            return
        with (
            self._locks.sandbox(found.sandbox_id),
            self._locks.networks(self._connections.concerned(found.sandbox_id, found.network_id)),
        ):
            self._change(found.id, change)
        self._look_after(found.network_id)  # what the driver made for the old address

    def _finish(self, ipam_driver: str, change: LeaseChange) -> None:
        """Who is on its way in or out has the lease as it is. Who has the new address had it
        when an earlier daemon was killed, perhaps just before it told the container."""
        if change.becomes is None:
            return
        found = self._holder(ipam_driver, change.pool_id, change.becomes.ip)
        if found is not None:
            with self._locks.sandbox(found.sandbox_id):
                self._tell_container(found.sandbox_id)

    def _holder(self, ipam_driver: str, pool_id: PoolID, address: IPAddress) -> Endpoint | None:
        for network in self._state.networks():
            if network.ipam_driver != ipam_driver:
                continue
            if any(pool.pool_id == pool_id for pool in network.ipv4):
                for endpoint in self._state.endpoints_of_network(network.id):
                    if _has(endpoint, address):
                        return endpoint
        return None

    def _change(self, endpoint_id: EndpointID, change: LeaseChange) -> None:
        """Inside first, then the record: cut off between, it is told and done again."""
        endpoint = self._state.endpoint(endpoint_id)
        network = self._state.network(endpoint.network_id) if endpoint else None
        record = self._state.sandbox(endpoint.sandbox_id) if endpoint else None
        if (
            endpoint is None
            or network is None
            or record is None
            or not _has(endpoint, change.address)
        ):
            return
        assert isinstance(change.becomes, IPv4Interface)
        interface = replace(endpoint.interface, address=change.becomes)
        fresh = replace(endpoint, interface=interface)
        if endpoint.join is not None and change.leased_from is not None:
            plain = claims.without_routes(network, endpoint.join, change.was)
            join = claims.with_routes(network, plain, change.leased_from)
            fresh = replace(fresh, join=join)
        running = record.status is SandboxStatus.RUNNING and endpoint.phase is Phase.ACTIVE
        if running:
            self._readdress(record, endpoint, fresh)
        self._state.write(put=[fresh])
        if running:
            self._naming.readdressed(network, record, fresh)
            self._wires.changed(network)
            self._connections.move_ports(record)  # where a gateway comes or goes
            self._tell_container(record.id)
        self._tell_changed(network, endpoint, change)

    def _readdress(self, record: SandboxRecord, before: Endpoint, after: Endpoint) -> None:
        if after.join is None or before.join is None or before.interface.address is None:
            return
        routes = self._connections.routes(record.id, after)
        try:
            with self._provider.open(record) as sandbox:
                if before.interface.address != after.interface.address:
                    # first: a second address of one subnet would go with it (promote_secondaries)
                    sandbox.remove_address(after.interface_name, before.interface.address)
                gone = set(before.join.static_routes) - set(after.join.static_routes)
                sandbox.remove_routes(after.interface_name, gone)
                sandbox.repair([PlacedInterface(after.join, after.interface)], *routes)
        except SandboxGone:
            log.debug("sandbox %s is gone: only its record changes", record.name)

    def _tell_changed(self, network: Network, before: Endpoint, change: LeaseChange) -> None:
        log.warning(
            "network %s: the DHCP server gives container %s %s in the place of %s",
            network.name,
            self._name(before),
            change.becomes,
            before.interface.address,
        )
        self._tell("lease_changed", network, before, {"address": str(change.becomes)})

    def _tell_expired(self, endpoint: Endpoint, change: LeaseChange) -> None:
        network = self._state.network(endpoint.network_id)
        if network is None:
            return
        log.error(
            "network %s: the lease of %s, container %s, has ended and no DHCP server answers: "
            "the address is kept and asked for again and again",
            network.name,
            change.address,
            self._name(endpoint),
        )
        self._tell("lease_expired", network, endpoint, {})

    def _name(self, endpoint: Endpoint) -> str:
        record = self._state.sandbox(endpoint.sandbox_id)
        return record.name if record else endpoint.sandbox_id[:12]

    def _tell(
        self, action: str, network: Network, endpoint: Endpoint, more: Mapping[str, str]
    ) -> None:
        attributes = {
            "name": network.name,
            "type": network.driver,
            "container": endpoint.sandbox_id,
            "was": str(endpoint.interface.address),
        }
        self._events.publish("network", action, network.id, {**attributes, **more})


def _has(endpoint: Endpoint, address: IPAddress) -> bool:
    held = endpoint.interface.address
    settled = endpoint.phase in (Phase.ACTIVE, Phase.RESERVED)
    return settled and held is not None and held.ip == address
