"""``daemon.restart1000``: killed, and started again with 1,000 endpoints to look after."""

from __future__ import annotations

import signal

from peers.cnmd import Cnmd

from bench.measure import Metrics
from bench.stage import POOL, Peers

_STARTS = 5
_CONTAINERS, _NETWORKS = 100, 10  # each container on each network


def measure(metrics: Metrics, peers: Peers) -> None:
    """A daemon of its own; from the start of the process until it answers."""
    with Cnmd("--default-address-pool", POOL) as daemon:
        _fill(daemon)
        for _ in range(min(_STARTS, peers.rounds)):
            daemon.send(signal.SIGKILL)
            daemon.wait_for_exit()
            with metrics.timed("daemon.restart1000", "cnm"):
                daemon.start()


def _fill(daemon: Cnmd) -> None:
    for number in range(_CONTAINERS):
        daemon.adopt(f"c{number}")
    for network in range(_NETWORKS):
        daemon.create(f"n{network}")
        for number in range(_CONTAINERS):
            daemon.connect(f"n{network}", f"c{number}")
