"""Real DNS queries, made wrong: what a broken or hostile client sends, or a server answers."""

from __future__ import annotations

import random
from collections.abc import Sequence

# What tends to be on an edge: lengths of labels, pointers, signs, counts.
_LONGEST = 5000  # a burst of them must fit a socket
_EDGES = (0, 1, 2, 11, 12, 41, 63, 64, 65, 127, 128, 191, 192, 193, 254, 255)


class Mutations:
    """Endless, and the same ones for the same seed."""

    def __init__(self, seed: int, messages: Sequence[bytes]) -> None:
        self._random = random.Random(seed)
        self._messages = messages
        self._ways = (
            self._flip,
            self._edge,
            self._header,
            self._cut,
            self._insert,
            self._remove,
            self._repeat,
            self._splice,
            self._point,
        )

    def next(self) -> bytes:
        """One message, changed in one to four ways."""
        data = bytearray(self._random.choice(self._messages))
        for _ in range(self._random.randrange(1, 5)):
            self._random.choice(self._ways)(data)
        return bytes(data[:_LONGEST])

    def chance(self, one_in: int) -> bool:
        return self._random.randrange(one_in) == 0

    def below(self, limit: int) -> int:
        return self._random.randrange(limit)

    def frame(self, message: bytes) -> bytes:
        """As TCP carries it; the length wrong one time in eight."""
        length = len(message)
        if self.chance(8):
            length = self._random.choice((0, 1, 11, length - 1, length + 1, 4096, 4097, 65535))
        return max(0, length).to_bytes(2, "big") + message

    def segments(self, data: bytes) -> list[bytes]:
        """The same bytes in one to five pieces."""
        cuts = sorted(self._random.randrange(len(data) + 1) for _ in range(self.below(5)))
        bounds = [0, *cuts, len(data)]
        return [data[a:b] for a, b in zip(bounds, bounds[1:], strict=False) if a < b]

    def _place(self, data: bytearray) -> int:
        return self._random.randrange(len(data)) if data else 0

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._place(data)] ^= 1 << self._random.randrange(8)

    def _edge(self, data: bytearray) -> None:
        if data:
            data[self._place(data)] = self._random.choice(_EDGES)

    def _header(self, data: bytearray) -> None:
        """Flags or one of the counts."""
        if len(data) >= 12:
            data[self._random.randrange(2, 12)] = self._random.choice(_EDGES)

    def _cut(self, data: bytearray) -> None:
        del data[self._place(data) :]

    def _insert(self, data: bytearray) -> None:
        at = self._place(data)
        data[at:at] = self._random.randbytes(self._random.choice((1, 2, 8, 40)))

    def _remove(self, data: bytearray) -> None:
        at = self._place(data)
        del data[at : at + self._random.choice((1, 2, 8))]

    def _repeat(self, data: bytearray) -> None:
        """A piece of it again, often enough to be too long for a name."""
        at = self._place(data)
        piece = bytes(data[at : at + self._random.randrange(1, 30)])
        data[at:at] = piece * self._random.choice((1, 2, 20, 200))

    def _splice(self, data: bytearray) -> None:
        other = self._random.choice(self._messages)
        data[self._place(data) :] = other[self._random.randrange(len(other)) :]

    def _point(self, data: bytearray) -> None:
        """A compression pointer to anywhere."""
        at = self._place(data)
        data[at : at + 2] = bytes((0xC0 | self._random.randrange(64), self._random.randrange(256)))
