"""A network namespace for a moment: to try what this kernel can, with nobody looking."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cnm.errors import KernelError
from cnm.runtime.kernel.netns import CLONE_NEWNET

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def in_scratch_namespace(fn: Callable[[], T]) -> T:
    """Call ``fn`` on a thread of its own in a new, empty network namespace.

    The namespace goes, with all that ``fn`` made in it, when the thread has ended and the
    sockets opened there are closed.

    :raises KernelError: EPERM: no right to make one.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="scratch namespace") as worker:
        worker.submit(_leave).result()
        return worker.submit(fn).result()


def _leave() -> None:
    if _libc.unshare(CLONE_NEWNET) != 0:
        raise KernelError(ctypes.get_errno(), "making a network namespace")
