"""What a run leaves: a table on the terminal, ``build/bench.json``, ``build/bench.svg``."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bench.measure import CONTENDERS, Metric

COLOURS = {"cnm": "#1b6ca8", "docker": "#9aa5b1", "floor": "#3f9142"}
_ROW, _BAR, _LEFT, _WIDTH, _RIGHT = 66, 16, 190, 460, 120  # pixels


def machine() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "system": _system_name(),
    }


def _system_name() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.split("=")[1].strip('"') for line in lines if line.startswith("PRETTY_NAME="))


def table(metrics: Sequence[Metric]) -> str:
    """Medians; ``docker/cnm``: how many times longer Docker takes; ``cnm/floor``: our overhead."""
    head = f"{'metric':<24}{'unit':>6}" + "".join(f"{name:>10}" for name in CONTENDERS)
    lines = [head + f"{'docker/cnm':>13}{'cnm/floor':>12}"]
    for metric in metrics:
        cnm, docker, floor = (metric.median(name) for name in CONTENDERS)
        figures = "".join(f"{_figure(value):>10}" for value in (cnm, docker, floor))
        ratios = f"{_ratio(docker, cnm):>13}{_ratio(cnm, floor):>12}"
        lines.append(f"{metric.name:<24}{metric.unit:>6}{figures}{ratios}")
    return "\n".join(lines)


def write(folder: Path, metrics: Sequence[Metric], scaling: dict[str, object]) -> None:
    """Both files, made anew."""
    folder.mkdir(exist_ok=True)
    document = {
        "machine": machine(),
        "metrics": [metric.document() for metric in metrics],
        "scaling": scaling,
    }
    (folder / "bench.json").write_text(json.dumps(document, indent=2) + "\n")
    (folder / "bench.svg").write_text(plot(metrics))


def plot(metrics: Sequence[Metric]) -> str:
    """Bars of the medians, each metric on a scale of its own."""
    height = 50 + _ROW * len(metrics)
    width = _LEFT + _WIDTH + _RIGHT
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
        f'<rect {size} fill="white"/>',
    ]
    for number, name in enumerate(CONTENDERS):
        x = _LEFT + 110 * number
        parts.append(f'<rect x="{x}" y="14" width="12" height="12" fill="{COLOURS[name]}"/>')
        parts.append(f'<text x="{x + 18}" y="25">{name}</text>')
    for number, metric in enumerate(metrics):
        parts += _bars(metric, 46 + _ROW * number)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bars(metric: Metric, top: int) -> list[str]:
    medians = {name: value for name in CONTENDERS if (value := metric.median(name)) is not None}
    longest = max(medians.values())
    parts = [
        f'<text x="{_LEFT - 10}" y="{top + 28}" text-anchor="end">{escape(metric.name)}</text>'
    ]
    for number, (name, value) in enumerate(medians.items()):
        y, length = top + number * (_BAR + 2), max(value / longest * _WIDTH, 1)
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}"'
            f' fill="{COLOURS[name]}"/>'
        )
        label = f"{_figure(value)} {metric.unit}"
        parts.append(f'<text x="{_LEFT + length + 6:.1f}" y="{y + 13}">{label}</text>')
    return parts


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _ratio(above: float | None, below: float | None) -> str:
    return f"{above / below:.1f}x" if above and below else "–"
