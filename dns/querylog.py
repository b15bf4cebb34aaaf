"""Who asked what, what was answered, how long it took: for those who look, while they look.

Nothing is formatted before a reader takes it, and each reader's store is bounded: who reads too
slowly misses the oldest, and is told how many. Without a reader nobody calls us.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from cnm.dns.place import SandboxPlace

MOST_KEPT = 2000  # entries of a reader


@dataclass(frozen=True, slots=True)
class Entry:
    """One query. ``at``: Unix time in seconds. ``reply`` None: it was dropped.

    ``origin``: the address of the server that answered, ``cache``, ``stale``, ``failed``; empty:
    the resolver itself.
    """

    at: float
    sandbox_id: str
    transport: str
    query: bytes
    reply: bytes | None
    took_s: float
    origin: str


class Reader:
    """Sees the queries of one sandbox, or of all. ``wake`` is called when there is one to take."""

    def __init__(self, sandbox_id: str | None, wake: Callable[[], None]) -> None:
        self.sandbox_id = sandbox_id
        self._wake = wake
        self._entries: deque[Entry] = deque()
        self._missed = 0

    def add(self, entry: Entry) -> None:
        """One more; the oldest goes if there are too many."""
        if len(self._entries) >= MOST_KEPT:
            self._entries.popleft()
            self._missed += 1
        self._entries.append(entry)
        if len(self._entries) == 1:
            self._wake()

    def take(self, most: int) -> tuple[list[Entry], int]:
        """The oldest, ``most`` at most, and how many before them were missed."""
        taken = [self._entries.popleft() for _ in range(min(most, len(self._entries)))]
        missed, self._missed = self._missed, 0
        return taken, missed


class QueryLog:
    """Implements :class:`cnm.dns.place.QueryWatch`; to be given to listeners while ``wanted``.

    Whoever answers a query says in ``origin`` where it has the answer from, before it replies.
    """

    def __init__(self) -> None:
        self.origin = ""
        self._readers: list[Reader] = []

    @property
    def wanted(self) -> bool:
        return bool(self._readers)

    def open(self, reader: Reader) -> None:
        """It sees the queries from now on."""
        self._readers.append(reader)

    def close(self, reader: Reader) -> None:
        """No more. Again is fine."""
        if reader in self._readers:
            self._readers.remove(reader)

    def saw(
        self,
        place: SandboxPlace,
        transport: str,
        query: bytes,
        reply: bytes | None,
        took_s: float,
    ) -> None:
        """See :meth:`cnm.dns.place.QueryWatch.saw`."""
        sandbox_id = place.sandbox_id
        entry = Entry(time.time(), sandbox_id, transport, query, reply, took_s, self.origin)
        for reader in self._readers:
            if reader.sandbox_id in (None, sandbox_id):
                reader.add(entry)
