"""``container.run``: create and start a container on one bridge network, until it runs.

The container's first instruction opens a FIFO of the host's, bound into it, and writes. The
clock stops when that has come and the start was answered.
"""

from __future__ import annotations

import os
import select
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from peers.api import Api

from bench.measure import Metrics
from bench.stage import IMAGE, Peers

_NETWORK = "bench-run"
_WITHIN_S = 20.0


def measure(metrics: Metrics, peers: Peers) -> None:
    """Us, Docker, and the floor: namespaces, a pair, a process."""
    for _, api in peers.engines():
        api.call("POST", "/networks/create", {"Name": _NETWORK})
    peers.floor.create()
    try:
        _rounds(Metrics(), peers, 1)  # warm: the first run starts our supervisor
        _rounds(metrics, peers, peers.rounds)
    finally:
        peers.floor.remove()
        for _, api in peers.engines():
            api.call("DELETE", f"/networks/{_NETWORK}")


def _rounds(metrics: Metrics, peers: Peers, count: int) -> None:
    for _ in range(count):
        for name, api in peers.engines():
            _run(metrics, name, api)
        with Word() as word, metrics.timed("container.run", "floor"):
            peers.floor.run(word.fifo)
            word.wait()


def _run(metrics: Metrics, name: str, api: Api) -> None:
    with Word() as word:
        wish = {
            "Image": IMAGE,
            "Cmd": ["/bin/sh", "-c", f"echo >/bench/{word.fifo.name}"],
            "HostConfig": {"NetworkMode": _NETWORK, "Binds": [f"{word.fifo.parent}:/bench"]},
        }
        with metrics.timed("container.run", name):
            identity = api.call("POST", "/containers/create", wish)["Id"]
            api.call("POST", f"/containers/{identity}/start")
            word.wait()
        api.call("DELETE", f"/containers/{identity}?force=1")


class Word:
    """A FIFO, open for reading, that a container writes to."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="cnmb-")
        self.fifo = Path(self._folder.name, "word")
        os.mkfifo(self.fifo)
        self._reader = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._reader)
        self._folder.cleanup()

    def wait(self) -> None:
        """:raises TimeoutError: nobody wrote."""
        ready, _, _ = select.select([self._reader], [], [], _WITHIN_S)
        if not ready or not os.read(self._reader, 16):
            raise TimeoutError("the container does not run")
