"""Short visits of a process with a single thread to other network namespaces.

:class:`cnm.runtime.kernel.netns.NetNS` has a thread for each namespace that never leaves it.
A resident process that makes a socket in any of a thousand namespaces, ten thousand times a
second, cannot afford that: a visit costs 2 µs, a change of threads 50. It is safe for a
process with one thread only: nothing else can run between going and coming back.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000  # sched.h
_LOST = 70  # sysexits.h, EX_SOFTWARE

_libc = ctypes.CDLL(None, use_errno=True)


class Home:
    """The namespace of the calling thread, to which each visit returns."""

    def __init__(self) -> None:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._identity = _identity(self._home)

    def visit(self, descriptor: int, work: Callable[[], T]) -> T:
        """Call ``work`` inside the namespace of ``descriptor`` and hand back what it returns.

        If there is no way back the process ends at once, with a line on its standard error: it
        must not serve anybody from a namespace where it does not belong.

        :raises OSError: it cannot be entered (EBADF, EINVAL: no network namespace; EPERM).
        """
        if self._home < 0:
            raise OSError(errno.EBADF, "visits have ended")
        try:
            if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, f"entering a network namespace: {os.strerror(number)}")
            return work()
        finally:
            if _libc.setns(self._home, _CLONE_NEWNET) != 0:
                _end(ctypes.get_errno())

    def is_here(self, descriptor: int) -> bool:
        """Whether it is the namespace that visits start from.

        :raises OSError: EBADF.
        """
        return _identity(descriptor) == self._identity

    def close(self) -> None:
        """No visits any more. Again is fine."""
        if self._home >= 0:
            os.close(self._home)
            self._home = -1


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _end(number: int) -> None:
    text = f"cannot return to our own network namespace: {os.strerror(number)}; ending\n"
    try:
        os.write(2, text.encode())
    finally:
        os._exit(_LOST)
