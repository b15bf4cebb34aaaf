"""How many questions are under way at once: of one sandbox, and in all. No I/O.

What finds no room waits in its sandbox's line; room that becomes free goes to the sandboxes in
turn, so that one which asks too much delays only itself. A line is bounded as well.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """``under_way``: each has at most three sockets. ``askers``: clients that wait for a reply."""

    under_way_of_sandbox: int = 100
    under_way: int = 1024  # Docker's
    askers_of_sandbox: int = 1000
    probes: int = 64


@dataclass(slots=True)
class _Line(Generic[T]):
    under_way: int = 0
    waiting: deque[T] = field(default_factory=deque)


class Admission(Generic[T]):
    """``start`` is called with what may begin, possibly before :meth:`enter` returns."""

    def __init__(self, limits: Limits, start: Callable[[T], None]) -> None:
        self._limits = limits
        self._start = start
        self._under_way = 0
        self._lines: dict[str, _Line[T]] = {}  # those with anything in them
        self._next: OrderedDict[str, None] = OrderedDict()  # that may start one, in turn
        self._serving = False

    @property
    def under_way(self) -> int:
        return self._under_way

    @property
    def waiting(self) -> int:
        return sum(len(line.waiting) for line in self._lines.values())

    def enter(self, sandbox_id: str, item: T) -> None:
        """Start it, at once or when there is room. :meth:`leave` is to follow, once."""
        self._lines.setdefault(sandbox_id, _Line()).waiting.append(item)
        self._serve(sandbox_id)

    def leave(self, sandbox_id: str, item: T) -> None:
        """It is over, or not wanted any more while it waits."""
        line = self._lines[sandbox_id]
        if item in line.waiting:
            line.waiting.remove(item)
        else:
            line.under_way -= 1
            self._under_way -= 1
        if not line.under_way and not line.waiting:
            del self._lines[sandbox_id]
        self._serve(sandbox_id)

    def _serve(self, changed: str) -> None:
        self._line_up(changed)
        if self._serving:  # called by what was started and ended at once: the loop goes on
            return
        self._serving = True
        try:
            while self._next and self._under_way < self._limits.under_way:
                sandbox_id, _ = self._next.popitem(last=False)
                line = self._lines[sandbox_id]
                item = line.waiting.popleft()
                line.under_way += 1
                self._under_way += 1
                self._line_up(sandbox_id)
                self._start(item)
        finally:
            self._serving = False

    def _line_up(self, sandbox_id: str) -> None:
        line = self._lines.get(sandbox_id)
        limit = self._limits.under_way_of_sandbox
        if line is not None and line.waiting and line.under_way < limit:
            self._next.setdefault(sandbox_id)
        else:
            self._next.pop(sandbox_id, None)
