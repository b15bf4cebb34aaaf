"""Where the nodes of a picture stand: in layers by their distance from its middle. Pure.

The middle is the switch (or router, or host) with the most links. Within a layer nodes
stand below their neighbours of the layer above (barycentre method, Sugiyama 1981), so that few
lines cross. Layers that are too wide are broken into rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_WIDEST_ROW = 1400  # pixels
_GAP_X, _GAP_Y = 36, 90
_MARGIN = 24


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in pixels, its upper left corner first."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


def place(
    sizes: Mapping[str, tuple[float, float]], links: Sequence[tuple[str, str]]
) -> dict[str, Box]:
    """A box of its size (width, height) for each node; none overlap."""
    placed: dict[str, Box] = {}
    y = float(_MARGIN)
    for row in _rows(_layers(sizes, links), sizes):
        width = sum(sizes[name][0] for name in row) + _GAP_X * (len(row) - 1)
        x = _MARGIN + max(0.0, (_widest(sizes) - width) / 2)
        for name in row:
            placed[name] = Box(x, y, *sizes[name])
            x += sizes[name][0] + _GAP_X
        y += max(sizes[name][1] for name in row) + _GAP_Y
    return placed


def extent(boxes: Mapping[str, Box]) -> tuple[float, float]:
    """Width and height of all of them, with a margin."""
    width = max((box.x + box.width for box in boxes.values()), default=0.0)
    height = max((box.y + box.height for box in boxes.values()), default=0.0)
    return width + _MARGIN, height + _MARGIN


def _widest(sizes: Mapping[str, tuple[float, float]]) -> float:
    everything = sum(width for width, _ in sizes.values()) + _GAP_X * (len(sizes) - 1)
    return min(everything, _WIDEST_ROW)


def _neighbours(names: Sequence[str], links: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in names}
    for first, second in links:
        if first in found and second in found and first != second:
            found[first].append(second)
            found[second].append(first)
    return found


def _layers(
    sizes: Mapping[str, tuple[float, float]], links: Sequence[tuple[str, str]]
) -> list[list[str]]:
    """Breadth first from the middle of each part that hangs together."""
    near = _neighbours(list(sizes), links)
    layers: list[list[str]] = []
    left = sorted(sizes, key=lambda name: -len(near[name]))
    seen: set[str] = set()
    for start in left:
        layer = [start] if start not in seen else []
        depth = 0
        while layer:
            seen.update(layer)
            while len(layers) <= depth:
                layers.append([])
            layers[depth] += layer
            found = dict.fromkeys(far for name in layer for far in near[name] if far not in seen)
            layer, depth = _below(list(found), layers[depth], near), depth + 1
    return layers


def _below(names: list[str], above: Sequence[str], near: Mapping[str, list[str]]) -> list[str]:
    order = {name: number for number, name in enumerate(above)}

    def centre(name: str) -> float:
        places = [order[far] for far in near[name] if far in order]
        return sum(places) / len(places) if places else 0.0

    return sorted(names, key=centre)


def _rows(
    layers: Sequence[Sequence[str]], sizes: Mapping[str, tuple[float, float]]
) -> list[list[str]]:
    rows: list[list[str]] = []
    for layer in layers:
        width = 0.0
        row: list[str] = []
        for name in layer:
            if row and width + sizes[name][0] > _WIDEST_ROW:
                rows.append(row)
                row, width = [], 0.0
            row.append(name)
            width += sizes[name][0] + _GAP_X
        rows.append(row)
    return rows
