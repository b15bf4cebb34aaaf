"""``build/bench.svg``: bars of the medians, each metric on a scale of its own."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bench.catalogue import CONTENDERS, METRICS
from bench.document import Document, Metric, median
from bench.table import TITLES, figure, verdict

_COLOURS = {
    "cnm": "#1b6ca8",
    "docker": "#e08a2e",
    "netavark": "#8a5aa8",
    "cni": "#9aa5b1",
    "floor": "#3f9142",
}
# pixels
_BAR, _GAP, _BETWEEN = 14, 3, 20
_LEFT, _WIDTH, _RIGHT, _TOP = 360, 420, 230, 70


def svg(document: Document) -> str:
    """The whole picture."""
    metrics: Sequence[Metric] = document["metrics"]
    width, top = _LEFT + _WIDTH + _RIGHT, _TOP
    parts = []
    for metric in metrics:
        bars = [name for name in CONTENDERS if name in metric]
        parts += _group(metric, bars, top)
        top += len(bars) * (_BAR + _GAP) + _BETWEEN
    size = f'width="{width}" height="{top}"'
    head = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {top}"'
            ' font-family="sans-serif" font-size="13">'
        ),
        f'<rect {size} fill="white"/>',
        *_legend(document),
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def _legend(document: Document) -> list[str]:
    machine = document["machine"]
    where = f"{machine['date']}, {machine['cpus']} CPUs, Linux {machine['kernel']}"
    parts = [f'<text x="10" y="25" fill="#555">{escape(where)}</text>']
    for number, name in enumerate(CONTENDERS):
        x = _LEFT + 125 * number
        parts.append(f'<rect x="{x}" y="13" width="12" height="12" fill="{_COLOURS[name]}"/>')
        parts.append(f'<text x="{x + 18}" y="24">{escape(TITLES[name])}</text>')
    return parts


def _group(metric: Metric, bars: Sequence[str], top: int) -> list[str]:
    middle = top + len(bars) * (_BAR + _GAP) / 2
    words, better = METRICS[metric["name"]].words, f"{metric['better']} is better"
    right = f'x="{_LEFT - 12}" text-anchor="end"'
    parts = [
        f'<text {right} y="{middle - 3:.0f}">{escape(words)}</text>',
        (
            f'<text {right} y="{middle + 12:.0f}" fill="#777" font-size="11">'
            f"{escape(metric['name'])}, {better}</text>"
        ),
    ]
    longest = max(median(metric, name) or 0.0 for name in bars) or 1.0
    for number, name in enumerate(bars):
        y = top + number * (_BAR + _GAP)
        parts += _bar(metric, name, y, longest)
    return parts


def _bar(metric: Metric, name: str, y: int, longest: float) -> list[str]:
    value = median(metric, name) or 0.0
    length = max(value / longest * _WIDTH, 1.0)
    label = f"{figure(value)} {metric['unit']}"
    weight = ""
    if name == "cnm":
        label, weight = f"{label}   {verdict(metric)}".rstrip(" –"), ' font-weight="bold"'
    return [
        f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{_COLOURS[name]}"/>',
        f'<text x="{_LEFT + length + 6:.1f}" y="{y + 12}"{weight}>{escape(label)}</text>',
    ]
