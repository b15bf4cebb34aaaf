"""The values that everything else speaks in: ids, addresses, specs, records. No I/O.

Frozen dataclasses with ``ipaddress`` values, from the edge inwards. A *spec* is
what a driver is told; a *record* is what the store keeps (and holds intent as
well as fact: see :class:`Phase`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
)

from cnm.ids import EndpointID as EndpointID
from cnm.ids import IPAddress as IPAddress
from cnm.ids import IPInterface as IPInterface
from cnm.ids import IPNetwork as IPNetwork
from cnm.ids import NetworkID as NetworkID
from cnm.ids import PoolID as PoolID
from cnm.ids import SandboxID as SandboxID
from cnm.ids import SandboxKey as SandboxKey
from cnm.ids import address_text as address_text


class Scope(enum.StrEnum):
    """How far a network (or what a driver connects) reaches."""

    LOCAL = "local"
    GLOBAL = "global"
    SWARM = "swarm"


class Phase(enum.StrEnum):
    """Where a record stands between intent and fact.

    ``CREATING`` and ``DELETING`` are written before the kernel is touched; a
    daemon that finds one at its start finishes the deletion or undoes the creation.
    """

    CREATING = "creating"
    ACTIVE = "active"
    DELETING = "deleting"
    RESERVED = "reserved"  # endpoints only: wish and static addresses of a stopped sandbox


class SandboxStatus(enum.StrEnum):
    """Whether a sandbox's namespace is there."""

    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class IpamConfig:
    """One ``--subnet`` and its company, as the user asked for it (chosen values filled in)."""

    subnet: IPNetwork | None = None
    ip_range: IPNetwork | None = None
    gateway: IPAddress | None = None
    aux_addresses: Mapping[str, IPAddress] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IpamPool:
    """One pool that a network holds, with its reserved addresses."""

    pool_id: PoolID
    address_space: str
    pool: IPNetwork
    gateway: IPInterface | None = None
    aux_addresses: Mapping[str, IPInterface] = field(default_factory=dict)
    ip_range: IPNetwork | None = None
    gateway_leased: bool = False  # the gateway was requested from IPAM and must be released


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """What a driver is told about a network: the remote protocol's CreateNetwork."""

    id: NetworkID
    name: str
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    internal: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    ipv4: tuple[IpamPool, ...] = ()
    ipv6: tuple[IpamPool, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """A network as the store keeps it."""

    id: NetworkID
    name: str
    driver: str
    phase: Phase
    created_ns: int  # nanoseconds since the epoch
    scope: Scope = Scope.LOCAL
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: str = ""
    predefined: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] | None = None
    ipam_config: tuple[IpamConfig, ...] = ()
    ipv4: tuple[IpamPool, ...] = ()
    ipv6: tuple[IpamPool, ...] = ()

    def spec(self) -> NetworkSpec:
        """The part that drivers see."""
        return NetworkSpec(
            self.id,
            self.name,
            self.enable_ipv4,
            self.enable_ipv6,
            self.internal,
            self.options,
            self.ipv4,
            self.ipv6,
        )


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """What the user asks of ``net create``. ``None``: not said."""

    name: str
    driver: str = ""
    scope: str = ""
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] | None = None
    ipam_config: tuple[IpamConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointInterface:
    """Addresses and MAC of an endpoint. ``None``: not chosen yet, or the family is off."""

    address: IPv4Interface | None = None
    address_ipv6: IPv6Interface | None = None
    mac: str | None = None  # aa:bb:cc:dd:ee:ff, lower case
    link_local: tuple[IPInterface, ...] = ()


@dataclass(frozen=True, slots=True)
class StaticRoute:
    """A route pushed into the sandbox; without ``next_hop`` it is on-link.

    One to everywhere is a default route: it is set only where no endpoint goes before it.
    """

    destination: IPNetwork
    next_hop: IPAddress | None = None


@dataclass(frozen=True, slots=True)
class JoinInfo:
    """What a driver answers to ``join``.

    ``placed``: the link is already inside the sandbox under ``interface_name``,
    down and without addresses; a ``mark`` is the alias that it gets when it is configured. Else
    ``source_name`` is a link in the host's namespace that the sandbox must move and rename;
    without either there is no link.
    """

    interface_name: str
    source_name: str = ""
    placed: bool = False
    gateway: IPv4Address | None = None
    gateway_ipv6: IPv6Address | None = None
    static_routes: tuple[StaticRoute, ...] = ()
    disable_gateway_service: bool = False
    name_prefix: str = ""  # of a link to be moved: its name inside shall begin so
    mark: str = ""
    dns_servers: tuple[IPAddress, ...] = ()  # that came with the address from a server outside
    dns_search: tuple[str, ...] = ()  # likewise


@dataclass(frozen=True, slots=True)
class PortBinding:
    """One published port, as asked for or as it is.

    Asked for: ``host_port`` 0 is any free one, with an end any one of these;
    without ``host_ip`` the network's own (all addresses of the host unless it says otherwise).
    As it is: one for each address family, all of it concrete, the end 0.
    """

    protocol: str  # tcp, udp, sctp
    container_port: int
    # ``ipaddress`` hashes in Python, 1 µs each; the numbers tell nearly all bindings apart
    host_ip: IPAddress | None = field(default=None, hash=False)
    host_port: int = 0
    host_port_end: int = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """A remote endpoint of a global network."""

    endpoint_id: EndpointID
    interface: EndpointInterface
    vtep: IPAddress


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """What the user asked of an endpoint; shown again by inspect and used again on restart."""

    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    link_local: tuple[IPAddress, ...] = ()
    mac: str | None = None
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    gw_priority: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as the store keeps it."""

    id: EndpointID
    network_id: NetworkID
    sandbox_id: SandboxID
    phase: Phase
    created_ns: int
    request: EndpointRequest = field(default_factory=EndpointRequest)
    interface: EndpointInterface = field(default_factory=EndpointInterface)
    interface_name: str = ""
    join: JoinInfo | None = None
    revived: bool = False  # a wish that is being fulfilled: undone, it is a wish again
    ports: tuple[PortBinding, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceIdentity:
    """Tells a namespace from a later one at the same path.

    ``cookie`` is the kernel's SO_NETNS_COOKIE: never used twice while it runs
    (inode numbers of namespaces are).
    """

    cookie: int


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """A container's network stack as the store keeps it."""

    id: SandboxID
    name: str
    key: SandboxKey
    identity: NamespaceIdentity
    status: SandboxStatus
    created_ns: int
    adopted: bool = True  # the namespace is the user's: given back, never deleted
    pid: int = 0  # adopted by --pid
    loopback_was_up: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    publish: tuple[PortBinding, ...] = ()  # as asked for; as they are, they stand in endpoints


Record = Network | Endpoint | SandboxRecord


@dataclass(frozen=True, slots=True)
class EndpointState:
    """What a driver needs to put an endpoint back: see ``Repairable.restore``."""

    endpoint_id: EndpointID
    interface: EndpointInterface
    sandbox_key: SandboxKey | None  # None: the namespace is gone, only the host's side counts
    interface_name: str
    options: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PortBinding, ...] = ()  # as they are, not as asked for
    handed_over: bool = False  # to an engine: where the link's other end is, only it knows


@dataclass(frozen=True, slots=True)
class FirewallEntry:
    """A rule, or an element of a set or map, of ours: what it says and what it is for."""

    family: str
    table: str
    place: str  # the chain, set or map
    text: str  # as nft writes it
    purpose: str
    packets: int | None = None  # None: not counted
    bytes: int | None = None
    network_id: NetworkID | None = None
    endpoint_id: EndpointID | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether some place can reach a published port, and what says so."""

    binding: PortBinding
    network_id: NetworkID
    endpoint_id: EndpointID
    origin: str  # this host, LAN, other networks, …
    verdict: bool
    because: str


@dataclass(frozen=True, slots=True)
class OwnedObject:
    """A kernel object that carries our mark."""

    kind: str  # link, table, namespace, …
    name: str
    network_id: NetworkID | None = None
    endpoint_id: EndpointID | None = None


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing that was put right: logged, and shown by ``net doctor``."""

    kind: str  # link, address, route, table, lease, record, …
    name: str
    action: str  # what was done, in words: "created again", "removed: no network owns it"

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.action}"
