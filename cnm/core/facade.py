"""The core put together: what the edges and the daemon hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cnm.core.addressing import Addressing
from cnm.core.attachments import Attachments
from cnm.core.claims import Claims
from cnm.core.conflicts import Conflicts
from cnm.core.connect import Connections
from cnm.core.containerdocs import ContainerDocuments
from cnm.core.containerfiles import ContainerFiles
from cnm.core.containers import Containers
from cnm.core.controller import CoreSettings, Networks
from cnm.core.creation import Creation
from cnm.core.endings import Endings
from cnm.core.events import Events
from cnm.core.execs import ExecProcesses
from cnm.core.guestpools import GuestPools
from cnm.core.guestrecords import GuestRecords
from cnm.core.guests import Guests
from cnm.core.images import ImageStock
from cnm.core.inspect import Inspector
from cnm.core.leases import LeaseKeeper
from cnm.core.locks import Locks
from cnm.core.namerepair import NamingRepair
from cnm.core.naming import Naming
from cnm.core.ports import Ports
from cnm.core.publishing import Publishing
from cnm.core.reconcile import Reconciler
from cnm.core.recovery import Recovery
from cnm.core.registry import Registry
from cnm.core.runs import Machinery, Runs
from cnm.core.sandboxes import Sandboxes
from cnm.core.state import State
from cnm.core.waits import Waits
from cnm.core.wires import WireGuard
from cnm.discovery import NameInsight, NameRepair, NameService
from cnm.driverapi import Diagnostic
from cnm.hostapi import HostRoutes, SysctlLedger, WireProbe
from cnm.sandboxapi import SandboxProvider
from cnm.store import Store


class Names(NameService, NameRepair, NameInsight, Protocol):
    """The resolver, as the core needs it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of ``net doctor``."""

    name: str
    status: str  # ok, warning, failed
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Core:
    """The CNM, whole."""

    networks: Networks
    connections: Connections
    sandboxes: Sandboxes
    inspector: Inspector
    events: Events
    conflicts: Conflicts
    reconciler: Reconciler
    registry: Registry
    ledger: SysctlLedger
    containers: Containers
    execs: ExecProcesses
    images: ImageStock
    recovery: Recovery
    documents: ContainerDocuments
    leases: LeaseKeeper
    claims: Claims
    wires: WireGuard
    names: NameInsight
    guests: Guests
    ports: Ports
    attachments: Attachments

    def doctor(self) -> Sequence[Check]:
        """Kernel features, conflicts with the host's routes, drift, changed sysctls."""
        checks = []
        for name, driver in self.registry.drivers():
            if isinstance(driver, Diagnostic):
                for feature, works, detail in driver.diagnose():
                    status = works if isinstance(works, str) else "ok" if works else "failed"
                    checks.append(Check(f"{name}: {feature}", status, detail))
        conflicts = [
            Check(f"route conflict: {network.name}", "warning", str(route))
            for network, route in self.conflicts.present()
        ]
        checks += conflicts or [
            Check("route conflicts", "ok", "no route covers a network's subnet")
        ]
        checks += [
            Check(f"address conflict: {network.name}", "warning", f"{address} is used by {mac} too")
            for network, address, mac in self.wires.conflicts()
        ]
        checks += self._of_engines()
        for sysctl, (old, new) in self.ledger.remembered().items():
            if old == new:
                continue  # an interface's own flag, kept because a switch rewrites it
            checks.append(
                Check(f"sysctl {sysctl.replace('/', '.')}", "ok", f"{old} -> {new} by us")
            )
        drift = self.reconciler.sweep()
        checks += [
            Check(f"drift: {item.kind} {item.name}", "warning", item.action) for item in drift
        ]
        return checks if drift else [*checks, Check("drift", "ok", "kernel and store agree")]

    def _of_engines(self) -> Iterator[Check]:
        """Their networks, which no list of ours shows."""
        for network in self.guests.networks():
            pools = [str(item.pool) for item in (*network.spec.ipv4, *network.spec.ipv6)]
            count = len(self.guests.endpoints(network.id))
            detail = f"{', '.join(pools)}; {count} endpoint{'' if count == 1 else 's'}"
            yield Check(f"{network.driver}: network {network.id[:12]} of an engine", "ok", detail)


def build(
    *,
    store: Store,
    ledger: SysctlLedger,
    registry: Registry,
    sandboxes: SandboxProvider,
    host_routes: HostRoutes,
    wire_probe: WireProbe,
    settings: CoreSettings,
    machinery: Machinery,
    names: Names,
) -> Core:
    """Wire the core. Nothing is read from the kernel and nothing changed yet."""
    state, locks, events = State(store), Locks(), Events()
    addressing = Addressing(state, registry, locks, host_routes)
    wires = WireGuard(state, registry, wire_probe, events)
    claims = Claims(addressing, wires)
    networks = Networks(state, registry, locks, addressing, wires, events, settings)
    naming = Naming(state, names, machinery.settings)
    publishing = Publishing(state, registry)
    connections = Connections(
        state, registry, locks, claims, wires, events, sandboxes, naming, publishing
    )
    stacks = Sandboxes(state, locks, connections, events, sandboxes, naming)
    files = ContainerFiles(machinery.settings.root, machinery.remove_tree)
    runs = Runs(state, stacks, machinery, files, naming, publishing)
    waits = Waits()
    endings = Endings(state, locks, events, stacks, machinery, runs, files, waits)
    execs = ExecProcesses(state, machinery, endings)
    recovery = Recovery(state, locks, stacks, machinery, runs, files, endings, execs.ended)
    creation = Creation(
        state, locks, connections, machinery, runs, files, endings.discard, recovery.follow
    )
    containers = Containers(
        state, locks, connections, machinery, creation, runs, waits, endings, naming
    )
    records = GuestRecords(store)
    pools = GuestPools(records, registry, locks, host_routes)
    guests = Guests(records, pools, state, registry, locks)
    reconciler = Reconciler(
        state,
        registry,
        locks,
        networks,
        connections,
        stacks,
        sandboxes,
        ledger,
        recovery,
        wires,
        NamingRepair(state, locks, naming, names),
        guests,
    )
    names.watch(reconciler.notice, reconciler.tell)
    conflicts = Conflicts(state, registry, wires, events, host_routes)
    leases = LeaseKeeper(
        state,
        registry,
        locks,
        connections,
        events,
        sandboxes,
        naming,
        wires,
        reconciler.network_changed,
        containers.readdressed,
    )
    inspector = Inspector(state, addressing)
    ports = Ports(state, locks, publishing, registry, events)
    return Core(
        networks,
        connections,
        stacks,
        inspector,
        events,
        conflicts,
        reconciler,
        registry,
        ledger,
        containers,
        execs,
        ImageStock(machinery.images, locks, events, containers.users),
        recovery,
        ContainerDocuments(state, inspector, files, runs.etc, execs),
        leases,
        claims,
        wires,
        names,
        guests,
        ports,
        Attachments(state, locks, networks, stacks, connections, ports),
    )
