"""A picture as SVG: a box for each node with its networks and containers, lines for the links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from cnm.netlab.graph.layout import Box, extent, place
from cnm.netlab.graph.picture import Interface, NodeSeen, Picture, WireSeen

_FONT = "13px ui-monospace, 'DejaVu Sans Mono', monospace"
_CHARACTER, _LINE = 7.9, 19  # pixels of that font
_PAD = 12
_COLOURS = {
    "host": ("#eef4fb", "#3d6ea5"),
    "router": ("#fbf3e6", "#b0741c"),
    "switch": ("#eef7ee", "#3f8a4c"),
}
_STYLE = f"""text{{font:{_FONT};fill:#1d2733}} .title{{font-weight:bold}} .quiet{{fill:#5b6b7b}}
.network{{fill:#3d6ea5;font-weight:bold}} .trouble{{fill:#b3261e}}
.wire{{stroke:#5b6b7b;stroke-width:2;fill:none}} .down{{stroke:#b3261e;stroke-dasharray:6 5}}"""


class _Text(NamedTuple):
    text: str
    style: str = ""
    indent: int = 0


def draw(picture: Picture) -> str:
    """The whole document."""
    texts = {node.name: list(_lines(node, picture)) for node in picture.nodes}
    sizes = {name: _size(lines) for name, lines in texts.items()}
    boxes = place(sizes, [wire.nodes() for wire in picture.wires])
    width, height = extent(boxes)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">'
        ),
        f"<title>{escape(f'lab {picture.name}')}</title>",
        f"<style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    drawn: Counter[frozenset[str]] = Counter()
    for wire in picture.wires:
        parts += _wire(wire, boxes, drawn[frozenset(wire.nodes())])
        drawn[frozenset(wire.nodes())] += 1
    for node in picture.nodes:
        parts += _box(boxes[node.name], node.kind, texts[node.name])
    parts += [text for wire in picture.wires for text in _labels(wire, boxes)]
    return "\n".join([*parts, "</svg>", ""])


def _lines(node: NodeSeen, picture: Picture) -> Iterator[_Text]:
    yield _Text(f"{node.name}", "title")
    plugged = {end for wire in picture.wires for end in (wire.first, wire.second)}
    bridges = {network.bridge for network in node.networks}
    if node.kind != "switch":
        for item in node.interfaces:
            hidden = item.name in bridges or item.master in bridges
            if f"{node.name}:{item.name}" in plugged or not hidden:
                yield _Text(_interface(item), "quiet")
    for network in node.networks:
        bridge = next((item for item in node.interfaces if item.name == network.bridge), None)
        members = [
            _Text(f"{container.name} {' '.join(item.addresses)}", "", 1)
            for container in node.containers
            for item, name in container.interfaces
            if name == network.name
        ]
        if members or network.name != "bridge":  # the default network is on every host
            addresses = " ".join(bridge.addresses) if bridge else ""
            yield _Text(f"{network.name} ({network.note}) {addresses}".rstrip(), "network")
            yield from members


def _interface(item: Interface) -> str:
    note = f" {item.note}" if item.note else ""
    return f"{item.name}{note} {' '.join(item.addresses)}".rstrip()


def _size(lines: Sequence[_Text]) -> tuple[float, float]:
    longest = max(len(line.text) + 2 * line.indent for line in lines)
    return longest * _CHARACTER + 2 * _PAD, len(lines) * _LINE + 2 * _PAD - 4


def _box(box: Box, kind: str, lines: Sequence[_Text]) -> Iterator[str]:
    fill, edge = _COLOURS[kind]
    yield (
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" '
        f'rx="7" fill="{fill}" stroke="{edge}" stroke-width="1.5"/>'
    )
    for number, line in enumerate(lines):
        x = box.x + _PAD + line.indent * 2 * _CHARACTER
        y = box.y + _PAD + 11 + number * _LINE
        style = f' class="{line.style}"' if line.style else ""
        yield f'<text x="{x:.1f}" y="{y:.1f}"{style}>{escape(line.text)}</text>'


def _wire(wire: WireSeen, boxes: dict[str, Box], beside: int) -> Iterator[str]:
    """``beside``: links between the same two nodes that are drawn already."""
    first, second = (boxes[name] for name in wire.nodes())
    (x1, y1), (x2, y2) = first.middle, second.middle
    bend = (beside + 1) // 2 * 36 * (1 if beside % 2 else -1)
    style = "wire" if wire.up and "cut" not in wire.note else "wire down"
    yield (
        f'<path class="{style}" d="M{x1:.1f},{y1:.1f} Q{(x1 + x2) / 2 + bend:.1f},'
        f'{(y1 + y2) / 2:.1f} {x2:.1f},{y2:.1f}"><title>{escape(wire.name)}</title></path>'
    )


def _labels(wire: WireSeen, boxes: dict[str, Box]) -> Iterator[str]:
    """What is wrong with a link, at its middle, between the boxes."""
    note = wire.note or ("" if wire.up else "down")
    if not note:
        return
    first, second = (boxes[name] for name in wire.nodes())
    upper, lower = (first, second) if first.y <= second.y else (second, first)
    x = (upper.middle[0] + lower.middle[0]) / 2
    y = (upper.y + upper.height + lower.y) / 2
    yield (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" class="trouble">'
        f"{escape(f'{wire.name}: {note}')}</text>"
    )
