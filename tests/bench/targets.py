"""What we want to reach, and whether a run has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.catalogue import BATCH
from bench.document import Metric, best_peer, by_name, median

_TOLERANCE = 1e-9  # of floating point


@dataclass(frozen=True, slots=True)
class Target:
    """At most ``factor`` times what ``of`` needs; at most ``factor`` alone if it is nobody.

    Of a metric of which more is better: at least.
    """

    metric: str
    factor: float
    of: Literal["docker", "best peer", "floor", ""]
    words: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target beside the figures of a run."""

    target: Target
    unit: str
    better: Literal["lower", "higher"]
    bound: float
    value: float

    @property
    def reached(self) -> bool:
        if self.better == "higher":
            return self.value >= self.bound - _TOLERANCE
        return self.value <= self.bound + _TOLERANCE


TARGETS = (
    Target("network.create", 1 / 10, "docker", "a tenth of Docker's"),
    Target("network.rm", 1.3, "floor", "1.3 times the kernel's own"),
    Target("endpoint.attach", 1 / 5, "best peer", "a fifth of the fastest peer's"),
    Target("endpoint.detach", 1.3, "floor", "1.3 times the kernel's own"),
    Target(f"endpoint.detach.batch{BATCH}", 2.0 * BATCH, "", "2 ms each"),
    Target("container.run", 1 / 3, "docker", "a third of Docker's"),
    Target("ports.publish50", 10.0, "", "10 ms"),
    Target("ports.connect5000.ratio", 1.05, "", "what it takes through the only port"),
    Target("ports.publish10000th.ratio", 1.1, "", "what the 10th costs"),
    Target("dns.hot.qps", 2.0, "docker", "at least twice Docker's"),
    Target("dns.mixed.qps", 1.5, "docker", "at least 1.5 times Docker's"),
    Target("dns.local.p99", 1.0, "", "1 ms"),
    Target("daemon.resident", 90.0, "", "90 MB"),
    Target("cli.ls", 100.0, "", "100 ms"),
)


def outcomes(metrics: Sequence[Metric], targets: Sequence[Target] = TARGETS) -> Iterator[Outcome]:
    """Those whose figures, and whose yardstick, the run has."""
    found = by_name(metrics)
    for target in targets:
        metric = found.get(target.metric)
        value = median(metric, "cnm") if metric else None
        yardstick = _yardstick(metric, target) if metric else None
        if metric and value is not None and yardstick is not None:
            bound = target.factor * yardstick
            yield Outcome(target, metric["unit"], metric["better"], bound, value)


def _yardstick(metric: Metric, target: Target) -> float | None:
    if not target.of:
        return 1.0
    return best_peer(metric) if target.of == "best peer" else median(metric, target.of)
