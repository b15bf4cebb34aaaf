"""``cli.ls``: the command as a person waits for it."""

from __future__ import annotations

import os
import shutil

from livedaemon import PROGRAMS, run

from bench.measure import Metrics
from bench.stage import Peers


def measure(metrics: Metrics, peers: Peers) -> None:
    """Ours and Docker's, each with its own daemon."""
    command = shutil.which("docker") if peers.docker is not None else None
    for _ in range(peers.rounds):
        with metrics.timed("cli.ls", "cnm"):
            environment = {**os.environ, "CNM_HOST": peers.cnm.host}
            run(str(PROGRAMS / "net"), "ls", environment=environment)
        if command is not None and peers.docker is not None:
            with metrics.timed("cli.ls", "docker"):
                run(command, "-H", f"unix://{peers.docker.socket}", "network", "ls")
