"""Store against kernel: what start-up and the sweep repair, both ways.

What the store says and the kernel lacks is made again; what carries our mark and the
store does not know goes. Intent is always written before the kernel is touched and
dropped after, so a marked object without any record is an orphan at every moment,
with no need of a lock to say so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from cnm.core.connect import Connections
from cnm.core.controller import Networks
from cnm.core.guests import Guests
from cnm.core.locks import Locks
from cnm.core.namerepair import NamingRepair
from cnm.core.recovery import Recovery
from cnm.core.registry import Registry
from cnm.core.sandboxes import Sandboxes
from cnm.core.state import State
from cnm.core.wires import WireGuard
from cnm.errors import CNMError, Conflict, SandboxGone
from cnm.hostapi import SysctlLedger
from cnm.ipamapi import LeaseAudit, PoolRequest
from cnm.repairapi import Repairable, RulesOwner
from cnm.sandboxapi import PlacedInterface, SandboxProvider
from cnm.types import (
    Endpoint,
    EndpointState,
    IPAddress,
    IpamPool,
    Network,
    NetworkID,
    OwnedObject,
    Phase,
    PoolID,
    Repair,
    SandboxID,
    SandboxRecord,
    SandboxStatus,
)

log = logging.getLogger(__name__)

_HALF_WAY = (Phase.CREATING, Phase.DELETING)
FAILURE = "failure"  # kind of a repair that was tried in vain
HOST_IDENTITY = "host_identity"  # the store's word for the boot that it last saw


class Reconciler:
    """Start-up repair and sweep. Each repair is logged and returned."""

    def __init__(
        self,
        state: State,
        registry: Registry,
        locks: Locks,
        networks: Networks,
        connections: Connections,
        sandboxes: Sandboxes,
        provider: SandboxProvider,
        ledger: SysctlLedger,
        recovery: Recovery,
        wires: WireGuard,
        names: NamingRepair,
        guests: Guests,
    ) -> None:
        self._state = state
        self._registry = registry
        self._locks = locks
        self._networks = networks
        self._connections = connections
        self._sandboxes = sandboxes
        self._provider = provider
        self._ledger = ledger
        self._recovery = recovery
        self._wires = wires
        self._names = names
        self._guests = guests
        self._repairs: list[Repair] = []

    def start(self, *, strangers_too: bool = False) -> list[Repair]:
        """Once, before anybody is served: finish or undo what a killed daemon left half-way.

        ``strangers_too``: objects of ours that another database made are orphans, to be removed.

        :raises Conflict: the database is new, and the kernel has networks of another one.
        """
        repairs: list[Repair] = []
        seen, now = self._state.store.meta(HOST_IDENTITY), self._provider.host_identity()
        if seen is None and not strangers_too:
            self._refuse_strangers()
        if seen not in (None, now):
            repairs += self._forget_last_boot()
        if seen != now:
            self._state.store.set_meta(HOST_IDENTITY, now)
        # before endpoints are looked at: those of a container that does not run are wishes
        repairs += self._guarded("containers", self._recovery.start)
        repairs += self._settle()
        repairs += self._guarded("networks of engines", self._guests.settle)
        repairs += self._round()
        repairs += self._guarded("leases", self._audit_leases)
        return self._told(repairs)

    def sweep(self) -> list[Repair]:
        """The same comparison beside running work, under the locks of each part."""
        repairs = self._guarded("containers", self._recovery.sweep)
        repairs += self._guarded("networks of engines", self._guests.sweep)
        return self._told(repairs + self._round())

    def rules_changed(self) -> list[Repair]:
        """Somebody else has changed the host's packet filter: look after our rules, now."""
        repairs: list[Repair] = []
        for network in self._state.networks():
            driver = None if network.config_only else self._registry.driver(network.driver)
            if isinstance(driver, RulesOwner):
                what = f"rules of network {network.name}"
                repairs += self._guarded(what, self._restore_rules, driver, network.id)
        for guest in self._guests.networks():
            what = f"rules of network {guest.id[:12]}"
            repairs += self._guarded(what, self._guests.restore_rules, guest)
        return self._told(repairs)

    def network_changed(self, network_id: NetworkID) -> list[Repair]:
        """A driver says that something of a network has changed: look after it, now."""
        for guest in self._guests.networks():
            if guest.id == network_id:
                what = f"network {guest.id[:12]}"
                return self._told(self._guarded(what, self._guests.restore, guest))
        network = self._state.network(network_id)
        if network is None:
            return []
        what = f"network {network.name}"
        repairs = self._guarded(what, self._restore_network, network)
        for endpoint in self._state.endpoints_of_network(network_id):
            record = self._state.sandbox(endpoint.sandbox_id)
            if record is not None and record.status is SandboxStatus.RUNNING:
                what = f"container {record.name}"
                repairs += self._guarded(what, self._restore_sandbox, record)
        repairs += self._guarded("address conflicts", self._guard)
        return self._told(repairs)

    def _restore_rules(self, driver: RulesOwner, network_id: NetworkID) -> list[Repair]:
        with self._locks.network(network_id, exclusive=True):
            current = self._state.network(network_id)
            if current is None or current.phase is not Phase.ACTIVE:
                return []
            return list(driver.restore_rules(network_id))

    @property
    def repairs(self) -> Sequence[Repair]:
        """The latest repairs, for ``net doctor``."""
        return tuple(self._repairs[-100:])

    def _told(self, repairs: list[Repair]) -> list[Repair]:
        for repair in repairs:
            if repair.kind == FAILURE:
                log.error("cannot repair %s: %s", repair.name, repair.action)
            else:
                log.warning("repaired %s", repair)
        self._repairs = (self._repairs + repairs)[-100:]
        return repairs

    def _guarded(self, what: str, step: Callable[..., list[Repair]], *args: object) -> list[Repair]:
        """One part that cannot be repaired must not keep the others from it."""
        try:
            return step(*args)
        except (CNMError, ExceptionGroup, OSError, RuntimeError) as error:
            return [Repair(FAILURE, what, str(error))]

    # boot

    def _refuse_strangers(self) -> None:
        """A lost or mistyped root must not make live networks orphans."""
        for _, driver in self._registry.drivers():
            if not isinstance(driver, Repairable):
                continue
            strangers = sorted(
                item.name for item in driver.owned() if not self._accounted_for(item)
            )
            if strangers:
                raise Conflict(
                    f"the database is new, but this host has networks of another one "
                    f"({', '.join(strangers[:3])}): start with the --root that they belong to, or "
                    "remove them with `cnm uninstall`"
                )

    def _forget_last_boot(self) -> list[Repair]:
        """After a reboot of the host no namespace, link or sysctl of ours is left."""
        log.info("the host was booted since the last start: networks are made anew")
        for name in self._ledger.remembered():
            self._ledger.forget(name)
        repairs: list[Repair] = []
        for record in self._state.sandboxes():
            if record.status is SandboxStatus.RUNNING and record.adopted:
                repairs += self._guarded(f"container {record.name}", self._exit, record)
        return repairs + self._guarded("networks of engines", self._guests.forget_endpoints)

    def _exit(self, record: SandboxRecord) -> list[Repair]:
        if not self._sandboxes.mark_exited(record):
            return []
        return [Repair("container", record.name, "its namespace is gone: marked as exited")]

    # what was half-way

    def _settle(self) -> list[Repair]:
        repairs = self._settle_endpoints()
        for network in self._state.networks():
            repairs += self._guarded(f"network {network.name}", self._settle_network, network)
        return repairs

    def _settle_endpoints(self) -> list[Repair]:
        repairs: list[Repair] = []
        for endpoint in self._state.endpoints():
            if endpoint.phase in _HALF_WAY or self._state.network(endpoint.network_id) is None:
                what = f"endpoint {endpoint.id[:12]}"
                repairs += self._guarded(what, self._settle_endpoint, endpoint)
        return repairs

    def _settle_network(self, network: Network) -> list[Repair]:
        if network.phase is Phase.ACTIVE:
            return []
        self._networks.take_down(network)
        undone = network.phase is Phase.CREATING
        return [
            Repair("network", network.name, "creation undone" if undone else "removal finished")
        ]

    def _settle_endpoint(self, endpoint: Endpoint) -> list[Repair]:
        """Undo a half-made connect, finish a half-made disconnect.

        Under its locks nothing is under way: what is half-way then was left so.
        """
        sandbox_id, network_id = endpoint.sandbox_id, endpoint.network_id
        with (
            self._locks.sandbox(sandbox_id),
            self._locks.networks(self._connections.concerned(sandbox_id, network_id)),
        ):
            current = self._state.endpoint(endpoint.id)
            if current is None:
                return []
            network = self._state.network(current.network_id)
            record = self._state.sandbox(current.sandbox_id)
            if network is None or record is None:
                self._state.write(remove=[current])
                action = "removed: its network or container is gone"
                return [Repair("endpoint", current.id[:12], action)]
            if current.phase not in _HALF_WAY:
                return []
            return [self._undo_or_finish(network, record, current)]

    def _undo_or_finish(
        self, network: Network, record: SandboxRecord, endpoint: Endpoint
    ) -> Repair:
        action = "disconnect finished"
        if endpoint.phase is Phase.CREATING:
            action = "connect undone"
        if endpoint.revived:
            self._connections.park(network, record, endpoint)
        else:
            self._connections.detach(network, record, endpoint)
        return Repair("endpoint", f"{record.name} on {network.name}", action)

    # one round over everything

    def _round(self) -> list[Repair]:
        repairs: list[Repair] = []
        for record in self._state.sandboxes():
            if record.status is SandboxStatus.RUNNING and record.adopted:
                repairs += self._guarded(f"container {record.name}", self._notice_exit, record)
        repairs += self._settle_endpoints()
        for network in self._state.networks():
            if not network.config_only:
                repairs += self._guarded(f"network {network.name}", self._restore_network, network)
        for guest in self._guests.networks():
            repairs += self._guarded(f"network {guest.id[:12]}", self._guests.restore, guest)
        for name, driver in self._registry.drivers():
            if isinstance(driver, Repairable):
                repairs += self._guarded(f"driver {name}", self._remove_orphans, driver)
        for record in self._state.sandboxes():
            if record.status is SandboxStatus.RUNNING:
                repairs += self._guarded(f"container {record.name}", self._restore_sandbox, record)
        repairs += self._guarded("address conflicts", self._guard)
        return repairs + self._guarded("resolver", self._names.strangers)

    def _guard(self) -> list[Repair]:
        self._wires.refresh()  # links that were gone may be back
        return []

    def tell(self, repair: Repair) -> None:
        """Somebody has put something right by himself."""
        self._told([repair])

    def notice(self, sandbox_id: SandboxID) -> None:
        """Somebody says that an adopted namespace is gone: look, and mark it as exited."""
        record = self._state.sandbox(sandbox_id)
        if record is not None and record.status is SandboxStatus.RUNNING and record.adopted:
            self._told(self._guarded(f"container {record.name}", self._notice_exit, record))

    def _notice_exit(self, record: SandboxRecord) -> list[Repair]:
        try:
            with self._provider.open(record):
                return []
        except SandboxGone:
            return self._exit(record)

    def _restore_network(self, network: Network) -> list[Repair]:
        with self._locks.network(network.id, exclusive=True):
            current = self._state.network(network.id)
            if current is None:
                return []
            repairs = self._settle_network(current)
            driver = self._registry.driver(network.driver)
            if current.phase is Phase.ACTIVE and isinstance(driver, Repairable):
                repairs += driver.restore(current.spec(), self._endpoint_states(current))
            if current.phase is Phase.ACTIVE:
                repairs += self._names.network(current)
            return repairs

    def _endpoint_states(self, network: Network) -> list[EndpointState]:
        states = []
        for endpoint in self._state.endpoints_of_network(network.id):
            record = self._state.sandbox(endpoint.sandbox_id)
            if endpoint.phase is not Phase.ACTIVE or record is None:
                continue
            running = record.status is SandboxStatus.RUNNING
            states.append(
                EndpointState(
                    endpoint.id,
                    endpoint.interface,
                    record.key if running else None,
                    endpoint.interface_name,
                    endpoint.request.driver_opts,
                    endpoint.ports,
                )
            )
        return states

    def _remove_orphans(self, driver: Repairable) -> list[Repair]:
        suspects = [item for item in driver.owned() if not self._accounted_for(item)]
        if not suspects:
            return []
        # what was just being removed in its own time is gone by the second look
        there = set(driver.owned())
        repairs = []
        for item in suspects:
            if item in there and not self._accounted_for(item):
                driver.remove_orphan(item)
                action = "removed: nothing in the store owns it"
                repairs.append(Repair(item.kind, item.name, action))
        return repairs

    def _accounted_for(self, item: OwnedObject) -> bool:
        if self._guests.accounts_for(item):
            return True
        if item.endpoint_id is not None:
            endpoint = self._state.endpoint(item.endpoint_id)
            return endpoint is not None and endpoint.phase is not Phase.RESERVED
        if item.network_id is not None:
            return self._state.network(item.network_id) is not None
        return any(not network.config_only for network in self._state.networks())

    def _restore_sandbox(self, record: SandboxRecord) -> list[Repair]:
        with self._locks.sandbox(record.id):
            current = self._state.sandbox(record.id)
            if current is None or current.status is SandboxStatus.EXITED:
                return []
            try:
                repairs = self._revive(current) if current.adopted else []
                placed = [
                    PlacedInterface(endpoint.join, endpoint.interface)
                    for endpoint in self._state.endpoints_of_sandbox(record.id)
                    if endpoint.phase is Phase.ACTIVE and endpoint.join is not None
                ]
                with self._provider.open(current) as sandbox:
                    found = sandbox.repair(placed, *self._connections.routes(record.id))
                    repairs += self._names.sandbox(current, sandbox)
                repairs += self._restore_ports(current)
            except SandboxGone:
                return []  # it went just now: the next round notices
            named = [replace(item, name=f"{item.name} in {record.name}") for item in found]
            return repairs + named

    def _restore_ports(self, record: SandboxRecord) -> list[Repair]:
        """Ports that could not be published where they should be; their drivers keep the rest."""
        with self._locks.networks(self._connections.concerned(record.id)):
            try:
                changed = self._connections.settle_ports(record)
            except CNMError as error:
                return [Repair(FAILURE, f"ports of {record.name}", str(error))]
        return [Repair("ports", record.name, "published again")] if changed else []

    def _revive(self, record: SandboxRecord) -> list[Repair]:
        """Finish an adoption that was cut off: its networks are wishes still."""
        endpoints = self._state.endpoints_of_sandbox(record.id)
        if not any(endpoint.phase is Phase.RESERVED for endpoint in endpoints):
            return []
        self._connections.attach_reserved(record)
        return [Repair("container", record.name, "joined to its networks again")]

    # leases

    def _audit_leases(self) -> list[Repair]:
        """Leases equal to what the records say; only at start-up, when nothing is under way."""
        repairs: list[Repair] = []
        for name, ipam in self._registry.ipam_drivers():
            if isinstance(ipam, LeaseAudit):
                with self._locks.space(name):
                    repairs += self._audit_pools(name, ipam)
        return repairs

    def _audit_pools(self, name: str, ipam: LeaseAudit) -> list[Repair]:
        driver, wanted = self._registry.ipam(name), self._wanted_leases(name)
        local, _ = driver.default_address_spaces()
        held, repairs = ipam.pools(local), []
        for pool_id in held.keys() - wanted.keys() - self._guests.pools.ids(name):
            for address in ipam.leases(pool_id):
                driver.release_address(pool_id, address)
            driver.release_pool(pool_id)
            repairs.append(Repair("pool", str(held[pool_id]), "released: no network holds it"))
        for pool, addresses in wanted.values():
            if pool.pool_id not in held:
                request = PoolRequest(local, pool.pool, pool.ip_range, v6=pool.pool.version == 6)
                ipam.restore_pool(pool.pool_id, request)
                repairs.append(Repair("pool", str(pool.pool), "taken again"))
            repairs += self._audit_pool(name, ipam, pool.pool_id, addresses)
        return repairs

    def _audit_pool(
        self, name: str, ipam: LeaseAudit, pool_id: PoolID, wanted: set[IPAddress]
    ) -> list[Repair]:
        driver, leased = self._registry.ipam(name), set(ipam.leases(pool_id))
        repairs = []
        for address in sorted(leased - wanted, key=int):
            driver.release_address(pool_id, address)
            repairs.append(Repair("lease", str(address), "released: nothing holds it"))
        for address in sorted(wanted - leased, key=int):
            driver.request_address(pool_id, address)
            repairs.append(Repair("lease", str(address), "taken again"))
        return repairs

    def _wanted_leases(self, ipam_name: str) -> dict[PoolID, tuple[IpamPool, set[IPAddress]]]:
        wanted: dict[PoolID, tuple[IpamPool, set[IPAddress]]] = {}
        for network in self._state.networks():
            if network.ipam_driver != ipam_name:
                continue
            held = [
                address.ip
                for endpoint in self._state.endpoints_of_network(network.id)
                for address in (endpoint.interface.address, endpoint.interface.address_ipv6)
                if address is not None
            ]
            for pool in network.ipv4 + network.ipv6:
                _, addresses = wanted.setdefault(pool.pool_id, (pool, set()))
                addresses.update(address for address in held if address in pool.pool)
                addresses.update(interface.ip for interface in pool.aux_addresses.values())
                if pool.gateway and pool.gateway_leased:
                    addresses.add(pool.gateway.ip)
        return wanted
