"""What is not ours: out of the cache, or asked from other servers, for whoever wants to know.

This module puts the parts together: who is asked for a sandbox (:mod:`cnm.dns.routes`), what is
known already (:mod:`cnm.dns.cache`), what is just being asked and for how many, how much may be
under way (:mod:`cnm.dns.admission`), and what is told when nobody answers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from cnm.dns import answer, asked
from cnm.dns.admission import Admission, Limits
from cnm.dns.answer import Answer
from cnm.dns.asked import Asked, Unanswerable
from cnm.dns.attempt import Means
from cnm.dns.cache import Cache, Room
from cnm.dns.exchange import WITHIN_S, Exchange
from cnm.dns.hostservers import HostServers
from cnm.dns.place import SandboxPlace
from cnm.dns.probes import Probes
from cnm.dns.querylog import QueryLog
from cnm.dns.routes import Routes
from cnm.dns.statistics import ForwardingCounters
from cnm.dns.upstream import Route
from cnm.ids import IPAddress
from cnm.runtime.kernel.loop import Loop
from cnm.runtime.kernel.visit import Home

PORT = 53

_TOO_LATE_S = WITHIN_S - 0.5  # so long in the line, a question is not worth asking any more
_TOO_MANY = "too many queries under way"

Reply = Callable[[bytes], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Asker:
    place: SandboxPlace
    asked: Asked
    reply: Reply


@dataclass(slots=True, eq=False)
class _Flight:
    """One question under way (or in line), and those who wait for it.

    ``place``: whose limits it counts for, and whose namespace it leaves from.
    """

    place: SandboxPlace
    route: Route
    asked: Asked
    began: float
    askers: list[_Asker] = field(default_factory=list)
    exchange: Exchange | None = None

    def for_everybody(self, found: Answer) -> Callable[[Asked], bytes]:
        """How an answer is given: as it came to the one whose query was sent."""
        return lambda each: found.given(each) if each is self.asked else found.shared(each)


class Forwarder:
    """Implements :class:`cnm.dns.place.Forwarding`. ``port``: where all servers listen."""

    def __init__(
        self,
        loop: Loop,
        host: HostServers,
        counters: ForwardingCounters,
        log: QueryLog,
        limits: Limits | None = None,
        room: Room | None = None,
        port: int = PORT,
    ) -> None:
        self._counters = counters
        self._log = log
        self._limits = limits or Limits()
        self._home = Home()
        self._means = Means(loop, self._home, counters)
        self._routes = Routes(host, self._home, port)
        self._cache = Cache(room or Room())
        self._probes = Probes(self._means, self._limits.probes)
        self._admission: Admission[_Flight] = Admission(self._limits, self._take_off)
        self._askers: Counter[str] = Counter()  # of each sandbox, who wait
        self._flights: dict[tuple[Route, bytes], _Flight] = {}
        self._alone: set[_Flight] = set()  # whose answers are for nobody else

    def forward(
        self,
        place: SandboxPlace,
        servers: tuple[IPAddress, ...],
        query: bytes,
        reply: Reply,
    ) -> None:
        """See :meth:`cnm.dns.place.Forwarding.forward`."""
        try:
            wanted = asked.read(query)
        except Unanswerable as error:
            reply(answer.refusal(query, error.rcode))
            return
        route = self._routes.of(place, servers)
        self._drop_replaced()
        asker = _Asker(place, wanted, reply)
        if not route.upstreams:
            self._fail([asker], "no server to ask")
        elif wanted.key is None or not self._known(route, wanted.key, asker):
            self._ask(route, asker)

    def forget(self, place: SandboxPlace) -> None:
        """See :meth:`cnm.dns.place.Forwarding.forget`. What its servers said is forgotten, too."""
        self._routes.forget(place)
        self._drop_replaced()
        for flight in self._all():
            askers = self._disembark(flight)
            kept = [each for each in askers if each.place != place]
            self._board(flight, kept)
            if flight.route.place == place or (askers and not kept):
                self._land(flight)

    def close(self) -> None:
        """Drop all that is under way, without a reply, and close every descriptor."""
        for flight in self._all():
            self._land(flight)
        self._probes.close()
        self._home.close()

    def _all(self) -> list[_Flight]:
        """Those in line first: none of them shall start when the others end."""
        flights = [*self._flights.values(), *self._alone]
        return sorted(flights, key=lambda flight: flight.exchange is not None)

    def _drop_replaced(self) -> None:
        while self._routes.dropped:
            route = self._routes.dropped.pop()
            self._cache.forget(route)
            self._probes.drop(route)

    # out of the cache

    def _known(self, route: Route, key: bytes, asker: _Asker) -> bool:
        """Whether it could be answered without asking."""
        entry = self._cache.find(route, key)
        if entry is None:
            return False
        now = time.monotonic()
        if entry.fresh(now):
            self._counters.from_cache += 1
            self._tell([asker], "cache", lambda each: entry.reply(each, now))
        elif now < entry.failed_until:
            self._give_up(route, key, [asker], entry.reason)
        elif route.dead and (stale := self._last_resort(route, key)):
            self._refresh(route, key, asker)
            self._tell_stale([asker], stale)
        else:
            return False
        return True

    def _last_resort(self, route: Route, key: bytes | None) -> Answer | None:
        """What has run out, but is better than nothing."""
        entry = self._cache.find(route, key) if key is not None else None
        usable = entry is not None and entry.last_resort(time.monotonic())
        return entry.answer if entry is not None and usable else None

    def _refresh(self, route: Route, key: bytes, asker: _Asker) -> None:
        """Ask for what is told though it is stale; nobody waits for it."""
        room = self._admission.under_way < self._limits.under_way // 2
        if room and (route, key) not in self._flights:
            self._set_out(_Flight(asker.place, route, asker.asked, time.monotonic()))

    # asked

    def _ask(self, route: Route, asker: _Asker) -> None:
        sandbox_id, key = asker.place.sandbox_id, asker.asked.key
        if self._askers[sandbox_id] >= self._limits.askers_of_sandbox:
            self._counters.refused += 1
            self._fail([asker], _TOO_MANY)
            return
        flight = self._flights.get((route, key)) if key is not None else None
        if flight is not None:
            self._counters.joined += 1
            self._board(flight, [asker])
            return
        flight = _Flight(asker.place, route, asker.asked, time.monotonic())
        self._board(flight, [asker])
        self._set_out(flight)

    def _set_out(self, flight: _Flight) -> None:
        key = flight.asked.key
        if key is None:
            self._alone.add(flight)
        else:
            self._flights[flight.route, key] = flight
        self._admission.enter(flight.place.sandbox_id, flight)

    def _take_off(self, flight: _Flight) -> None:
        waited_s = time.monotonic() - flight.began
        if waited_s > _TOO_LATE_S:
            askers = self._land(flight)
            self._counters.refused += len(askers)
            self._fail(askers, _TOO_MANY)
            return
        descriptor = flight.place.netns_fd
        flight.exchange = Exchange(
            self._means,
            flight.route,
            descriptor,
            flight.asked,
            over=lambda: self._over(flight),
            slow=lambda: self._slow(flight),
        )
        self._counters.asked_upstream += 1
        self._probes.send(flight.route, descriptor, flight.asked)
        flight.exchange.start(waited_s)

    def _slow(self, flight: _Flight) -> None:
        stale = self._last_resort(flight.route, flight.asked.key)
        if stale is not None:
            self._tell_stale(self._disembark(flight), stale)

    def _over(self, flight: _Flight) -> None:
        exchange, key, route = flight.exchange, flight.asked.key, flight.route
        assert exchange is not None
        askers = self._land(flight)
        found, source = exchange.answer, str(exchange.source)
        if exchange.good and found is not None:
            if key is not None:
                self._cache.keep(route, key, found)
            self._tell(askers, source, flight.for_everybody(found))
            return
        if key is not None:
            self._cache.failed(route, key, exchange.reason)
        if found is None or self._last_resort(route, key) is not None:
            self._give_up(route, key, askers, exchange.reason)
        else:
            self._tell(askers, source, flight.for_everybody(found))

    def _land(self, flight: _Flight) -> list[_Asker]:
        """It is over: nothing of it is left. Who waited for it."""
        key = flight.asked.key
        if key is None:
            self._alone.discard(flight)
        else:
            self._flights.pop((flight.route, key), None)
        if flight.exchange is not None:
            flight.exchange.close()
            flight.exchange = None  # they know each other: not left to the garbage collector
        askers = self._disembark(flight)
        self._admission.leave(flight.place.sandbox_id, flight)
        return askers

    def _board(self, flight: _Flight, askers: list[_Asker]) -> None:
        flight.askers += askers
        for asker in askers:
            self._askers[asker.place.sandbox_id] += 1

    def _disembark(self, flight: _Flight) -> list[_Asker]:
        askers, flight.askers = flight.askers, []
        for asker in askers:
            sandbox_id = asker.place.sandbox_id
            self._askers[sandbox_id] -= 1
            if self._askers[sandbox_id] <= 0:
                del self._askers[sandbox_id]
        return askers

    # told

    def _give_up(self, route: Route, key: bytes | None, askers: list[_Asker], reason: str) -> None:
        """Nobody answers: what has run out, or SERVFAIL."""
        stale = self._last_resort(route, key)
        if stale is not None:
            self._tell_stale(askers, stale)
        else:
            self._fail(askers, reason)

    def _tell_stale(self, askers: list[_Asker], stale: Answer) -> None:
        self._counters.stale += len(askers)
        self._tell(askers, "stale", stale.stale)

    def _fail(self, askers: list[_Asker], reason: str) -> None:
        self._counters.failed += len(askers)
        self._tell(askers, "failed", lambda each: answer.failure(each, reason))

    def _tell(self, askers: list[_Asker], origin: str, make: Callable[[Asked], bytes]) -> None:
        """Reply to all of them, even if that fails for one."""
        failures: list[Exception] = []
        for asker in askers:
            self._log.origin = origin
            try:
                asker.reply(make(asker.asked))
            except Exception as error:
                failures.append(error)
        self._log.origin = ""
        if failures:
            raise ExceptionGroup("replies that could not be given", failures)
