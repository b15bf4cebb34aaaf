"""Copies of real queries to servers that were silent, to see whether they answer again.

Nobody waits for their answers, so that a dead server costs no client anything.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from cnm.dns.answer import Answer
from cnm.dns.asked import Asked
from cnm.dns.attempt import Attempt, Means
from cnm.dns.upstream import Route

_WITHIN_S = 2.0


class Probes:
    """At most ``most`` at a time."""

    def __init__(self, means: Means, most: int) -> None:
        self._means = means
        self._most = most
        self._under_way: dict[Attempt, tuple[Route, Callable[[], None]]] = {}

    def send(self, route: Route, netns_fd: int, asked: Asked) -> None:
        """To those of the route that are due. Not if none is well: then all are asked anyway."""
        if route.dead:
            return
        now = time.monotonic()
        for upstream in route.upstreams:
            if len(self._under_way) < self._most and upstream.due_for_probe(now):
                self._start(route, Attempt(self._means, upstream, netns_fd, asked, self._over))

    def drop(self, route: Route) -> None:
        """Give up those of a route."""
        for attempt in [each for each, (its, _) in self._under_way.items() if its is route]:
            self._give_up(attempt)

    def close(self) -> None:
        """Give up all."""
        for attempt in list(self._under_way):
            self._give_up(attempt)

    def _start(self, route: Route, attempt: Attempt) -> None:
        with contextlib.suppress(OSError):  # it is as it was
            attempt.start()
            self._means.counters.probes += 1
            call_off = self._means.loop.after(_WITHIN_S, lambda: self._give_up(attempt))
            self._under_way[attempt] = (route, call_off)

    def _over(self, attempt: Attempt, _answer: Answer | None) -> None:
        self._give_up(attempt)

    def _give_up(self, attempt: Attempt) -> None:
        attempt.close()
        _, call_off = self._under_way.pop(attempt, (None, lambda: None))
        call_off()
