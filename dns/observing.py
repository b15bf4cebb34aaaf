"""What the resolver process tells of itself: counters, and the query log to who reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnm.dns import logline
from cnm.dns.querylog import QueryLog, Reader
from cnm.dns.statistics import Counters, ForwardingCounters
from cnm.runtime.kernel.loop import Loop
from cnm.runtime.kernel.service import Connection

_GATHER_S = 0.05  # entries are sent together: a reader must not be woken for each
_AT_ONCE = 200  # entries of one message: 60 kB at most
_FULL_S = 0.2  # before the next try to send to a reader that does not read


class LogStreams:
    """Connections that the query log is sent to.

    ``watch`` is called with whether anybody reads, when that changes.
    """

    def __init__(self, loop: Loop, log: QueryLog, watch: Callable[[bool], None]) -> None:
        self._loop = loop
        self._log = log
        self._watch = watch

    def open(self, connection: Connection, sandbox_id: str | None) -> None:
        """Send the queries of a sandbox, or of all, until the connection ends."""
        stream = _Stream(self._loop, connection, sandbox_id)
        connection.at_close.append(lambda: self._close(stream))
        self._log.open(stream.reader)
        self._watch(True)

    def _close(self, stream: _Stream) -> None:
        self._log.close(stream.reader)
        self._watch(self._log.wanted)


class _Stream:
    def __init__(self, loop: Loop, connection: Connection, sandbox_id: str | None) -> None:
        self.reader = Reader(sandbox_id, self._later)
        self._loop = loop
        self._connection = connection
        self._unsent: dict[str, Any] | None = None

    def _later(self) -> None:
        self._loop.after(_GATHER_S, self._send)

    def _send(self) -> None:
        """All there is, as far as the connection takes it; the reader's store is bounded."""
        while not self._connection.closed:
            message = self._unsent or self._next()
            if message is None:
                return
            if not self._connection.offer(message):
                self._unsent = message
                self._loop.after(_FULL_S, self._send)
                return
            self._unsent = None

    def _next(self) -> dict[str, Any] | None:
        entries, missed = self.reader.take(_AT_ONCE)
        if not entries:
            return None
        return {"queries": [logline.document(entry) for entry in entries], "missed": missed}


def document(
    counters: dict[str, Counters], ended: Counters, forwarding: ForwardingCounters, networks: int
) -> dict[str, Any]:
    """All numbers. ``ended``: of sandboxes that are served no more; totals never shrink."""
    total = Counters()
    total.add(ended)
    for item in counters.values():
        total.add(item)
    return {
        "networks": networks,
        "sandboxes": {sandbox_id: item.as_document() for sandbox_id, item in counters.items()},
        "total": total.as_document(),
        "latency": {"local": total.local.as_document(), "upstream": total.upstream.as_document()},
        "forwarding": forwarding.as_document(),
    }
