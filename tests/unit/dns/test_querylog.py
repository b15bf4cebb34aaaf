"""The query log: for who reads, bounded, and silent about what was missed never."""

from __future__ import annotations

from cnm.dns.place import SandboxPlace
from cnm.dns.querylog import MOST_KEPT, QueryLog, Reader

WEB, DB = SandboxPlace("web", -1), SandboxPlace("db", -1)


def test_a_reader_sees_what_it_asked_for() -> None:
    log, woken = QueryLog(), []
    assert not log.wanted
    everything = Reader(None, lambda: woken.append("all"))
    only = Reader("db", lambda: woken.append("db"))
    for reader in (everything, only):
        log.open(reader)
    assert log.wanted
    log.saw(WEB, "udp", b"query", b"reply", 0.5)
    log.origin = "192.0.2.1"
    log.saw(DB, "tcp", b"other", None, 0.25)
    assert woken == ["all", "db"]
    entries, missed = everything.take(10)
    assert missed == 0
    assert [
        (each.sandbox_id, each.transport, each.query, each.reply, each.took_s, each.origin)
        for each in entries
    ] == [
        ("web", "udp", b"query", b"reply", 0.5, ""),
        ("db", "tcp", b"other", None, 0.25, "192.0.2.1"),
    ]
    assert [each.sandbox_id for each in only.take(10)[0]] == ["db"]
    log.close(only)
    log.close(only)
    log.close(everything)
    assert not log.wanted


def test_a_slow_reader_misses_the_oldest_and_is_told() -> None:
    log, woken = QueryLog(), []
    reader = Reader(None, lambda: woken.append(1))
    log.open(reader)
    for number in range(MOST_KEPT + 7):
        log.saw(WEB, "udp", str(number).encode(), b"", 0.0)
    assert woken == [1]
    entries, missed = reader.take(3)
    assert ([each.query for each in entries], missed) == ([b"7", b"8", b"9"], 7)
    entries, missed = reader.take(MOST_KEPT)
    assert (len(entries), missed) == (MOST_KEPT - 3, 0)
    log.saw(WEB, "udp", b"new", b"", 0.0)
    assert woken == [1, 1]
