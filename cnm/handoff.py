"""A queue between threads whose ``put`` wakes one thread, and no other.

``queue.SimpleQueue`` hands its lock on whenever something is taken: of several threads that wait,
a second one wakes up for each item, finds nothing, and was in the way of the first, since only one
of them can have the interpreter. Here each waits at a lock of its own, and whoever waited least
is next: what it needs is still in the processor's caches.
"""

from __future__ import annotations

import threading
from collections import deque
from queue import Empty
from typing import Generic, TypeVar

T = TypeVar("T")


class _Seat(Generic[T]):
    """Where one thread waits."""

    __slots__ = ("item", "told")

    item: T

    def __init__(self) -> None:
        self.told = threading.Lock()
        self.told.acquire()


class Handoff(Generic[T]):
    """First in, first out, without a bound; any thread may put and get."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: deque[T] = deque()  # only while nobody waits
        self._seats: list[_Seat[T]] = []

    def put(self, item: T) -> bool:
        """To the thread that waited least; False: none waits, the next that comes has it."""
        with self._lock:
            if not self._seats:
                self._items.append(item)
                return False
            seat = self._seats.pop()
            seat.item = item
        seat.told.release()
        return True

    def get(self, timeout: float = -1) -> T:
        """:raises queue.Empty: nothing came within ``timeout`` seconds; -1: wait for ever."""
        with self._lock:
            if self._items:
                return self._items.popleft()
            seat = _Seat[T]()
            self._seats.append(seat)
        if not seat.told.acquire(timeout=timeout):
            with self._lock:
                if seat in self._seats:
                    self._seats.remove(seat)
                    raise Empty
        return seat.item

    def qsize(self) -> int:
        """How many items no thread has been found for."""
        with self._lock:
            return len(self._items)

    def get_nowait(self) -> T:
        """:raises queue.Empty:"""
        with self._lock:
            if not self._items:
                raise Empty
            return self._items.popleft()
