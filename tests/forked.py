"""Daemons on the second kernel: forked from the tests' own process, which has them imported.

Under emulation the imports of a daemon's start take 25 s, four tests have one, and two start it
again. What runs is the program from its first line on, on its own files and in its own
namespaces; what pytest has changed in the process is put back first. Here, each is a program
that is executed.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from typing import IO, NoReturn

from cnm.netlab import preloaded, syscalls

_POLL_S = 0.02


class Forked:
    """What tests use of :class:`subprocess.Popen`, for a daemon that was forked."""

    def __init__(self, words: Sequence[str], netns: str, log: IO[bytes]) -> None:
        """``words`` are the program's own, begun with its name."""
        self.args = list(words)
        self.returncode: int | None = None
        preloaded.load()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _become(words, netns, log)

    def poll(self) -> int | None:
        """As Popen's."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """As Popen's."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(_POLL_S)
        return status


def _become(words: Sequence[str], netns: str, log: IO[bytes]) -> NoReturn:
    try:
        with open(f"/run/netns/{netns}", "rb") as space:
            syscalls.setns(space.fileno(), syscalls.CLONE_NEWNET)
        null = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in enumerate((null, log.fileno(), log.fileno())):
            os.dup2(descriptor, number)
        os.chdir("/")
        _forget_pytest()
        preloaded.become(words, dict(os.environ))
    finally:
        os._exit(125)


def _forget_pytest() -> None:
    for number in (signal.SIGINT, signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    logging.getLogger().handlers.clear()
    warnings.resetwarnings()
    sys.stdin = open(0, encoding="utf-8", closefd=False)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", line_buffering=True)
        for number in (1, 2)
    )
