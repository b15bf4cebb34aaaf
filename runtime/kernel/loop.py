"""The event loop of resident processes: descriptors, timers, one thread.

Not asyncio: the supervisor forks at any time, and a bare epoll keeps 8 MB less resident.
``selectors`` cannot watch for a hang-up alone, hence epoll itself.
"""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections.abc import Callable

READ, WRITE, HANG_UP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP
_SWEEP_FROM = 64  # timers; below, dead ones are not worth a sweep
Ready = Callable[[int], None]
Call = Callable[[], None]


class Loop:
    """Calls back when a descriptor is ready or a time has come."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._poll = select.epoll()
        self._ready: dict[int, Ready] = {}
        # Calling off empties the list at the end of an entry; the entry goes when its time
        # comes, or in a sweep: the resolver calls off nearly all of its thousands of timers.
        self._timers: list[tuple[float, int, list[Call]]] = []
        self._called_off = 0
        self._order = itertools.count()
        self._failed = failed
        self._running = True

    def watch(self, descriptor: int, events: int, ready: Ready) -> None:
        """Call ``ready`` with the events (hang-ups and errors always); replaces an earlier one."""
        if descriptor in self._ready:
            self._poll.modify(descriptor, events)
        else:
            self._poll.register(descriptor, events)
        self._ready[descriptor] = ready

    def forget(self, descriptor: int) -> None:
        """No more calls; to be said before it is closed. Not watched is fine."""
        if self._ready.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def after(self, seconds: float, call: Call) -> Call:
        """Call once, later; returns what calls it off. That may be said late and twice."""
        calls = [call]
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), calls))

        def call_off() -> None:
            if calls:
                calls.clear()
                self._called_off += 1
                self._sweep()

        return call_off

    def stop(self) -> None:
        """Return from :meth:`run` after this round."""
        self._running = False

    def close(self) -> None:
        """Give the descriptor back. What is watched stays open: it is its owner's."""
        self._poll.close()

    def run(self) -> None:
        """Until :meth:`stop`. What a callback raises goes to ``failed``; the loop goes on."""
        while self._running:
            self.turn()

    def turn(self, at_most_s: float | None = None) -> None:
        """One round: wait for something to do, but not longer than ``at_most_s``, and do it."""
        for descriptor, events in self._poll.poll(self._pause(at_most_s)):
            ready = self._ready.get(descriptor)
            if ready is not None:  # an earlier callback of this round may have forgotten it
                self._guard(ready, events)
        self._fire()

    def _pause(self, at_most_s: float | None) -> float | None:
        while self._timers and not self._timers[0][2]:
            self._drop_first()
        if not self._timers:
            return at_most_s
        pause = max(0.0, self._timers[0][0] - time.monotonic())
        return pause if at_most_s is None else min(pause, at_most_s)

    def _fire(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            for call in self._drop_first():
                self._guard(lambda _events, call=call: call(), 0)  # type: ignore[misc]

    def _drop_first(self) -> list[Call]:
        _, _, calls = heapq.heappop(self._timers)
        due = calls.copy()
        calls.clear()  # calling it off from now on does nothing
        self._called_off -= not due
        return due

    def _sweep(self) -> None:
        """Keep at most as many dead entries as living ones."""
        if len(self._timers) > _SWEEP_FROM and 2 * self._called_off > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2]]
            heapq.heapify(self._timers)
            self._called_off = 0

    def _guard(self, ready: Ready, events: int) -> None:
        try:
            ready(events)
        except Exception as error:
            self._failed(error)
