"""``build/bench.json``: written, read, and what follows from its figures."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.catalogue import PEERS

Document = dict[str, Any]
Metric = dict[str, Any]

FILE = "bench.json"


def machine(versions: Mapping[str, str]) -> dict[str, object]:
    """What the figures depend on, and when they were taken."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": _after(Path("/proc/cpuinfo"), "model name", ":"),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "system": _after(Path("/etc/os-release"), "PRETTY_NAME", "="),
        "versions": dict(versions),
    }


def _after(file: Path, key: str, separator: str) -> str:
    """The value of a line ``key separator value``; a question mark if there is none."""
    for line in file.read_text().splitlines():
        name, found, value = line.partition(separator)
        if found and name.strip() == key:
            return value.strip().strip('"')
    return "?"


def write(folder: Path, document: Document) -> Path:
    """The file, made anew; its path."""
    folder.mkdir(exist_ok=True)
    path = folder / FILE
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def read(folder: Path) -> Document:
    """:raises FileNotFoundError: there was no run yet."""
    found: Document = json.loads((folder / FILE).read_text())
    return found


def median(metric: Metric, contender: str) -> float | None:
    """Nothing for who could not do it."""
    figures = metric.get(contender)
    return float(figures["median"]) if figures else None


def best_peer(metric: Metric) -> float | None:
    """The best median of all peers; the floor is none."""
    found = [value for name in PEERS if (value := median(metric, name)) is not None]
    if not found:
        return None
    return min(found) if metric["better"] == "lower" else max(found)


def advantage(metric: Metric, other: float | None) -> float | None:
    """How many times better than ``other`` we are; under 1: worse."""
    own = median(metric, "cnm")
    if not own or not other:
        return None
    return other / own if metric["better"] == "lower" else own / other


def by_name(metrics: Sequence[Metric]) -> dict[str, Metric]:
    """The metrics of a document by their names."""
    return {metric["name"]: metric for metric in metrics}
