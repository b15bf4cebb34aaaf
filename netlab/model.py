"""A lab as values: what a lab file says, checked, every name resolved.

:func:`cnm.netlab.labfile.load` makes a :class:`Lab` of a file; nothing here reads or touches
anything. Everything is frozen and compares by value, so that two readings of one file are
equal. Durations are seconds, rates bits a second, shares percent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cnm.types import IPAddress, IPInterface, IPNetwork

Engine = Literal["cnm", "docker"]
Direction = Literal["both", "out", "in"]
Transport = Literal["tcp", "udp"]

SWITCHES = "switches"  # the namespace, named like a host, that holds the lab's switches


# the wires


@dataclass(frozen=True, slots=True)
class Subinterface:
    """An 802.1Q interface on top of a link's end: frames of VLAN ``vlan``, tagged."""

    name: str
    vlan: int
    addresses: tuple[IPInterface, ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link: the interface ``interface`` of the host, router or switch ``node``.

    ``access`` and ``trunk`` are of a switch's port: the VLAN that its untagged frames belong
    to, and those that pass tagged. With neither, a port of a switch that has VLANs is in VLAN 1.
    """

    node: str
    interface: str
    addresses: tuple[IPInterface, ...] = ()
    mac: str | None = None
    access: int | None = None
    trunk: tuple[int, ...] = ()
    subinterfaces: tuple[Subinterface, ...] = ()

    def __str__(self) -> str:
        return f"{self.node}:{self.interface}"

    @property
    def every_address(self) -> tuple[IPInterface, ...]:
        """Its own addresses, then those of its 802.1Q interfaces."""
        above = (address for item in self.subinterfaces for address in item.addresses)
        return (*self.addresses, *above)


@dataclass(frozen=True, slots=True)
class Impairment:
    """What is wrong with a wire. Zero or ``None``: that is in order.

    ``direction`` is seen from the link's first end: ``out`` are the packets that leave it.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss_percent: float = 0.0
    duplicate_percent: float = 0.0
    corrupt_percent: float = 0.0
    rate_bit_s: int | None = None
    direction: Direction = "both"


@dataclass(frozen=True, slots=True)
class Link:
    """A wire between two ends. The first end is the one whose host or switch declares it.

    ``name`` is what the file gives it, else the first end: ``node1:eth0``.
    """

    name: str
    ends: tuple[End, End]
    mtu: int | None = None
    impairment: Impairment | None = None

    def end(self, node: str) -> End | None:
        """The end at a node."""
        return next((end for end in self.ends if end.node == node), None)


@dataclass(frozen=True, slots=True)
class Switch:
    """A Linux bridge. ``filtering``: it tells VLANs apart, because a port of it names one."""

    name: str
    filtering: bool = False
    stp: bool = False


# what runs on a host


@dataclass(frozen=True, slots=True)
class Route:
    """A static route; ``destination`` ``None`` is the default route of the gateway's family."""

    destination: IPNetwork | None
    gateway: IPAddress | None
    interface: str | None = None
    metric: int | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """A command that runs in the background on a host, from ``up`` to ``down``."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Daemon:
    """``cnm``, ``docker`` (with a containerd of its own) or ``etcd``.

    ``flags`` are added to its command line; ``config`` is the text of its daemon.json.
    """

    kind: Literal["cnm", "docker", "etcd"]
    flags: tuple[str, ...] = ()
    config: str = "{}"


@dataclass(frozen=True, slots=True)
class Subnet:
    """A pool of a network."""

    subnet: IPNetwork
    gateway: IPAddress | None = None
    ip_range: IPNetwork | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """A network, made through the API of one of its host's engines."""

    name: str
    engine: Engine
    driver: str = "bridge"
    subnets: tuple[Subnet, ...] = ()
    ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    options: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container's place on a network."""

    network: str
    ipv4: IPAddress | None = None
    ipv6: IPAddress | None = None
    mac: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Port:
    """A published port; ``host_port`` ``None``: the engine picks one."""

    container_port: int
    protocol: Literal["tcp", "udp", "sctp"] = "tcp"
    host_port: int | None = None
    host_address: IPAddress | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """A container, made and started through the API of one of its host's engines.

    ``host_config`` is JSON that goes into the HostConfig of the Engine API as it is.
    """

    name: str
    engine: Engine
    image: str
    command: tuple[str, ...] = ()
    networks: tuple[Attachment, ...] = ()
    ports: tuple[Port, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    hostname: str | None = None
    privileged: bool = False
    dns: tuple[IPAddress, ...] = ()
    host_config: str = "{}"


@dataclass(frozen=True, slots=True)
class Image:
    """Where an image comes from: ``rootfs`` (a tar), ``archive`` (docker save), ``busybox``.

    ``busybox`` is made of the machine's static busybox; ``path`` is ``None`` then.
    """

    name: str
    source: Literal["rootfs", "archive", "busybox"]
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """A host, or a ``router``: a host that forwards."""

    name: str
    router: bool = False
    routes: tuple[Route, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    nameservers: tuple[IPAddress, ...] = ()
    search: tuple[str, ...] = ()
    processes: tuple[Process, ...] = ()
    daemons: tuple[Daemon, ...] = ()
    networks: tuple[Network, ...] = ()
    containers: tuple[Container, ...] = ()

    def daemon(self, kind: str) -> Daemon | None:
        """Its daemon of that kind."""
        return next((daemon for daemon in self.daemons if daemon.kind == kind), None)

    def container(self, name: str) -> Container | None:
        """Its container of that name."""
        return next((item for item in self.containers if item.name == name), None)


# what must hold


@dataclass(frozen=True, slots=True)
class Place:
    """Where a probe runs, or what it goes to: a host, or a container on it."""

    host: str
    container: str | None = None

    def __str__(self) -> str:
        return f"{self.host}/{self.container}" if self.container else self.host


Target = Place | IPAddress | str  # a place of the lab, an address, or a name to be resolved


@dataclass(frozen=True, slots=True)
class Ping:
    """ICMP echo. ``family`` 4 or 6 where a name or place has both; ``size`` is the payload."""

    source: Place
    target: Target
    family: Literal[4, 6] | None = None
    count: int = 1
    size: int | None = None
    dont_fragment: bool = False


@dataclass(frozen=True, slots=True)
class Resolve:
    """A DNS question by the place's own resolver, or ``server``. No ``answers``: any will do."""

    source: Place
    name: str
    record: str = "A"
    answers: tuple[str, ...] = ()
    server: Target | None = None


@dataclass(frozen=True, slots=True)
class Http:
    """A GET; ``contains`` must be in the body."""

    source: Place
    url: str
    status: int = 200
    contains: str | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """A TCP connection, or a UDP datagram that is answered."""

    source: Place
    target: Target
    port: int
    transport: Transport = "tcp"


@dataclass(frozen=True, slots=True)
class Traceroute:
    """The way of packets: how many ``hops``, or through which addresses (``via``)."""

    source: Place
    target: Target
    hops: int | None = None
    via: tuple[IPAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class Throughput:
    """TCP from one place to the other for ``seconds``: at least (and at most) that much."""

    source: Place
    target: Place
    at_least_bit_s: int | None = None
    at_most_bit_s: int | None = None
    seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Run:
    """A command that must end with ``status``; ``contains`` must be in its output."""

    source: Place
    command: tuple[str, ...]
    status: int = 0
    contains: str | None = None


Traffic = Ping | Resolve | Http | Reach | Traceroute | Throughput | Run


@dataclass(frozen=True, slots=True)
class Packets:
    """Packets that match ``filter`` (pcap-filter(7)) on an end of a link while ``during`` runs."""

    link: str
    node: str  # at whose end of the link is looked
    filter: str
    at_least: int = 1
    during: Traffic | None = None
    seconds: float = 2.0  # how long is looked when nothing runs


Probe = Traffic | Packets


@dataclass(frozen=True, slots=True)
class Check:
    """A probe that must succeed (``expect``), or must not, within ``within_s`` of trying again."""

    name: str
    kind: (
        str  # the file's word: ping, resolve, http, tcp, udp, traceroute, throughput, packets, run
    )
    probe: Probe
    expect: bool = True
    within_s: float = 5.0
    line: int = 0


@dataclass(frozen=True, slots=True)
class Lab:
    """A whole lab. ``path`` is the file it was read from."""

    name: str
    path: Path
    hosts: tuple[Host, ...] = ()
    switches: tuple[Switch, ...] = ()
    links: tuple[Link, ...] = ()
    images: tuple[Image, ...] = ()
    checks: tuple[Check, ...] = ()

    def host(self, name: str) -> Host | None:
        """The host or router of that name."""
        return next((host for host in self.hosts if host.name == name), None)

    def link(self, name: str) -> Link | None:
        """A link by its name, or by either end: ``node1:eth0``."""
        named = (link for link in self.links if link.name == name)
        at_end = (link for link in self.links if name in map(str, link.ends))
        return next(named, None) or next(at_end, None)

    def links_of(self, node: str) -> Iterator[tuple[Link, End]]:
        """The links of a node, each with its end there: those that it declares, then others'."""
        for place in (0, 1):
            for link in self.links:
                if link.ends[place].node == node:
                    yield link, link.ends[place]

    def addresses(self, host: str) -> tuple[IPInterface, ...]:
        """All addresses that the file gives a host, those of its first link first."""
        return tuple(address for _, end in self.links_of(host) for address in end.every_address)
