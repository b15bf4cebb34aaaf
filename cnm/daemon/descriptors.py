"""File descriptors: as many as the system allows, and clients never take the last ones.

A daemon without descriptors cannot look at the kernel, so clients are turned away long
before. The kernel gives the lowest number that is free: a high number tells that most are
taken, whoever has them, without a count.
"""

from __future__ import annotations

import logging
import resource
import time
from typing import Any

log = logging.getLogger(__name__)

_WANTED = 1 << 20  # what container engines run with; more costs kernel memory for nothing
_CLIENTS_SHARE = 0.5  # of the descriptors, at most; the rest is for namespaces and netlink
CLIENTS_MAX = 4096  # connections; an idle one takes about 10 kB
_TOLD_EVERY_S = 60.0


def raise_limit() -> None:
    """Have the highest limit that this process may set itself.

    Children are started with it; containers have limits of their own where these are asked for.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def scarce(descriptor: int) -> bool:
    """Whether so few are left that the client that got this one is better turned away."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft != resource.RLIM_INFINITY and descriptor >= soft * _CLIENTS_SHARE


class Complaints:
    """Tells about clients that cannot be served, once a minute and not once for each."""

    def __init__(self) -> None:
        self._told_s = -_TOLD_EVERY_S
        self._untold = 0

    def tell(self, what: str) -> None:
        """One line in the log, or none."""
        now = time.monotonic()
        if now - self._told_s < _TOLD_EVERY_S:
            self._untold += 1
            return
        more = f" ({self._untold} more since the last line)" if self._untold else ""
        log.error("%s%s", what, more)
        self._told_s, self._untold = now, 0

    def accept_failed(self, context: dict[str, Any]) -> bool:
        """Whether asyncio's complaint is about an accept; then it has been told.

        asyncio tries again after a second, by itself.
        """
        error = context.get("exception")
        if "socket" not in context or not isinstance(error, OSError):
            return False
        self.tell(f"clients wait: accept: {error.strerror}")
        return True
