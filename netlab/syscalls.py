"""System calls that Python 3.11 does not offer: namespaces, mounts, a process's own words.

Thin: each raises OSError with the errno and what was asked. Used between fork and exec too,
so nothing here takes a lock.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

CLONE_FS = 0x00000200  # sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_BIND = 0x1000  # mount(2)
MS_REC = 0x4000
MS_SLAVE = 1 << 19
MNT_DETACH = 2  # umount2(2)

_PR_SET_NAME = 15  # prctl(2)
_ARGUMENTS = (45, 46)  # arg_start and arg_end in proc(5)'s stat, behind the name

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(descriptor: int, flags: int) -> None:
    """setns(2); with a pidfd, all the namespaces of ``flags`` at once (Linux 5.8)."""
    _check(_libc.setns(descriptor, ctypes.c_int(flags)), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(result, f"mount {kind or source} on {target}")


def unmount(target: str) -> None:
    """umount2(2), lazily."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"unmount {target}")


def show_command_line(words: Sequence[str]) -> None:
    """Be this command in the list of processes; the name is that of the first word.

    It is written over the words that the process was started with, and cut where they ended:
    to point elsewhere (PR_SET_MM) needs a capability that root in a container has not.
    """
    _check(_libc.prctl(_PR_SET_NAME, os.fsencode(os.path.basename(words[0]))), "prctl")
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = (int(fields[number]) for number in _ARGUMENTS)
    text = b"".join(os.fsencode(word) + b"\0" for word in words)
    ctypes.memmove(start, text[: end - start - 1].ljust(end - start, b"\0"), end - start)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
