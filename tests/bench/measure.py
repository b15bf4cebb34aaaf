"""Figures: how they are taken and what is kept of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

CONTENDERS = ("cnm", "docker", "floor")


@dataclass
class Metric:
    """One name in ``build/bench.json``; lower is better for all of them."""

    name: str
    unit: str
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, contender: str, value: float) -> None:
        self.samples.setdefault(contender, []).append(value)

    def median(self, contender: str) -> float | None:
        values = self.samples.get(contender)
        return statistics.median(values) if values else None

    def document(self) -> dict[str, object]:
        """As ``build/bench.json`` has it; who could not do it is absent."""
        figures = {
            contender: {
                "median": round(statistics.median(values), 3),
                "min": round(min(values), 3),
                "max": round(max(values), 3),
                "runs": len(values),
            }
            for contender, values in self.samples.items()
        }
        return {"name": self.name, "unit": self.unit, "better": "lower", **figures}


class Metrics:
    """All of a run, in the order in which they were first measured."""

    def __init__(self) -> None:
        self.all: dict[str, Metric] = {}

    def add(self, name: str, contender: str, value: float, unit: str = "ms") -> None:
        self.all.setdefault(name, Metric(name, unit)).add(contender, value)

    @contextmanager
    def timed(self, name: str, contender: str) -> Iterator[None]:
        """Milliseconds that the block takes."""
        started = time.perf_counter()
        yield
        self.add(name, contender, (time.perf_counter() - started) * 1e3)


def at_once(calls: Sequence[Callable[[], object]]) -> None:
    """All calls side by side; the first error is raised."""
    with ThreadPoolExecutor(len(calls)) as pool:
        for future in [pool.submit(call) for call in calls]:
            future.result()


def steps(count: int, call: Callable[[int], object]) -> list[float]:
    """Milliseconds of each of ``count`` calls."""
    taken = []
    for number in range(count):
        started = time.perf_counter()
        call(number)
        taken.append((time.perf_counter() - started) * 1e3)
    return taken


def growth(taken: Sequence[float]) -> tuple[float, float]:
    """Medians of the first and the last ten steps."""
    return statistics.median(taken[:10]), statistics.median(taken[-10:])
