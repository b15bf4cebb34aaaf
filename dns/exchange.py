"""One question under way: which server is asked when, and which answer counts.

The next server is asked when one has been silent for 200 ms, or at once when it cannot be
reached or says SERVFAIL, REFUSED or NOTIMP; it is awaited all the same, and the first good answer
ends it. NXDOMAIN is good. After 1 s and 2.2 s all that are awaited are asked again, since one lost
packet must not cost a query. After 4 s it is over: less than the 5 s after which resolv.conf(5)'s
resolvers ask again, so that a client is told before it gives up.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cnm.dns.answer import Answer
from cnm.dns.asked import Asked
from cnm.dns.attempt import Attempt, Means
from cnm.dns.message import NOTIMP, REFUSED, SERVFAIL
from cnm.dns.upstream import Route, Upstream

WITHIN_S = 4.0

_NEXT_AFTER_S = 0.2
_LOST_RACE_S = 0.15  # awaited for less, a server was not too slow: another was just quick
_NEXT, _AGAIN, _SLOW, _END = range(4)
_PLAN = (
    (_NEXT_AFTER_S, _NEXT),
    (2 * _NEXT_AFTER_S, _NEXT),
    (1.0, _AGAIN),
    (1.8, _SLOW),  # RFC 8767, 5: who waits may be served something stale
    (2.2, _AGAIN),
    (WITHIN_S, _END),
)
_OF_NO_USE = frozenset((SERVFAIL, NOTIMP, REFUSED))
_WORDS = {SERVFAIL: "server failure", NOTIMP: "not implemented", REFUSED: "refused"}


class Exchange:
    """``over`` is called once, when it has ended by itself; then ``answer`` and ``reason`` say how.

    ``slow`` is called when nobody has answered for 1.8 s, and it goes on.
    """

    def __init__(
        self,
        means: Means,
        route: Route,
        netns_fd: int,
        asked: Asked,
        over: Callable[[], None],
        slow: Callable[[], None],
    ) -> None:
        self.answer: Answer | None = None  # the best there is
        self.source: Upstream | None = None
        self.good = False  # the answer is one, not a failure that a server reports
        self._means = means
        self._netns_fd = netns_fd
        self._asked = asked
        self._over = over
        self._slow = slow
        self._left = route.order()
        self._awaited: list[Attempt] = []
        self._troubles: list[str] = []
        self._began = 0.0
        self._step = 0
        self._call_off: Callable[[], None] = lambda: None
        self._ended = False

    @property
    def reason(self) -> str:
        """What happened at each server, for people."""
        return "; ".join(self._troubles) or "no server to ask"

    def start(self, waited_s: float) -> None:
        """Ask the first server. ``waited_s`` of the time have passed already."""
        self._began = time.monotonic() - waited_s
        while self._step < len(_PLAN) - 1 and _PLAN[self._step][0] <= waited_s:
            self._step += 1
        self._ask_next()
        if not self._ended:
            self._wait()

    def close(self) -> None:
        """End it without a word. Again is fine."""
        self._ended = True
        self._call_off()
        for attempt in self._awaited:
            attempt.close()
        self._awaited.clear()

    def _wait(self) -> None:
        at, _ = _PLAN[self._step]
        remaining = max(0.0, self._began + at - time.monotonic())
        self._call_off = self._means.loop.after(remaining, self._act)

    def _act(self) -> None:
        _, action = _PLAN[self._step]
        self._step += 1
        if action == _END:
            self._finish()
            return
        if action == _NEXT and self._left:
            self._ask_next()
        elif action == _AGAIN:
            for attempt in self._awaited.copy():
                attempt.again()
        elif action == _SLOW:
            self._slow()
        if not self._ended:
            self._wait()

    def _ask_next(self) -> None:
        """Ask the next that can be asked; it is over if none is left or awaited."""
        while self._left:
            if self._awaited or self._troubles:
                self._means.counters.second_server += 1
            upstream = self._left.pop(0)
            attempt = Attempt(
                self._means, upstream, self._netns_fd, self._asked, self._attempt_over
            )
            try:
                attempt.start()
            except OSError:
                self._troubles.append(f"{upstream}: {attempt.trouble}")
                continue
            self._awaited.append(attempt)
            return
        if not self._awaited:
            self._finish()

    def _attempt_over(self, attempt: Attempt, answer: Answer | None) -> None:
        self._awaited.remove(attempt)
        if answer is not None and answer.rcode not in _OF_NO_USE:
            self._choose(attempt, answer, good=True)
            self._finish()
            return
        self._remember(attempt, answer)
        self._ask_next()

    def _remember(self, attempt: Attempt, answer: Answer | None) -> None:
        """What is better than nothing: a cut answer before a failure that a server reports."""
        trouble = attempt.trouble if answer is None else _WORDS[answer.rcode]
        self._troubles.append(f"{attempt.upstream}: {trouble}")
        cut = attempt.truncated
        if cut is not None and cut.rcode not in _OF_NO_USE:
            self._choose(attempt, cut, good=False)
        elif answer is not None and self.answer is None:
            self._choose(attempt, answer, good=False)

    def _choose(self, attempt: Attempt, answer: Answer, *, good: bool) -> None:
        self.answer, self.source, self.good = answer, attempt.upstream, good

    def _finish(self) -> None:
        now = time.monotonic()
        for attempt in self._awaited:
            waited_s = now - attempt.began
            if waited_s >= _LOST_RACE_S and attempt.truncated is None:
                attempt.upstream.silent(waited_s, now)
            if not self.good:
                self._remember(attempt, None)
        self.close()
        self._over()
