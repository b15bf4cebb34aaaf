"""What a lab looks like now: interfaces, networks, containers, tunnels, from the kernel.

Names of networks and containers come from the engines on the hosts, everything else from
``ip -j`` in each namespace: what is drawn is what is there, also where that is not what the
file says.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnm.netlab.errors import LabError
from cnm.netlab.model import SWITCHES, Lab

_BRIDGE_NAME = "com.docker.network.bridge.name"
_SHORT_ID = 12
_HIDDEN = frozenset({"lo", "ifb0", "ifb1", "tunl0", "sit0", "ip6tnl0"})  # of every namespace


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface. ``kind``: ``veth``, ``bridge``, ``vxlan``, ``vlan``, …; ``note``: its facts."""

    name: str
    kind: str
    up: bool
    addresses: tuple[str, ...]
    master: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class ContainerSeen:
    """A container with its interfaces, each with the name of its network, if that is known."""

    name: str
    running: bool
    interfaces: tuple[tuple[Interface, str], ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkSeen:
    """A network that has a bridge here. ``note``: its driver."""

    name: str
    note: str
    bridge: str


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A host, router or switch. ``kind`` is that word."""

    name: str
    kind: str
    interfaces: tuple[Interface, ...] = ()
    networks: tuple[NetworkSeen, ...] = ()
    containers: tuple[ContainerSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class WireSeen:
    """A link of the lab: its ends as ``node:interface``. ``note``: what is wrong with it."""

    name: str
    first: str
    second: str
    up: bool
    note: str = ""

    def nodes(self) -> tuple[str, str]:
        """The names of the nodes at its ends."""
        return self.first.partition(":")[0], self.second.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it."""

    name: str
    nodes: tuple[NodeSeen, ...]
    wires: tuple[WireSeen, ...]

    def node(self, name: str) -> NodeSeen | None:
        """The node of that name."""
        return next((node for node in self.nodes if node.name == name), None)


@dataclass(frozen=True, slots=True)
class EngineSeen:
    """What an engine says: the inspect documents of the Engine API.

    ``namespaces``: paths of containers' network namespaces, by container id.
    """

    networks: Sequence[Mapping[str, Any]] = ()
    containers: Sequence[Mapping[str, Any]] = ()
    namespaces: Mapping[str, str] = field(default_factory=dict)


def look(
    lab: Lab,
    namespace_of: Callable[[str], str],
    engines_of: Callable[[str], Sequence[EngineSeen]],
    trouble_of: Callable[[str], str],
) -> Picture:
    """Look at a lab that is up.

    ``namespace_of``: a host's (or :data:`SWITCHES`') namespace; ``trouble_of``: what impairs a
    link, in words.

    :raises LabError: a namespace is gone.
    """
    nodes = [
        _host(host.name, "router" if host.router else "host", namespace_of, engines_of)
        for host in lab.hosts
    ]
    inside = interfaces(namespace_of(SWITCHES)) if lab.switches else ()
    for switch in lab.switches:
        own = (item for item in inside if switch.name in (item.name, item.master))
        nodes.append(NodeSeen(switch.name, "switch", tuple(own)))
    return Picture(lab.name, tuple(nodes), tuple(_wires(lab, nodes, trouble_of)))


def interfaces(namespace: str) -> tuple[Interface, ...]:
    """The interfaces of a namespace, as ``ip -j -d address`` tells them.

    :raises LabError: it is gone.
    """
    ended = subprocess.run(
        ["nsenter", f"--net={namespace}", "ip", "-j", "-d", "address"],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise LabError(f"{namespace}: {ended.stderr.strip() or 'cannot be entered'}")
    found = json.loads(ended.stdout or "[]")
    return tuple(_interface(item) for item in found if item.get("ifname") not in _HIDDEN)


def _interface(item: Mapping[str, Any]) -> Interface:
    addresses = (
        f"{address['local']}/{address['prefixlen']}"
        for address in item.get("addr_info", ())
        if address.get("scope") == "global"
    )
    info = item.get("linkinfo", {})
    return Interface(
        item["ifname"],
        info.get("info_kind", ""),
        "UP" in item.get("flags", ()) and item.get("operstate") != "DOWN",
        tuple(addresses),
        item.get("master", ""),
        _facts(info.get("info_kind", ""), info.get("info_data", {}), item),
    )


def _facts(kind: str, data: Mapping[str, Any], item: Mapping[str, Any]) -> str:
    match kind:
        case "vxlan":
            far = data.get("remote") or data.get("group") or ""
            return f"vxlan {data.get('id')}" + (f" to {far}" if far else "")
        case "vlan":
            return f"VLAN {data.get('id')} of {item.get('link', '?')}"
        case "macvlan" | "ipvlan" | "macvtap":
            return f"{kind} {data.get('mode', '')} of {item.get('link', '?')}".replace("  ", " ")
        case _:
            return ""


def _host(
    name: str,
    kind: str,
    namespace_of: Callable[[str], str],
    engines_of: Callable[[str], Sequence[EngineSeen]],
) -> NodeSeen:
    own = interfaces(namespace_of(name))
    bridges = {item.name for item in own if item.kind == "bridge"}
    networks: list[NetworkSeen] = []
    containers: list[ContainerSeen] = []
    for engine in engines_of(name):
        networks += _networks(engine, bridges)
        containers += _containers(engine)
    return NodeSeen(name, kind, own, tuple(networks), tuple(containers))


def _networks(engine: EngineSeen, bridges: set[str]) -> Iterator[NetworkSeen]:
    for document in engine.networks:
        bridge = (document.get("Options") or {}).get(_BRIDGE_NAME)
        bridge = bridge or f"br-{document['Id'][:_SHORT_ID]}"
        used = document.get("Driver") not in ("host", "null")
        if used:
            known = bridge if bridge in bridges else ""
            yield NetworkSeen(document["Name"], document["Driver"], known)


def _containers(engine: EngineSeen) -> Iterator[ContainerSeen]:
    for document in engine.containers:
        name = document["Name"].removeprefix("/")
        running = bool(document["State"]["Running"])
        path = engine.namespaces.get(document["Id"], "")
        found = interfaces(path) if running and path else ()
        yield ContainerSeen(name, running, tuple(_with_networks(document, found)))


def _with_networks(
    document: Mapping[str, Any], found: Sequence[Interface]
) -> Iterator[tuple[Interface, str]]:
    """Each interface with the network whose address it has."""
    joined: Mapping[str, Any] = document["NetworkSettings"]["Networks"] or {}
    by_address = {
        address: name
        for name, endpoint in joined.items()
        for address in (endpoint.get("IPAddress"), endpoint.get("GlobalIPv6Address"))
        if address
    }
    for item in found:
        plain = (address.partition("/")[0] for address in item.addresses)
        yield item, next((by_address[each] for each in plain if each in by_address), "")


def _wires(
    lab: Lab, nodes: Sequence[NodeSeen], trouble_of: Callable[[str], str]
) -> Iterator[WireSeen]:
    up = {f"{node.name}:{item.name}" for node in nodes for item in node.interfaces if item.up}
    for link in lab.links:
        first, second = map(str, link.ends)
        yield WireSeen(
            link.name, first, second, first in up and second in up, trouble_of(link.name)
        )
