"""An immutable map of which a changed copy is cheap.

A dictionary in pieces: a change copies one piece and the list of them, about twice the square
root of the size. A publish among 10,000 endpoints (40,000 names) takes 25 µs that way and 1.5 ms
by copying one dictionary, which is the time of 300 queries.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_FULL = 4  # a piece of this many times as many entries as there are pieces is too long


class Shards(Generic[K, V]):
    """From keys to what is not None."""

    __slots__ = ("_count", "_mask", "_pieces")

    def __init__(self, entries: Mapping[K, V]) -> None:
        pieces = 1 << ((len(entries)).bit_length() // 2)
        self._mask = pieces - 1
        self._count = len(entries)
        self._pieces: list[dict[K, V]] = [{} for _ in range(pieces)]
        for key, value in entries.items():
            self._pieces[hash(key) & self._mask][key] = value

    def get(self, key: K) -> V | None:
        return self._pieces[hash(key) & self._mask].get(key)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: K) -> bool:
        return self.get(key) is not None

    def values(self) -> Iterator[V]:
        """In no order."""
        for piece in self._pieces:
            yield from piece.values()

    def changed(self, changes: Mapping[K, V | None]) -> Shards[K, V]:
        """A copy with these set; None: without it."""
        copy: Shards[K, V] = object.__new__(Shards)
        copy._mask, copy._count, copy._pieces = self._mask, self._count, self._pieces.copy()
        own: set[int] = set()
        for key, value in changes.items():
            copy._set(own, key, value)
        if copy._count > _FULL * len(copy._pieces) ** 2:
            return Shards({key: value for piece in copy._pieces for key, value in piece.items()})
        return copy

    def _set(self, own: set[int], key: K, value: V | None) -> None:
        place = hash(key) & self._mask
        if place not in own:
            own.add(place)
            self._pieces[place] = self._pieces[place].copy()
        piece = self._pieces[place]
        self._count -= key in piece
        if value is None:
            piece.pop(key, None)
        else:
            piece[key] = value
            self._count += 1
