"""A core over the real store and the real IPAM, with a driver and sandboxes made of dictionaries.

The fakes keep the contracts (the driver passes the same idempotence rules) and fail at
a chosen call: what the core does about a failure at each step is pure logic.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fakenames import FakeNames
from fakeports import FakePorts, PortTable, PublishingCalls
from fakeruntime import FakeImages, FakeRuntime, machinery

from cnm.core.controller import CoreSettings
from cnm.core.facade import Core, build
from cnm.core.registry import Registry
from cnm.driverapi import Capability, Wire
from cnm.errors import InvalidParameter, KernelError, NotFound, SandboxGone
from cnm.hostapi import HostRoute, Taken, Wires
from cnm.idmap import IdMap
from cnm.imageapi import ImageConfig
from cnm.ipam.allocator import Allocator
from cnm.ipam.null import NullIpam
from cnm.ipamapi import (
    ENDPOINT_MAC,
    AllocatedPool,
    IpamCapability,
    IpamContext,
    LeaseChange,
    LeasedFrom,
    PoolRequest,
)
from cnm.sandboxapi import DefaultRoute, PlacedInterface
from cnm.store import SqliteStore
from cnm.types import (
    EndpointID,
    EndpointInterface,
    EndpointState,
    IPAddress,
    IPInterface,
    JoinInfo,
    NamespaceIdentity,
    NetworkID,
    NetworkSpec,
    OwnedObject,
    PoolID,
    Repair,
    SandboxKey,
    SandboxRecord,
    StaticRoute,
)

T = TypeVar("T")


class Fault:
    """Raises at the Nth kernel step after being armed."""

    def __init__(self) -> None:
        self.remaining = 0

    def arm(self, step: int) -> None:
        self.remaining = step

    def step(self, what: str) -> None:
        if self.remaining:
            self.remaining -= 1
            if not self.remaining:
                raise KernelError(5, what)


@dataclass
class FakeKernel:
    """What drivers and sandboxes have made."""

    fault: Fault = field(default_factory=Fault)
    networks: dict[str, NetworkSpec] = field(default_factory=dict)
    links: dict[str, tuple[str, str]] = field(default_factory=dict)  # endpoint -> namespace, name
    configured: dict[tuple[str, str], EndpointInterface] = field(default_factory=dict)
    gateways: dict[str, tuple[DefaultRoute | None, DefaultRoute | None]] = field(
        default_factory=dict
    )
    namespaces: dict[str, int] = field(default_factory=dict)  # path -> cookie
    owners: dict[str, IdMap | None] = field(default_factory=dict)  # path -> its user namespace's
    foreign: dict[str, set[str]] = field(default_factory=dict)  # namespace -> names of links
    taken_off: list[tuple[str, IPInterface | StaticRoute]] = field(default_factory=list)
    cookies: int = 1000
    boot: str = "boot-1"
    routes: list[HostRoute] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ports = PortTable(self.fault.step)


class FakeDriver(PublishingCalls):
    """Keeps the driver contract in dictionaries."""

    def __init__(self, kernel: FakeKernel, name: str = "bridge", **capability: Any) -> None:
        self.kernel = kernel
        self.name = name
        self.capability = Capability(**capability)
        self.ports = FakePorts(kernel.ports)

    def create_network(self, network: NetworkSpec) -> None:
        self.kernel.fault.step("create network")
        self.kernel.networks[network.id] = network

    def delete_network(self, network_id: NetworkID) -> None:
        self.kernel.networks.pop(network_id, None)

    def create_endpoint(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        interface: EndpointInterface,
        options: Mapping[str, Any],
    ) -> EndpointInterface:
        self.kernel.fault.step("create endpoint")
        return EndpointInterface(
            interface.address,
            interface.address_ipv6,
            interface.mac or "02:42:00:00:00:01",
            interface.link_local,
        )

    def delete_endpoint(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        self.kernel.links.pop(endpoint_id, None)
        self.ports.revoke(endpoint_id)

    def endpoint_oper_info(
        self, network_id: NetworkID, endpoint_id: EndpointID
    ) -> Mapping[str, Any]:
        return {}

    def join(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        sandbox_key: SandboxKey | None,
        interface_name: str,
        options: Mapping[str, Any],
    ) -> JoinInfo:
        self.kernel.fault.step("join")
        self.kernel.links[endpoint_id] = (sandbox_key or "", interface_name)
        spec = self.kernel.networks[network_id]
        v4 = spec.ipv4[0].gateway if spec.ipv4 and not spec.internal else None
        v6 = spec.ipv6[0].gateway if spec.ipv6 and not spec.internal else None
        return JoinInfo(
            interface_name,
            placed=True,
            gateway=v4.ip if isinstance(v4, ipaddress.IPv4Interface) else None,
            gateway_ipv6=v6.ip if isinstance(v6, ipaddress.IPv6Interface) else None,
        )

    def leave(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        namespace, name = self.kernel.links.pop(endpoint_id, ("", ""))
        self.kernel.configured.pop((namespace, name), None)

    def devices(self) -> Collection[str]:
        return {f"br-{key[:12]}" for key in self.kernel.networks}

    def owned(self) -> Collection[OwnedObject]:
        return [
            *(
                OwnedObject("link", f"br-{key[:12]}", NetworkID(key))
                for key in self.kernel.networks
            ),
            *(
                OwnedObject("link", f"veth{key[:7]}", endpoint_id=EndpointID(key))
                for key in self.kernel.links
            ),
        ]

    def restore(self, network: NetworkSpec, endpoints: Sequence[EndpointState]) -> Sequence[Repair]:
        repairs = []
        if network.id not in self.kernel.networks:
            self.kernel.networks[network.id] = network
            repairs.append(Repair("link", f"br-{network.id[:12]}", "created again"))
        for endpoint in endpoints:
            if endpoint.endpoint_id not in self.kernel.links and endpoint.sandbox_key:
                place = (endpoint.sandbox_key, endpoint.interface_name)
                self.kernel.links[endpoint.endpoint_id] = place
                repairs.append(Repair("link", endpoint.interface_name, "created again"))
        return [*repairs, *self.ports.restore(endpoints)]

    def remove_orphan(self, item: OwnedObject) -> None:
        self.kernel.networks.pop(item.network_id or "", None)
        self.kernel.links.pop(item.endpoint_id or "", None)


class FakeSandbox:
    """One namespace of the fake kernel."""

    def __init__(self, kernel: FakeKernel, record: SandboxRecord) -> None:
        self.kernel = kernel
        self.key = record.key

    def run(self, fn: Callable[[], T]) -> T:
        return fn()

    def has_interface(self, name: str) -> bool:
        placed = {name for key, name in self.kernel.links.values() if key == self.key}
        return name in placed | self.kernel.foreign.get(self.key, set())

    def add_interface(self, join: JoinInfo, interface: EndpointInterface) -> str:
        self.kernel.fault.step("add interface")
        self.kernel.configured[self.key, join.interface_name] = interface
        return join.interface_name

    def remove_interface(self, name: str) -> None:
        self.kernel.configured.pop((self.key, name), None)

    def remove_address(self, name: str, address: IPInterface) -> None:
        self.kernel.fault.step("remove address")
        self.kernel.taken_off.append((name, address))

    def remove_routes(self, name: str, routes: Collection[StaticRoute]) -> None:
        self.kernel.taken_off += [(name, route) for route in routes]

    def set_default_gateway(
        self, v4: DefaultRoute | None, v6: DefaultRoute | None, *, v6_too: bool = True
    ) -> None:
        self.kernel.fault.step("set default gateway")
        self.kernel.gateways[self.key] = (v4, v6)

    def repair(
        self,
        interfaces: Sequence[PlacedInterface],
        v4: DefaultRoute | None,
        v6: DefaultRoute | None,
    ) -> Sequence[Repair]:
        repairs = []
        for item in interfaces:
            place = (self.key, item.join.interface_name)
            if self.kernel.configured.get(place) != item.interface:
                self.kernel.configured[place] = item.interface
                repairs.append(Repair("address", item.join.interface_name, "set again"))
        if self.kernel.gateways.get(self.key, (None, None)) != (v4, v6):
            self.kernel.gateways[self.key] = (v4, v6)
            repairs.append(Repair("route", "default", "set again"))
        return repairs

    def destroy(self) -> None:
        self.kernel.gateways.pop(self.key, None)

    def __enter__(self) -> FakeSandbox:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class FakeProvider:
    """Namespaces of the fake kernel."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel

    def identify(self, key: SandboxKey) -> tuple[NamespaceIdentity, bool]:
        if key not in self.kernel.namespaces:
            raise NotFound(f"{key}: no such file")
        if self.kernel.namespaces[key] == 0:
            raise InvalidParameter(f"{key} is no network namespace")
        return NamespaceIdentity(self.kernel.namespaces[key]), False

    def host_identity(self) -> str:
        return self.kernel.boot

    def create(self, key: SandboxKey, ids: IdMap | None = None) -> NamespaceIdentity:
        self.kernel.fault.step("create namespace")
        self.kernel.cookies += 1
        self.kernel.namespaces[key] = self.kernel.cookies
        self.kernel.owners[key] = ids
        return NamespaceIdentity(self.kernel.cookies)

    def keep(self, record: SandboxRecord, pid: int) -> bool:
        if self.kernel.namespaces.get(record.key) == record.identity.cookie:
            return False
        self.kernel.namespaces[record.key] = record.identity.cookie
        return True

    def remove(self, key: SandboxKey) -> None:
        self.kernel.namespaces.pop(key, None)

    def created(self, folder: str) -> Collection[SandboxKey]:
        return [SandboxKey(key) for key in self.kernel.namespaces if key.startswith(f"{folder}/")]

    def open(self, record: SandboxRecord, *, joining: bool = False) -> FakeSandbox:
        if self.kernel.namespaces.get(record.key) != record.identity.cookie:
            raise SandboxGone(f"the namespace of {record.name} is gone")
        return FakeSandbox(self.kernel, record)


class FakeRoutes:
    """The host's routes, as a list."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel

    def routes(self) -> Sequence[HostRoute]:
        return list(self.kernel.routes)

    def watch(self, added: Callable[[HostRoute], None]) -> Callable[[], None]:
        return lambda: None


class FakeWire:
    """Others on the wires of the fake kernel, by link."""

    def __init__(self) -> None:
        self.others: dict[str, dict[IPAddress, str]] = {}
        self.probed: list[IPAddress] = []
        self.guarded: Wires = {}
        self.taken: Taken | None = None

    def holders(self, link: str, addresses: Collection[IPAddress]) -> Mapping[IPAddress, str]:
        self.probed += addresses
        present = self.others.get(link, {})
        return {address: present[address] for address in addresses if address in present}

    def guard(self, wires: Callable[[], Wires]) -> None:
        self.guarded = wires()

    def watch(self, taken: Taken) -> None:
        self.taken = taken


class FakeWiredDriver(FakeDriver):
    """A driver whose networks lie on the wire behind ``parent``."""

    def wire(self, network: NetworkSpec) -> Wire | None:
        parent = network.options.get("parent")
        return Wire(parent, own_macs=self.name != "ipvlan") if parent else None


class FakeDhcp(NullIpam):
    """A server outside that gives 10.9.0.5 and up, as told."""

    name = "dhcp"
    capability = IpamCapability(requires_mac=True)

    def __init__(self) -> None:
        self.given: dict[IPAddress, Mapping[str, str]] = {}
        self.declined: list[IPAddress] = []
        self.facts = LeasedFrom(IPv4Address("10.9.0.1"), IPv4Address("10.9.0.1"))
        self.changed: Callable[[LeaseChange], None] | None = None
        self.closed = False

    def request_pool(self, request: PoolRequest) -> AllocatedPool:
        return AllocatedPool(PoolID("dhcp/1"), request.pool or IPv4Network("0.0.0.0/0"))

    def request_address(
        self,
        pool_id: PoolID,
        address: IPAddress | None = None,
        options: Mapping[str, str] | None = None,
    ) -> IPInterface:
        if options is None or ENDPOINT_MAC not in options:
            return ipaddress.ip_interface(f"{address or '0.0.0.0'}/24")
        given = address or ipaddress.ip_address("10.9.0.5") + len(self.given) + len(self.declined)
        self.given[given] = options
        return ipaddress.ip_interface(f"{given}/24")

    def release_address(self, pool_id: PoolID, address: IPAddress) -> None:
        self.given.pop(address, None)

    def decline_address(self, pool_id: PoolID, address: IPAddress) -> None:
        self.given.pop(address)
        self.declined.append(address)

    def leased_from(self, pool_id: PoolID, address: IPAddress) -> LeasedFrom | None:
        return self.facts if address in self.given else None

    def begin(self, changed: Callable[[LeaseChange], None]) -> None:
        self.changed = changed

    def close(self) -> None:
        self.closed = True


class World:
    """A machine on which the core can be started again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kernel = FakeKernel()
        self.wire = FakeWire()
        self.dhcp = FakeDhcp()
        self.settings = CoreSettings()
        self.remapped = False  # userns-remap is set
        self._store: SqliteStore | None = None
        self.runtime = FakeRuntime(self.kernel.fault.step)
        self.names = FakeNames(self.kernel.fault.step)
        self.images = FakeImages({"busybox": ImageConfig(cmd=("sh",), env=("PATH=/bin",))})
        self.core = self.start()

    def start(self) -> Core:
        self.stop()
        self._store = SqliteStore(self.folder / "cnm.db")
        ula = ipaddress.IPv6Network("fd00:1:2::/48")
        allocator = Allocator(IpamContext(self._store.leases, ula))
        drivers = {
            "bridge": FakeDriver(self.kernel),
            "host": FakeDriver(self.kernel, "host", instances=1, attachable=False, addressed=False),
            "macvlan": FakeWiredDriver(self.kernel, "macvlan"),
            "ipvlan": FakeWiredDriver(self.kernel, "ipvlan"),
            "null": FakeDriver(self.kernel, "null", instances=1, attachable=False, addressed=False),
        }
        self.core = build(
            store=self._store,
            ledger=self._store.ledger,
            registry=Registry(
                drivers, {"default": allocator, "null": NullIpam(), "dhcp": self.dhcp}
            ),
            sandboxes=FakeProvider(self.kernel),
            host_routes=FakeRoutes(self.kernel),
            wire_probe=self.wire,
            settings=self.settings,
            machinery=machinery(self.folder, self.runtime, self.images, remapped=self.remapped),
            names=self.names,
        )
        return self.core

    def stop(self) -> None:
        if self._store is not None:
            self.core.recovery.close()
            self._store.close()

    def namespace(self, name: str, cookie: int) -> str:
        path = f"/run/netns/{name}"
        self.kernel.namespaces[path] = cookie
        return path

    def adopt(self, name: str, cookie: int) -> SandboxRecord:
        return self.core.sandboxes.adopt(name, self.namespace(name, cookie))

    def leased(self) -> set[str]:
        """All leased addresses, as the database has them."""
        assert self._store is not None
        leases = self._store.leases
        return {str(a) for pool in leases.pools() for a in leases.leases(pool.pool_id)}

    def stored(self, kind: Any) -> list[Any]:
        """All records of a kind, as the database has them."""
        assert self._store is not None
        return list(self._store.all(kind))

    def pools(self) -> set[str]:
        """All pools, as the database has them."""
        assert self._store is not None
        return {str(pool.pool) for pool in self._store.leases.pools()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A new machine without networks."""
    machine = World(tmp_path)
    yield machine
    machine.stop()
