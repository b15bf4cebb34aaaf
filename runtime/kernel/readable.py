"""Waiting for one descriptor, whatever its number."""

from __future__ import annotations

import select


def is_readable(descriptor: int, within_s: float) -> bool:
    """Whether there is something to read in time; of a pidfd: whether the process has ended.

    Not by select(2), which knows the first 1024 descriptors only: a daemon may have more.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(within_s * 1000))
