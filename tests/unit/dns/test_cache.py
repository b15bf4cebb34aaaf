"""What is kept of other servers' answers: for how long, how much, and for whom."""

from __future__ import annotations

import dnslib
import pytest

from cnm.dns import asked
from cnm.dns.answer import Answer, read
from cnm.dns.asked import Asked
from cnm.dns.cache import Cache, Entry, Room

HERE, THERE = "a scope", "another scope"


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ask(name: str = "www.example.com") -> Asked:
    return asked.read(bytes(dnslib.DNSRecord.question(name).pack()))


def key(query: Asked) -> bytes:
    assert query.key is not None
    return query.key


def answered(query: Asked, ttl: int = 60, address: str = "192.0.2.1", size: int = 0) -> Answer:
    made = dnslib.DNSRecord.parse(query.to_server(7)).reply()
    made.add_answer(dnslib.RR(made.q.qname, rdata=dnslib.A(address), ttl=ttl))
    if size:
        made.add_answer(dnslib.RR(made.q.qname, 65280, rdata=dnslib.RD(bytes(size)), ttl=ttl))
    return read(bytes(made.pack()), 7, query)


def told(entry: Entry | None, query: Asked, now: float) -> tuple[str, int]:
    assert entry is not None
    reply = dnslib.DNSRecord.parse(entry.reply(query, now))
    return str(reply.rr[0].rdata), reply.rr[0].ttl


def test_times_to_live_count_down_to_the_end(clock: Clock) -> None:
    cache, query = Cache(Room(), clock), ask()
    cache.keep(HERE, key(query), answered(query, 60))
    entry = cache.find(HERE, key(query))
    assert entry is not None
    seen = []
    for seconds in (0, 0.9, 1, 30, 30.5, 59.9):
        assert entry.fresh(1000 + seconds)
        seen.append(told(entry, query, 1000 + seconds)[1])
    assert seen == [60, 60, 59, 30, 30, 1]
    assert not entry.fresh(1060)
    assert entry.last_resort(1060)
    assert entry.last_resort(1060 + 86399)
    assert not entry.last_resort(1060 + 86401)


def test_scopes_do_not_see_one_another(clock: Clock) -> None:
    cache, query = Cache(Room(), clock), ask()
    cache.keep(HERE, key(query), answered(query, address="192.0.2.1"))
    assert cache.find(THERE, key(query)) is None
    cache.keep(THERE, key(query), answered(query, address="192.0.2.2"))
    assert told(cache.find(HERE, key(query)), query, 1000)[0] == "192.0.2.1"
    cache.forget(HERE)
    assert cache.find(HERE, key(query)) is None
    assert told(cache.find(THERE, key(query)), query, 1000)[0] == "192.0.2.2"
    cache.forget(HERE)


def test_a_new_answer_takes_the_place_of_the_old(clock: Clock) -> None:
    cache, query = Cache(Room(), clock), ask()
    cache.keep(HERE, key(query), answered(query))
    size = cache.size
    cache.keep(HERE, key(query), answered(query, address="192.0.2.2"))
    assert told(cache.find(HERE, key(query)), query, 1000)[0] == "192.0.2.2"
    assert (len(cache), cache.size) == (1, size)


def test_what_may_not_be_kept_leaves_what_is_known(clock: Clock) -> None:
    cache, query = Cache(Room(), clock), ask()
    cache.keep(HERE, key(query), answered(query))
    cache.keep(HERE, key(query), answered(query, ttl=0))
    assert told(cache.find(HERE, key(query)), query, 1000) == ("192.0.2.1", 60)


def test_a_failure_is_known_for_a_second_and_destroys_nothing(clock: Clock) -> None:
    cache, query = Cache(Room(), clock), ask()
    cache.failed(HERE, key(query), "nobody home")
    entry = cache.find(HERE, key(query))
    assert entry is not None
    assert (entry.reason, entry.answer) == ("nobody home", None)
    assert (entry.failed_until, entry.fresh(1000), entry.last_resort(1000)) == (1001, False, False)
    cache.keep(HERE, key(query), answered(query))
    kept = cache.find(HERE, key(query))
    assert kept is not None
    assert kept.failed_until == 0
    clock.now = 2000
    cache.failed(HERE, key(query), "again")
    entry = cache.find(HERE, key(query))
    assert entry is not None
    assert (entry.failed_until, entry.last_resort(2000)) == (2001, True)
    assert len(cache) == 1


def test_the_least_lately_used_of_a_scope_goes(clock: Clock) -> None:
    cache = Cache(Room(entries=100, entries_of_scope=3), clock)
    queries = [ask(f"{number}.example.com") for number in range(4)]
    for query in queries[:3]:
        cache.keep(HERE, key(query), answered(query))
    cache.find(HERE, key(queries[0]))
    cache.keep(HERE, key(queries[3]), answered(queries[3]))
    left = [cache.find(HERE, key(query)) is not None for query in queries]
    assert left == [True, False, True, True]


def test_a_flood_in_one_scope_pushes_out_nothing_of_another(clock: Clock) -> None:
    cache, query = Cache(Room(entries=100, entries_of_scope=50), clock), ask()
    cache.keep(THERE, key(query), answered(query))
    for number in range(1000):
        other = ask(f"{number}.example.com")
        cache.keep(HERE, key(other), answered(other))
    assert len(cache) == 51
    assert cache.find(THERE, key(query)) is not None


def test_with_many_scopes_the_idlest_lose_first(clock: Clock) -> None:
    cache, query = Cache(Room(entries=10, entries_of_scope=5), clock), ask()
    for number in range(10):
        cache.keep(number, key(query), answered(query))
    cache.find(0, key(query))
    cache.keep("new", key(query), answered(query))
    assert len(cache) == 10
    assert cache.find(0, key(query)) is not None
    assert cache.find(1, key(query)) is None


def test_bytes_are_bounded_of_a_scope_and_in_all(clock: Clock) -> None:
    room = Room(size=100_000, size_of_scope=40_000)
    cache = Cache(room, clock)
    for scope in range(5):
        for number in range(100):
            query = ask(f"{number}.example.com")
            cache.keep(scope, key(query), answered(query, size=3000))
            assert cache.size <= min(100_000, (scope + 1) * 40_000)
    assert cache.size > 80_000
    for scope in range(5):
        cache.forget(scope)
    assert (len(cache), cache.size) == (0, 0)
