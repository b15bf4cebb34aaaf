"""The verbs of networks and endpoints: create, attach, detach, one and thirty at once, remove."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.catalogue import BATCH
from bench.contenders import Contender
from bench.measure import Metrics
from bench.stage import Peers

_BATCHES = 5  # of Docker's and netavark's each takes seconds


def measure(metrics: Metrics, peers: Peers) -> None:
    """Everybody in turn, round after round, so that drift of the machine hits all alike."""
    for contender in peers.contenders:
        _round(Metrics(), contender, with_batch=False)  # warm
    for number in range(peers.rounds):
        for contender in peers.contenders:
            _round(metrics, contender, with_batch=number < _BATCHES)


def _round(metrics: Metrics, contender: Contender, *, with_batch: bool) -> None:
    with _clock(metrics, "network.create", contender):
        contender.create()
    with _clock(metrics, "endpoint.attach", contender):
        contender.attach(0)
    with _clock(metrics, "endpoint.detach", contender):
        contender.detach(0)
    if with_batch:
        contender.attach_all()
        with _clock(metrics, f"endpoint.detach.batch{BATCH}", contender):
            contender.detach_all()
    with _clock(metrics, "network.rm", contender):
        contender.remove()


@contextmanager
def _clock(metrics: Metrics, name: str, contender: Contender) -> Iterator[None]:
    if name in contender.lacks:
        yield
        return
    with metrics.timed(name, contender.name):
        yield
