"""Processes on a host: run and waited for, or started to stay.

What is run is a child of ours, started by a thread that has gone into the host's namespaces
and never leaves. What stays is started by the spawner and is the child of the host's own first
process. It is found again by a file on the host: its number there and its start time.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cnm.netlab import spawner, syscalls
from cnm.netlab.errors import LabError

PIDS = "/run/.host/pids"
_FOREIGN = ("CNM_HOST", "DOCKER_HOST", "NETLAB")  # they would lead to the machine's daemons


class Inside:
    """The namespaces of a host, entered by a thread of its own."""

    def __init__(self, pid: int, netns: str) -> None:
        self._pid = pid
        self._netns = netns
        self._turn = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None

    def popen(self, command: Sequence[str], **options: object) -> subprocess.Popen[str]:
        """A process on the host, a child of ours; ``options`` are Popen's.

        :raises OSError: it cannot be run, or the host is gone.
        """
        with self._turn:
            if self._worker is None:
                worker = ThreadPoolExecutor(1, f"netlab {self._netns}")
                try:
                    worker.submit(self._enter).result()
                except BaseException:
                    worker.shutdown()
                    raise
                self._worker = worker
        return self._worker.submit(_popen, command, options).result()

    def close(self) -> None:
        """End the thread. Again is fine."""
        if self._worker is not None:
            self._worker.shutdown()
            self._worker = None

    def _enter(self) -> None:
        syscalls.unshare(syscalls.CLONE_FS)  # a mount namespace is entered by one thread only then
        spawner.enter_host(self._pid, self._netns)


def _popen(command: Sequence[str], options: Mapping[str, object]) -> subprocess.Popen[str]:
    return subprocess.Popen(list(command), text=True, **options)  # type: ignore[call-overload,no-any-return]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """For processes on a host: ours, with our own programs first in the path."""
    kept = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
    path = kept.get("PATH", "/usr/bin:/bin")
    programs = str(Path(sys.executable).parent)
    kept["PATH"] = f"{programs}:{path}:/usr/local/sbin:/usr/sbin:/sbin"
    kept.setdefault("HOME", "/root")
    return {**kept, **(extra or {})}


def pid_file(name: str) -> str:
    """Where a process that stays keeps its number, on the host."""
    return f"{PIDS}/{name}"


def running(root: Path, name: str) -> int | None:
    """The pid, as the host counts, of a process that was started to stay and still runs."""
    try:
        pid, start = (root / pid_file(name).lstrip("/")).read_text().split()
        stat = (root / "proc" / pid / "stat").read_text()
    except (OSError, ValueError):
        return None
    fields = stat.rpartition(")")[2].split()
    return int(pid) if fields[0] not in "ZX" and fields[19] == start else None


def outer_pid(holder: int, inner: int) -> int:
    """The pid that we see of a process that a host counts as ``inner``.

    :raises LabError: it is gone.
    """
    space = os.readlink(f"/proc/{holder}/ns/pid_for_children")
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{entry}/ns/pid") == space and _last_number(entry) == inner:
                return int(entry)
    raise LabError(f"process {inner} is gone")


def _last_number(entry: str) -> int:
    with open(f"/proc/{entry}/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return 0
