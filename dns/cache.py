"""Answers of other servers, kept for as long as they say; and what failed a moment ago. No I/O.

Each scope (who is asked, from where) has a shelf of its own: what one sandbox's servers say is
never told to another, and a flood of names from one sandbox pushes out only its own. Nothing
is swept: what has run out stays, as the answer of last resort, until its room is needed.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from cnm.dns.answer import Answer
from cnm.dns.asked import Asked

_FAILURE_KEPT_S = 1.0  # RFC 9520, 3.2: at least this; more would outlast the trouble
_LONGEST_STALE_S = 86400.0  # RFC 8767, 5: one to three days
_OVERHEAD = 400  # bytes of an entry beside its message, about


@dataclass(frozen=True, slots=True)
class Room:
    """How much is kept; sizes in bytes."""

    entries: int = 4096
    size: int = 4 << 20
    entries_of_scope: int = 1000
    size_of_scope: int = 1 << 20


@dataclass(slots=True)
class Entry:
    """What is known of one question; times as of the cache's clock."""

    answer: Answer | None = None
    kept_at: float = 0.0
    failed_until: float = 0.0
    reason: str = ""  # of the failure
    size: int = _OVERHEAD
    _age_s: int = -1
    _body: bytes = b""

    def fresh(self, now: float) -> bool:
        """Whether the answer has not run out."""
        return self.answer is not None and now < self.kept_at + self.answer.keep_s

    def last_resort(self, now: float) -> bool:
        """Whether the answer may be given if nobody can be asked."""
        if self.answer is None:
            return False
        return now < self.kept_at + self.answer.keep_s + _LONGEST_STALE_S

    def reply(self, asked: Asked, now: float) -> bytes:
        """The answer, with times to live counted down. It must be fresh."""
        assert self.answer is not None
        age_s = int(now - self.kept_at)
        if age_s != self._age_s:  # a hot name's body is made once a second
            self._body = self.answer.body(lambda ttl: max(0, ttl - age_s))
            self._age_s = age_s
        return self.answer.kept(asked, self._body)


@dataclass(slots=True)
class _Shelf:
    entries: OrderedDict[bytes, Entry] = field(default_factory=OrderedDict)
    size: int = 0

    def put(self, key: bytes, entry: Entry) -> None:
        self.drop(key)
        self.entries[key] = entry
        self.size += entry.size

    def drop(self, key: bytes) -> None:
        gone = self.entries.pop(key, None)
        self.size -= gone.size if gone is not None else 0

    def drop_oldest(self) -> None:
        _, gone = self.entries.popitem(last=False)
        self.size -= gone.size


class Cache:
    """Bounded in entries and bytes, of each scope and in all; the least lately used goes."""

    def __init__(self, room: Room, clock: Callable[[], float] = time.monotonic) -> None:
        self._room = room
        self._clock = clock
        self._shelves: OrderedDict[Hashable, _Shelf] = OrderedDict()
        self._entries = 0
        self._size = 0

    def __len__(self) -> int:
        return self._entries

    @property
    def size(self) -> int:
        """Bytes, about."""
        return self._size

    def find(self, scope: Hashable, key: bytes) -> Entry | None:
        """What is known, be it fresh or not."""
        shelf = self._shelves.get(scope)
        entry = shelf.entries.get(key) if shelf is not None else None
        if shelf is None or entry is None:
            return None
        shelf.entries.move_to_end(key)
        self._shelves.move_to_end(scope)
        return entry

    def keep(self, scope: Hashable, key: bytes, answer: Answer) -> None:
        """Remember an answer, if it may be kept. One that may not leaves what is known."""
        if answer.keep_s > 0:
            size = _OVERHEAD + len(key) + 2 * len(answer.message)  # and the body of this second
            self._put(scope, key, Entry(answer, self._clock(), size=size))

    def failed(self, scope: Hashable, key: bytes, reason: str) -> None:
        """Remember for a moment that nobody answered; what was known stays, as a last resort."""
        entry = self.find(scope, key) or Entry(size=_OVERHEAD + len(key))
        entry.failed_until = self._clock() + _FAILURE_KEPT_S
        entry.reason = reason
        self._put(scope, key, entry)

    def forget(self, scope: Hashable) -> None:
        """Nobody will ask there again."""
        shelf = self._shelves.pop(scope, None)
        if shelf is not None:
            self._entries -= len(shelf.entries)
            self._size -= shelf.size

    def _put(self, scope: Hashable, key: bytes, entry: Entry) -> None:
        shelf = self._shelves.setdefault(scope, _Shelf())
        self._shelves.move_to_end(scope)
        self._count(shelf, lambda: shelf.put(key, entry))
        room = self._room
        while len(shelf.entries) > room.entries_of_scope or shelf.size > room.size_of_scope:
            self._count(shelf, shelf.drop_oldest)
        while self._entries > room.entries or self._size > room.size:
            self._drop_from_idlest()

    def _drop_from_idlest(self) -> None:
        scope, shelf = next(iter(self._shelves.items()))
        self._count(shelf, shelf.drop_oldest)
        if not shelf.entries:
            del self._shelves[scope]

    def _count(self, shelf: _Shelf, change: Callable[[], None]) -> None:
        entries, size = len(shelf.entries), shelf.size
        change()
        self._entries += len(shelf.entries) - entries
        self._size += shelf.size - size
