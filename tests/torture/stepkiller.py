"""Kills a process at its Nth kernel step, whichever of its threads makes it.

strace's own ``inject=…:signal=SIGKILL:when=N`` counts each thread apart, and a verb's
steps are spread over threads (one for each namespace, one for each request): it would
leave gaps. So strace only delays every step at its entry, having announced it, and the
kill comes from here while the process is held there. A killed process never carries
out the step at which it is held.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from types import TracebackType
from typing import Self

# What changes something outside the process: netlink, mounts, the database, /proc/sys,
# answers to clients.
STEPS = "sendto,sendmsg,mount,umount2,fdatasync,fsync,pwrite64,write"
HELD_MICROSECONDS = 10_000  # reader and kill take about 1 ms, more with all workers busy
ATTACH_TIMEOUT_S = 20.0


class StepKiller:
    """From ``with`` to its end the steps of ``pid`` are counted; at ``when`` it is killed.

    ``when`` 0 only counts. ``follow``: the steps of all its threads. Afterwards ``steps`` tells how
    many there were, the one at which it was killed included, and ``names`` which.
    """

    def __init__(self, pid: int, when: int, steps: str = STEPS, *, follow: bool = True) -> None:
        entry = rb"^(?:\[pid +\d+\] )?(%s)\(" % steps.replace(",", "|").encode()
        self._entry = re.compile(entry, re.M)
        self.names: list[str] = []
        self.killed = False
        self._pid = pid
        self._when = when
        self._attached = threading.Event()
        self._text = b""
        self._reader = threading.Thread(target=self._read, name="stepkiller")
        # -s 0: contents of strings could look like calls
        self._strace = subprocess.Popen(
            [
                *("strace", *(["-f"] if follow else []), "-s", "0", "-p", str(pid)),
                *("-e", f"trace={steps}", "-e", "signal=none"),
                *("-e", f"inject={steps}:delay_enter={HELD_MICROSECONDS}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    @property
    def steps(self) -> int:
        return len(self.names)

    def __enter__(self) -> Self:
        self._reader.start()
        if not self._attached.wait(ATTACH_TIMEOUT_S):
            self._end()
            raise TimeoutError(f"strace does not attach: {self._text.decode()[-500:]}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        # By SIGKILL: asked to end while it holds a thread of a dying process, strace 6.1 may
        # wait for ever. The kernel lets go whom a dead tracer held.
        self._strace.kill()
        self._reader.join()
        self._strace.wait()

    def _read(self) -> None:
        assert self._strace.stderr is not None
        with self._strace.stderr as stream:
            while chunk := os.read(stream.fileno(), 65536):
                self._text += chunk
                if b" attached" in self._text:
                    self._attached.set()
                if not self.killed:
                    self._count()

    def _count(self) -> None:
        self.names = [match.decode() for match in self._entry.findall(self._text)]
        if self._when and len(self.names) >= self._when:
            os.kill(self._pid, signal.SIGKILL)
            self.killed = True
