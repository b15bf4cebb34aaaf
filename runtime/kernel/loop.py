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
Ready = Callable[[int], None]


class Loop:
    """Calls back when a descriptor is ready or a time has come."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._poll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
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

    def after(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call once, later; returns what calls it off."""
        entry = (time.monotonic() + seconds, next(self._order), call)
        heapq.heappush(self._timers, entry)

        def call_off() -> None:
            if entry in self._timers:
                self._timers.remove(entry)
                heapq.heapify(self._timers)

        return call_off

    def stop(self) -> None:
        """Return from :meth:`run` after this round."""
        self._running = False

    def run(self) -> None:
        """Until :meth:`stop`. What a callback raises goes to ``failed``; the loop goes on."""
        while self._running:
            for descriptor, events in self._poll.poll(self._next_timer()):
                ready = self._ready.get(descriptor)
                if ready is not None:  # an earlier callback of this round may have forgotten it
                    self._guard(ready, events)
            self._fire()

    def _next_timer(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _fire(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, call = heapq.heappop(self._timers)
            self._guard(lambda _events, call=call: call(), 0)  # type: ignore[misc]

    def _guard(self, ready: Ready, events: int) -> None:
        try:
            ready(events)
        except Exception as error:
            self._failed(error)
