"""A set of whole numbers, kept as sorted runs.

Addresses and pools are handed out lowest first, so what is in use is nearly always
a few long runs: a million leases in a row are one pair of numbers, and a /8 or a /64
costs what a /24 does. Two parallel lists with :mod:`bisect` do it in C; runs neither
overlap nor touch, so the number after a run is always free.

Ways that were left: a bit map (2 MiB for a /8, impossible for a /64), Docker's
run-length coded bit map (walked from its start each time), a Python set (60 bytes an
address, and "lowest free" is a search), a tree of runs (slower than moving part of a
list until far beyond a hundred thousand runs).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Runs:
    """A set of integers. All bounds are inclusive."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._size = 0

    def __len__(self) -> int:
        """How many runs there are. How many numbers: see :meth:`count`."""
        return len(self._starts)

    def __iter__(self) -> Iterator[int]:
        """All numbers, lowest first."""
        for start, end in self.spans():
            yield from range(start, end + 1)

    def __contains__(self, value: int) -> bool:
        place = bisect_left(self._ends, value)
        return place < len(self._starts) and self._starts[place] <= value

    def spans(self) -> Iterator[tuple[int, int]]:
        """The runs as (first, last), lowest first."""
        return zip(self._starts, self._ends, strict=True)

    def add(self, first: int, last: int) -> None:
        """Add the numbers from ``first`` to ``last``; those that are in already stay."""
        low = bisect_left(self._ends, first - 1)  # the first run that touches or follows
        high = bisect_right(self._starts, last + 1, low)  # the first that lies clear above
        joined = high - low
        if joined == 1:
            old = self._ends[low] - self._starts[low]
            self._starts[low] = first = min(first, self._starts[low])
            self._ends[low] = last = max(last, self._ends[low])
            self._size += last - first - old
            return
        if joined:
            self._size -= self._sum(low, high)
            first, last = min(first, self._starts[low]), max(last, self._ends[high - 1])
        self._starts[low:high] = [first]
        self._ends[low:high] = [last]
        self._size += last - first + 1

    def remove(self, first: int, last: int) -> None:
        """Remove the numbers from ``first`` to ``last``; absent ones are fine."""
        low = bisect_left(self._ends, first)
        high = bisect_right(self._starts, last, low)
        if low == high:
            return
        start, end = self._starts[low], self._ends[high - 1]
        kept = []
        if start < first:
            kept.append((start, first - 1))
        if end > last:
            kept.append((last + 1, end))
        self._size -= self._sum(low, high)
        self._starts[low:high] = [start for start, _ in kept]
        self._ends[low:high] = [end for _, end in kept]
        self._size += self._sum(low, low + len(kept))

    def gap(self, first: int, last: int) -> int | None:
        """The lowest number from ``first`` to ``last`` that is not in the set."""
        place = bisect_left(self._ends, first)
        if place < len(self._starts) and self._starts[place] <= first:
            first = self._ends[place] + 1
        return first if first <= last else None

    def hit(self, first: int, last: int) -> int | None:
        """The end of the highest run that has a number from ``first`` to ``last``."""
        place = bisect_right(self._starts, last) - 1
        if place < 0 or self._ends[place] < first:
            return None
        return self._ends[place]

    @property
    def size(self) -> int:
        """How many numbers are in the set."""
        return self._size

    def count(self, first: int, last: int) -> int:
        """How many numbers from ``first`` to ``last`` are in the set."""
        low = bisect_left(self._ends, first)
        high = bisect_right(self._starts, last, low)
        if low == high:
            return 0
        below = max(0, first - self._starts[low])
        above = max(0, self._ends[high - 1] - last)
        whole = self._size if high - low == len(self._starts) else self._sum(low, high)
        return whole - below - above

    def _sum(self, low: int, high: int) -> int:
        return sum(self._ends[low:high]) - sum(self._starts[low:high]) + high - low
