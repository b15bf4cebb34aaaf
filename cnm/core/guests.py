"""Networks and endpoints that engines have made with our drivers, through the plugin.

The same driver calls as for our own, with no sandbox: a link is left in the host's
namespace, and the engine moves it. Every call can come twice (an engine repeats one that
was cut off), none can be relied on to come at all (an engine that was killed forgets its
endpoints, and nobody makes its networks again after ours was): so intent is written before
the kernel is touched, repeats find their work done, unknown ids are success in what
removes, and what has no link any more is taken down by the sweep.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnm import labels
from cnm.core import subnets
from cnm.core.guestpools import FORGOTTEN_AFTER_S, GuestPools
from cnm.core.guestrecords import GuestRecords
from cnm.core.locks import Locks
from cnm.core.registry import Registry
from cnm.core.state import State
from cnm.driverapi import ExternalConnectivity, LinkWatcher, NetworkChecker, NetworkDriver
from cnm.errors import Conflict, Forbidden, NotFound, NotImplementedByDriver
from cnm.guestapi import GuestEndpoint, GuestNetwork
from cnm.repairapi import Repairable, RulesOwner
from cnm.types import (
    EndpointID,
    EndpointInterface,
    EndpointState,
    IpamConfig,
    JoinInfo,
    NetworkID,
    NetworkSpec,
    OwnedObject,
    Phase,
    PortBinding,
    Repair,
    SandboxID,
)
from cnm.undo import Teardown, Undo

log = logging.getLogger(__name__)

_CREATION = "networks of engines"  # the lock's name: they are made one after another


class Guests:
    """The network half of what engines ask, by the name of one of our drivers."""

    def __init__(
        self,
        records: GuestRecords,
        pools: GuestPools,
        state: State,
        registry: Registry,
        locks: Locks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records = records
        self.pools = pools
        self._state = state
        self._registry = registry
        self._locks = locks
        self._clock = clock
        self._missed: set[EndpointID] = set()  # without a link at the last sweep
        self._waiting: dict[EndpointID, float] = {}  # not joined, since when

    # networks

    def skip_gateway(self, driver_name: str, network: NetworkSpec) -> tuple[bool, bool]:
        """Whether to take no gateway address out of the pools (IPv4, IPv6)."""
        driver = self._registry.driver(driver_name)
        if not isinstance(driver, NetworkChecker):
            return False, False
        return driver.skip_gateway(network)

    def create_network(self, driver_name: str, network: NetworkSpec) -> None:
        """:raises InvalidParameter: :raises Forbidden: :raises Conflict: :raises KernelError:"""
        driver = self._registry.driver(driver_name)
        with (
            self._locks.name(_CREATION),
            self._locks.network(network.id, exclusive=True),
            Undo() as undo,
        ):
            record = GuestNetwork(network.id, driver_name, Phase.CREATING, network)
            if self._is_repeated(record):
                driver.create_network(network)
                return
            self._check_pools(network)
            if isinstance(driver, NetworkChecker):
                driver.check_network(network)
            self._records.write(put=[record])
            undo.push(self._forget, record)
            driver.create_network(network)
            undo.push(driver.delete_network, network.id)
            self._records.write(put=[replace(record, phase=Phase.ACTIVE)], durable=True)

    def _is_repeated(self, record: GuestNetwork) -> bool:
        known = self._records.network(record.id)
        if known is not None and known == replace(record, phase=Phase.ACTIVE):
            return True
        if known is not None or self._state.network(record.id) is not None:
            raise Conflict(f"network {record.id} exists already")
        return False

    def _check_pools(self, network: NetworkSpec) -> None:
        """An engine leaves it to the driver to refuse what would hurt this host."""
        guests = [item.spec for item in self._records.networks()]
        for pool in network.ipv4 + network.ipv6:
            if pool.pool.prefixlen:  # else the null IPAM's: it holds no addresses
                subnets.check_config([IpamConfig(pool.pool)])
                subnets.refuse_overlap(pool.pool, [*self._state.networks(), *guests])

    def _forget(self, record: GuestNetwork) -> None:
        self._records.write(remove=[record])

    def delete_network(self, driver_name: str, network_id: NetworkID) -> None:
        """Unknown is success. :raises TeardownError: the next sweep tries the rest again."""
        with self._locks.network(network_id, exclusive=True):
            network = self._records.network(network_id)
            if network is not None and network.driver == driver_name:
                self._take_down(network)

    def _take_down(self, network: GuestNetwork) -> None:
        """The caller holds the network's lock exclusively."""
        endpoints = self._records.endpoints_of(network.id)
        self._records.write(put=[replace(network, phase=Phase.DELETING)])
        driver = self._registry.driver(network.driver)
        teardown = Teardown(f"remove network {network.id[:12]}")
        for endpoint in endpoints:
            with teardown.step():
                _remove(driver, endpoint)
        with teardown.step():
            driver.delete_network(network.id)
        teardown.finish()
        self._records.write(remove=[network, *endpoints], durable=True)

    # endpoints

    @contextlib.contextmanager
    def _endpoint(self, network_id: NetworkID, endpoint_id: EndpointID) -> Iterator[None]:
        """Its locks: a repeated call waits for the first, others go on beside it."""
        with self._locks.sandbox(SandboxID(endpoint_id)), self._locks.network(network_id):
            yield

    def _known(self, driver_name: str, network_id: NetworkID) -> GuestNetwork:
        network = self._records.network(network_id)
        if network is None or network.driver != driver_name or network.phase is not Phase.ACTIVE:
            raise NotFound(f"network {network_id} not found")
        return network

    def _known_endpoint(self, network_id: NetworkID, endpoint_id: EndpointID) -> GuestEndpoint:
        endpoint = self._records.endpoint(endpoint_id)
        if endpoint is None or endpoint.network_id != network_id:
            raise NotFound(f"endpoint {endpoint_id} not found")
        return endpoint

    def create_endpoint(
        self,
        driver_name: str,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        interface: EndpointInterface,
        options: Mapping[str, str],
    ) -> EndpointInterface:
        """The interface complete. An endpoint that has the same address was forgotten: it goes."""
        driver = self._registry.driver(driver_name)
        self._known(driver_name, network_id)
        for stale in self._holders(network_id, endpoint_id, interface):
            log.warning("endpoint %s: removed: another has its address", stale.id[:12])
            self._reclaim(stale, always=True)
        with self._endpoint(network_id, endpoint_id), Undo() as undo:
            self._known(driver_name, network_id)
            known = self._records.endpoint(endpoint_id)
            if known is not None:
                known = self._known_endpoint(network_id, endpoint_id)
                return driver.create_endpoint(network_id, endpoint_id, known.interface, options)
            record = GuestEndpoint(endpoint_id, network_id, Phase.CREATING, interface, options)
            self._records.write(put=[record])
            undo.push(self._drop, record)
            complete = driver.create_endpoint(network_id, endpoint_id, interface, options)
            undo.push(driver.delete_endpoint, network_id, endpoint_id)
            self._records.write(put=[replace(record, phase=Phase.ACTIVE, interface=complete)])
            self._waiting[endpoint_id] = self._clock()
        return complete

    def _drop(self, record: GuestEndpoint) -> None:
        self._records.write(remove=[record])

    def _holders(
        self, network_id: NetworkID, endpoint_id: EndpointID, wanted: EndpointInterface
    ) -> list[GuestEndpoint]:
        return [
            item
            for item in self._records.endpoints_of(network_id)
            if item.id != endpoint_id
            and (
                _same(item.interface.address, wanted.address)
                or _same(item.interface.address_ipv6, wanted.address_ipv6)
            )
        ]

    def delete_endpoint(
        self, driver_name: str, network_id: NetworkID, endpoint_id: EndpointID
    ) -> None:
        """Unknown ids are success. :raises TeardownError: the sweep tries the rest again."""
        with self._endpoint(network_id, endpoint_id):
            endpoint = self._of(driver_name, network_id, endpoint_id)
            if endpoint is not None:
                self._delete(self._registry.driver(driver_name), endpoint)

    def _of(
        self, driver_name: str, network_id: NetworkID, endpoint_id: EndpointID
    ) -> GuestEndpoint | None:
        network, endpoint = self._records.network(network_id), self._records.endpoint(endpoint_id)
        if network is None or endpoint is None or network.driver != driver_name:
            return None
        return endpoint if endpoint.network_id == network_id else None

    def _delete(self, driver: NetworkDriver, endpoint: GuestEndpoint) -> None:
        """The caller holds its locks."""
        self._records.write(put=[replace(endpoint, phase=Phase.DELETING)])
        _remove(driver, endpoint)
        self._records.write(remove=[endpoint])
        self._waiting.pop(endpoint.id, None)
        self._missed.discard(endpoint.id)

    def oper_info(
        self, driver_name: str, network_id: NetworkID, endpoint_id: EndpointID
    ) -> Mapping[str, Any]:
        """The driver's; nothing for what is not known."""
        if self._of(driver_name, network_id, endpoint_id) is None:
            return {}
        return self._registry.driver(driver_name).endpoint_oper_info(network_id, endpoint_id)

    def join(self, driver_name: str, network_id: NetworkID, endpoint_id: EndpointID) -> JoinInfo:
        """Make the link, for the engine to move.

        ``interface_name`` of the answer is the first part of the name that it gets inside; where
        the engine must not look for a way out by itself, ``disable_gateway_service`` is set.
        """
        driver = self._registry.driver(driver_name)
        with self._endpoint(network_id, endpoint_id):
            network = self._known(driver_name, network_id)
            endpoint = self._known_endpoint(network_id, endpoint_id)
            prefix = network.spec.options.get(labels.CONTAINER_IFACE_PREFIX) or "eth"
            info = driver.join(network_id, endpoint_id, None, prefix, endpoint.options)
            self._records.write(put=[replace(endpoint, joined=True)])
            self._waiting.pop(endpoint_id, None)
            self._missed.discard(endpoint_id)  # a repeated call: the link is moved only now
        # else dockerd gives a container of an internal network a second way out
        closed = info.disable_gateway_service or network.spec.internal
        return replace(info, disable_gateway_service=closed)

    def leave(self, driver_name: str, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """The engine is about to take the link out; it goes when the endpoint does."""
        with self._endpoint(network_id, endpoint_id):
            endpoint = self._of(driver_name, network_id, endpoint_id)
            if endpoint is not None:
                self._records.write(put=[replace(endpoint, joined=False)])
                self._waiting[endpoint_id] = self._clock()

    # ports

    def program(
        self,
        driver_name: str,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        ports: Sequence[PortBinding],
    ) -> None:
        """Publish exactly these.

        :raises NotImplementedByDriver: the driver cannot publish ports.
        :raises Forbidden: :raises Conflict: a port is taken; all is as before.
        """
        driver = self._registry.driver(driver_name)
        if not isinstance(driver, ExternalConnectivity):
            if not ports:
                return  # engines say so of every container
            raise NotImplementedByDriver(f"driver {driver_name} publishes no ports")
        try:
            self._program(driver_name, driver, network_id, endpoint_id, ports)
        except (Forbidden, Conflict):
            if not self._free_ports_of_dead(driver_name, driver, endpoint_id):
                raise
            self._program(driver_name, driver, network_id, endpoint_id, ports)

    def _program(
        self,
        driver_name: str,
        driver: ExternalConnectivity,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        ports: Sequence[PortBinding],
    ) -> None:
        with self._endpoint(network_id, endpoint_id):
            self._known(driver_name, network_id)
            endpoint = self._known_endpoint(network_id, endpoint_id)
            real = driver.program_external_connectivity(network_id, endpoint_id, ports)
            self._records.write(put=[replace(endpoint, ports=tuple(real))])

    def _free_ports_of_dead(
        self, driver_name: str, driver: ExternalConnectivity, besides: EndpointID
    ) -> bool:
        """Take back what containers have that are dead, and that their engine forgot.

        Under the locks of each, so the caller holds none. Else a sweep would publish them again.
        """
        freed = False
        for item in self._records.endpoints():
            if not item.ports or item.id == besides:
                continue
            with self._endpoint(item.network_id, item.id):
                current = self._of(driver_name, item.network_id, item.id)
                if current is None or not current.ports or not self._is_dead(current):
                    continue
                log.warning("endpoint %s: its ports are free: its container is dead", item.id[:12])
                driver.revoke_external_connectivity(current.network_id, current.id)
                self._records.write(put=[replace(current, ports=())])
                freed = True
        return freed

    def revoke(self, driver_name: str, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """Unknown ids, and endpoints that never had ports, are success."""
        driver = self._registry.driver(driver_name)
        with self._endpoint(network_id, endpoint_id):
            endpoint = self._of(driver_name, network_id, endpoint_id)
            if endpoint is None or not isinstance(driver, ExternalConnectivity):
                return
            driver.revoke_external_connectivity(network_id, endpoint_id)
            self._records.write(put=[replace(endpoint, ports=())])

    # repair

    def accounts_for(self, item: OwnedObject) -> bool:
        """Whether a marked object belongs to an engine's network or endpoint."""
        if item.endpoint_id is not None:
            return self._records.endpoint(item.endpoint_id) is not None
        if item.network_id is not None:
            return self._records.network(item.network_id) is not None
        return bool(self._records.networks())

    def settle(self) -> list[Repair]:
        """At the start: undo what was half made, finish what was half removed."""
        repairs = []
        for endpoint in self._records.endpoints():
            network = self._records.network(endpoint.network_id)
            if network is None:
                self._drop(endpoint)
            elif endpoint.phase is not Phase.ACTIVE:
                self._reclaim(endpoint, always=True)
                repairs.append(_repair(endpoint, "a call that was cut off is undone or finished"))
        return repairs

    def forget_endpoints(self) -> list[Repair]:
        """The host was booted: no container of an engine lives, its links are gone."""
        found = self._records.endpoints()
        for endpoint in found:
            self._reclaim(endpoint, always=True, release=True)
        return [_repair(endpoint, "removed: the host was booted") for endpoint in found]

    def networks(self) -> list[GuestNetwork]:
        """All networks of engines, oldest first."""
        return self._records.networks()

    def endpoints(self, network_id: NetworkID) -> list[GuestEndpoint]:
        """Endpoints of one of them, oldest first."""
        return self._records.endpoints_of(network_id)

    def restore(self, network: GuestNetwork) -> list[Repair]:
        """Make the kernel hold a network and what its endpoints have on the host's side."""
        with self._locks.network(network.id, exclusive=True):
            current = self._records.network(network.id)
            if current is None:
                return []
            driver = self._registry.driver(current.driver)
            if current.phase is not Phase.ACTIVE:
                self._take_down(current)
                return [Repair("network", current.id[:12], "a call that was cut off is undone")]
            if not isinstance(driver, Repairable):
                return []
            states = [
                EndpointState(
                    *(endpoint.id, endpoint.interface, None, "", endpoint.options),
                    ports=endpoint.ports,
                    handed_over=True,
                )
                for endpoint in self._records.endpoints_of(network.id)
                if endpoint.phase is Phase.ACTIVE
            ]
            return list(driver.restore(current.spec, states))

    def restore_rules(self, network: GuestNetwork) -> list[Repair]:
        """Put its rules right after somebody else's change."""
        driver = self._registry.driver(network.driver)
        if not isinstance(driver, RulesOwner):
            return []
        with self._locks.network(network.id, exclusive=True):
            current = self._records.network(network.id)
            if current is None or current.phase is not Phase.ACTIVE:
                return []
            return list(driver.restore_rules(network.id))

    def sweep(self) -> list[Repair]:
        """Take down what an engine has forgotten: seen so at two sweeps, for it may be at it."""
        dead = {item.id for item in self._records.endpoints() if self._is_dead(item)}
        repairs = []
        for endpoint_id in dead & self._missed:
            endpoint = self._records.endpoint(endpoint_id)
            if endpoint is not None and self._reclaim(endpoint, release=True):
                repairs.append(_repair(endpoint, "removed: its engine forgot it"))
        self._missed = dead
        return repairs + self.pools.sweep()

    def _is_dead(self, endpoint: GuestEndpoint) -> bool:
        if endpoint.phase is not Phase.ACTIVE:
            return True
        if not endpoint.joined:
            since = self._waiting.setdefault(endpoint.id, self._clock())
            return self._clock() - since > FORGOTTEN_AFTER_S
        network = self._records.network(endpoint.network_id)
        driver = self._registry.driver(network.driver) if network is not None else None
        if not isinstance(driver, LinkWatcher):
            return False
        return not driver.in_use(endpoint.network_id, endpoint.id)

    def _reclaim(
        self, endpoint: GuestEndpoint, *, always: bool = False, release: bool = False
    ) -> bool:
        """Take an endpoint down that its engine will not. ``release``: its addresses, too."""
        with self._endpoint(endpoint.network_id, endpoint.id):
            current = self._records.endpoint(endpoint.id)
            network = self._records.network(endpoint.network_id)
            if current is None or network is None or not (always or self._is_dead(current)):
                return False
            self._delete(self._registry.driver(network.driver), current)
        if release:
            self.pools.release((current.interface.address, current.interface.address_ipv6))
        return True

    def remove_all(self) -> None:
        """For uninstall. :raises TeardownError: with all that failed."""
        teardown = Teardown("remove the networks of engines")
        for network in self._records.networks():
            with teardown.step(), self._locks.network(network.id, exclusive=True):
                self._take_down(network)
        teardown.finish()


def _remove(driver: NetworkDriver, endpoint: GuestEndpoint) -> None:
    """Ports, link, endpoint: each is tried. :raises TeardownError:"""
    teardown = Teardown(f"remove endpoint {endpoint.id[:12]}")
    if endpoint.ports and isinstance(driver, ExternalConnectivity):
        with teardown.step():
            driver.revoke_external_connectivity(endpoint.network_id, endpoint.id)
    with teardown.step():
        driver.leave(endpoint.network_id, endpoint.id)
    with teardown.step():
        driver.delete_endpoint(endpoint.network_id, endpoint.id)
    teardown.finish()


def _same(one: object, other: object) -> bool:
    return one is not None and one == other


def _repair(endpoint: GuestEndpoint, action: str) -> Repair:
    return Repair("endpoint", f"{endpoint.id[:12]} of an engine", action)
