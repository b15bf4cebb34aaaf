"""A host for peers that are programs, not daemons: a namespace, and workers inside it.

A program is started from a thread that lives in the host's namespace, so that nothing of
the machine changes and no ``nsenter`` (1 ms) is counted with it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import freshnetns
from livedaemon import COMMAND_TIMEOUT_S, run

from cnm.runtime.kernel.netns import NetNS

_numbers = itertools.count(1)


class Host:
    """One network namespace that stands for a host, and ``containers`` beside it."""

    def __init__(self, name: str, containers: int) -> None:
        self._stack = ExitStack()
        own = f"cnmp-{os.getpid()}-{next(_numbers)}-{name}"
        self.folder = Path(tempfile.mkdtemp(prefix="cnmp-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            self.netns = self._namespace(own)
            self.containers = [self._namespace(f"{own}-{number}") for number in range(containers)]
            run("ip", "-n", self.netns, "link", "set", "lo", "up")
            # a worker for each, so that several programs run side by side
            self._workers = [self._worker() for _ in range(max(containers, 1))]
        except BaseException:
            self._stack.close()
            raise

    @staticmethod
    def path(netns: str) -> str:
        """Where a namespace is found."""
        return f"/run/netns/{netns}"

    def program(
        self,
        command: Sequence[str],
        given: str,
        environment: Mapping[str, str] | None = None,
        worker: int = 0,
    ) -> str:
        """A program to its end, inside the host; what it printed.

        :raises AssertionError: it failed; the text is what it said.
        """
        done = self._workers[worker].run(
            lambda: subprocess.run(
                command,
                input=given,
                env=environment,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        )
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete the namespaces, and with them all that was made in them."""
        self._stack.close()

    def _namespace(self, name: str) -> str:
        freshnetns.add(name)
        self._stack.callback(run, "ip", "netns", "delete", name)
        return name

    def _worker(self) -> NetNS:
        return self._stack.enter_context(NetNS(self.path(self.netns)))
