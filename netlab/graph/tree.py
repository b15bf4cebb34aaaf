"""A picture as text: a tree for each node, for terminals and logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnm.netlab.graph.picture import ContainerSeen, Interface, NodeSeen, Picture, WireSeen


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    below: tuple[_Line, ...] = ()


def draw(picture: Picture) -> str:
    """The whole lab, ended by a line feed."""
    lines = [f"lab {picture.name}"]
    for node in picture.nodes:
        lines.append(f"{node.kind} {node.name}")
        lines += _drawn(list(_of_node(node, picture)), "")
    return "\n".join([*lines, ""])


def _drawn(items: Sequence[_Line], indent: str) -> Iterator[str]:
    for number, item in enumerate(items):
        last = number == len(items) - 1
        yield f"{indent}{'└─ ' if last else '├─ '}{item.text}"
        yield from _drawn(item.below, indent + ("   " if last else "│  "))


def _of_node(node: NodeSeen, picture: Picture) -> Iterator[_Line]:
    ends = {end: wire for wire in picture.wires for end in (wire.first, wire.second)}
    bridges = {network.bridge for network in node.networks if network.bridge}
    for item in node.interfaces:
        if item.name == node.name and node.kind == "switch":
            continue  # the switch itself
        wire = ends.get(f"{node.name}:{item.name}")
        if wire is not None:
            yield _Line(_plugged(node, item, wire))
        elif item.name not in bridges and not _is_containers_port(item, node):
            yield _Line(_interface(item))
    for network in node.networks:
        bridge = next((item for item in node.interfaces if item.name == network.bridge), None)
        members = tuple(_members(node, network.name))
        what = f" on {network.bridge}" if network.bridge else ""
        text = f"network {network.name} ({network.note}){what}{_addresses(bridge)}"
        yield _Line(text, members)
    for container in node.containers:
        if not any(name for _, name in container.interfaces):
            yield _Line(f"container {container.name}{_state(container)}")


def _is_containers_port(item: Interface, node: NodeSeen) -> bool:
    """The host's side of a container's veth: what is at its other end is drawn."""
    return bool(item.master) and item.master in {network.bridge for network in node.networks}


def _members(node: NodeSeen, network: str) -> Iterator[_Line]:
    for container in node.containers:
        for item, name in container.interfaces:
            if name == network:
                yield _Line(f"{container.name}  {item.name}{_addresses(item)}{_state(container)}")


def _plugged(node: NodeSeen, item: Interface, wire: WireSeen) -> str:
    own = f"{node.name}:{item.name}"
    far = wire.second if own == wire.first else wire.first
    trouble = [] if wire.up else ["down"]
    trouble += [wire.note] if wire.note else []
    master = f" in {item.master}" if item.master and item.master != node.name else ""
    what = f"  [{'; '.join(trouble)}]" if trouble else ""
    return f"{item.name}{master}{_addresses(item)} ── {far}{what}"


def _interface(item: Interface) -> str:
    kind = f" ({item.note or item.kind})" if item.note or item.kind else ""
    master = f" in {item.master}" if item.master else ""
    return f"{item.name}{kind}{master}{_addresses(item)}{'' if item.up else '  [down]'}"


def _addresses(item: Interface | None) -> str:
    return "".join(f" {address}" for address in item.addresses) if item else ""


def _state(container: ContainerSeen) -> str:
    return "" if container.running else "  [not running]"
