"""What the C library is told about memory, before the first thread starts."""

from __future__ import annotations

import ctypes
import logging

log = logging.getLogger(__name__)

_M_ARENA_MAX = -8  # mallopt(3)


def one_arena() -> None:
    """All threads allocate from one arena of malloc's.

    glibc gives each of the first sixteen (on two CPUs) one of its own, of which each keeps
    what its thread once needed: 6 MB after thirty requests at once. What Python
    allocates, it allocates one thread at a time anyway.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not mallopt(_M_ARENA_MAX, 1):
        log.debug("the C library knows nothing of arenas")
