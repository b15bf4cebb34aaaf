"""The run: every measuring module in turn, on one stage."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Collection
from typing import Protocol, cast

from bench.document import Document, machine
from bench.measure import Metrics
from bench.scaling import measure_growth
from bench.stage import Peers

# Each is a module here with `measure(metrics, peers)`. The resident one comes late: a
# daemon's memory counts after work; but before thousands of ports, which no peer publishes.
# Those that are not there yet are left out.
MODULES = (
    "verbs",
    "containers",
    "dns",
    "throughput",
    "listing",
    "resident",
    "ports",
    "restart",
    "scaling",
)


class Measuring(Protocol):
    """What a measuring module has."""

    def measure(self, metrics: Metrics, peers: Peers) -> None: ...


def run(
    rounds: int,
    *,
    only: Collection[str] = (),
    with_docker: bool = True,
    say: Callable[[str], None] = print,
) -> Document:
    """Measure, and give the document that ``build/bench.json`` holds."""
    metrics = Metrics()
    with Peers(rounds, with_docker=with_docker) as peers:
        say("beside us: " + ", ".join(item.name for item in peers.contenders[1:]))
        about = machine(peers.versions())
        for name in MODULES:
            if name != "scaling" and (not only or name in only) and _is_there(name):
                started = time.perf_counter()
                module = cast(Measuring, importlib.import_module(f"bench.{name}"))
                module.measure(metrics, peers)
                say(f"{name}: {time.perf_counter() - started:.0f} s")
    scaling = measure_growth() if not only or "scaling" in only else {}
    return {"machine": about, "metrics": metrics.documents(), "scaling": scaling}


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(f"bench.{name}") is not None
