"""What the C library is told about memory."""

from __future__ import annotations

import ctypes
import logging

log = logging.getLogger(__name__)

_M_ARENA_MAX = -8  # mallopt(3)


def one_arena() -> None:
    """Before the first thread starts: all threads allocate from one arena of malloc's.

    glibc gives each of the first sixteen (on two CPUs) one of its own, of which each keeps
    what its thread once needed: 6 MB after thirty requests at once. What Python
    allocates, it allocates one thread at a time anyway.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not mallopt(_M_ARENA_MAX, 1):
        log.debug("the C library knows nothing of arenas")


def give_back() -> None:
    """Free memory returns to the kernel, in the middle of the heap too (malloc_trim(3)).

    Otherwise what one large request took once, 14 MB for 5,000 ports, stays for ever.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
