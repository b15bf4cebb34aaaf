"""Figures: how they are taken and what is kept of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.catalogue import CONTENDERS, METRICS, About

_DIGITS = 3  # of a figure in bench.json
_IN_A_SECOND = {"ms": 1e3, "s": 1.0}


@dataclass
class Metric:
    """One name in ``build/bench.json``."""

    about: About
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, contender: str, value: float) -> None:
        self.samples.setdefault(contender, []).append(value)

    def document(self) -> dict[str, object]:
        """As ``build/bench.json`` has it; who could not do it is absent."""
        figures = {
            contender: _figures(self.samples[contender])
            for contender in CONTENDERS
            if contender in self.samples
        }
        about = self.about
        return {"name": about.name, "unit": about.unit, "better": about.better, **figures}


def _figures(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), _DIGITS),
        "min": round(min(values), _DIGITS),
        "max": round(max(values), _DIGITS),
        "runs": len(values),
    }


class Metrics:
    """All of a run, in the order of the catalogue."""

    def __init__(self) -> None:
        self._all: dict[str, Metric] = {}

    def add(self, name: str, contender: str, value: float) -> None:
        """One more figure, in the unit of the catalogue.

        :raises KeyError: the catalogue has no such metric.
        :raises ValueError: nobody of that name is compared.
        """
        about = METRICS[name]
        if contender not in CONTENDERS:
            raise ValueError(f"no contender {contender}")
        self._all.setdefault(name, Metric(about)).add(contender, value)

    @contextmanager
    def timed(self, name: str, contender: str) -> Iterator[None]:
        """How long the block takes; what fails is not counted."""
        scale = _IN_A_SECOND[METRICS[name].unit]
        started = time.perf_counter()
        yield
        self.add(name, contender, (time.perf_counter() - started) * scale)

    def documents(self) -> list[dict[str, object]]:
        """What was measured, as ``build/bench.json`` has it."""
        return [self._all[name].document() for name in METRICS if name in self._all]


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
