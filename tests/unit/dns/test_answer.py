"""Answers: what may pass for one, how long it is kept, and what clients are given."""

from __future__ import annotations

from typing import Any

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.dns import asked
from cnm.dns.answer import Answer, Malformed, NotOurs, OtherCase, failure, read
from cnm.dns.asked import Asked

NUMBER = 0x1234
ZONE = dnslib.SOA("ns.example.", "root.example.", (1, 7200, 900, 86400, 60))
ALIAS = dnslib.CNAME("a.example.")
A1, A2 = dnslib.A("192.0.2.1"), dnslib.A("192.0.2.2")


def ask(kind: str = "A", *, opt: bool = False, name: str = "www.example.com") -> Asked:
    made = dnslib.DNSRecord.question(name, kind)
    if opt:
        made.add_ar(dnslib.EDNS0(udp_len=4096))
    return asked.read(bytes(made.pack()))


def respond(query: Asked, **header: Any) -> dnslib.DNSRecord:
    made = dnslib.DNSRecord.parse(query.to_server(NUMBER)).reply(aa=1)
    for field, value in header.items():
        setattr(made.header, field, value)
    return made


def rr(kind: str, data: Any, ttl: int = 300, name: str = "www.example.com") -> dnslib.RR:
    return dnslib.RR(name, getattr(dnslib.QTYPE, kind), rdata=data, ttl=ttl)


def taken(query: Asked, made: dnslib.DNSRecord) -> Answer:
    return read(bytes(made.pack()), NUMBER, query)


def parse(message: bytes) -> dnslib.DNSRecord:
    return dnslib.DNSRecord.parse(message)


def ttls(message: dnslib.DNSRecord) -> list[int]:
    return [record.ttl for record in (*message.rr, *message.auth) if record.rtype != 41]


@pytest.mark.parametrize(
    ("answers", "authorities", "rcode", "kept"),
    [
        ([rr("A", A1, 300)], [], "NOERROR", 300),
        ([rr("A", A1, 300), rr("A", A2, 20)], [], "NOERROR", 20),
        (
            [
                rr("CNAME", ALIAS, 50),
                rr("A", A1, 300, "a.example"),
            ],
            [],
            "NOERROR",
            50,
        ),
        ([rr("A", A1, 1_000_000)], [], "NOERROR", 3600),
        ([rr("A", A1, 1 << 31)], [], "NOERROR", 0),
        ([rr("A", A1, 0)], [], "NOERROR", 0),
        ([], [rr("SOA", ZONE, 600, "example")], "NXDOMAIN", 60),
        ([], [rr("SOA", ZONE, 30, "example")], "NXDOMAIN", 30),
        ([], [rr("SOA", ZONE, 600, "example")], "NOERROR", 60),
        ([rr("CNAME", ALIAS, 50)], [rr("SOA", ZONE, 600, "example")], "NOERROR", 50),
        ([rr("CNAME", ALIAS, 50)], [], "NOERROR", 0),
        ([], [], "NXDOMAIN", 0),
        ([], [rr("NS", dnslib.NS("ns.example."), 600, "example")], "NOERROR", 0),
        ([], [rr("SOA", ZONE, 600, "example")], "SERVFAIL", 0),
        ([], [rr("SOA", ZONE, 600, "example")], "REFUSED", 0),
    ],
    ids=[
        "one",
        "the lowest",
        "alias",
        "not for ever",
        "absurd",
        "not at all",
        "no name: minimum",
        "no name: TTL of the SOA",
        "no data",
        "alias without data",
        "alias into nothing",
        "no SOA",
        "referral",
        "failure",
        "refusal",
    ],
)  # fmt: skip
def test_how_long_an_answer_is_kept(
    answers: list[dnslib.RR], authorities: list[dnslib.RR], rcode: str, kept: int
) -> None:
    query = ask()
    made = respond(query, rcode=getattr(dnslib.RCODE, rcode))
    for record in answers:
        made.add_answer(record)
    for record in authorities:
        made.add_auth(record)
    assert taken(query, made).keep_s == kept


def test_what_is_kept_counts_down_and_is_not_authoritative_any_more() -> None:
    query = ask(opt=True)
    made = respond(query)
    made.add_answer(rr("CNAME", ALIAS, 50))
    made.add_answer(rr("A", A1, 300, "a.example"))
    made.add_ar(dnslib.EDNS0(flags="do", ext_rcode=0, opts=[dnslib.EDNSOption(10, bytes(16))]))
    answer = taken(query, made)
    other = ask(opt=True, name="WWW.example.com")
    told = parse(answer.kept(other, answer.body(lambda ttl: max(0, ttl - 49))))
    assert ttls(told) == [1, 251]
    assert told.header.aa == 0
    assert parse(answer.given(query)).header.aa == 1
    (opt,) = told.ar
    assert opt.rdata == []
    assert str(told.q.qname) == "WWW.example.com."


def test_what_is_stale_says_so() -> None:
    query = ask(opt=True)
    made = respond(query)
    made.add_answer(rr("A", A1, 3))
    told = parse(taken(query, made).stale(query))
    assert ttls(told) == [30]
    assert told.ar[0].rdata[0].code == 15
    assert told.ar[0].rdata[0].data == b"\0\3"


def test_as_it_came_for_who_asked_only_the_id_differs() -> None:
    query = ask(opt=True)
    made = respond(query)
    made.add_answer(rr("A", A1))
    made.add_ar(dnslib.EDNS0(opts=[dnslib.EDNSOption(15, b"\0\3why")]))
    message = bytes(made.pack())
    given_back = taken(query, made).given(query)
    assert given_back == query.message[:2] + message[2:]
    shared = parse(taken(query, made).shared(ask()))
    assert shared.ar == []
    assert [str(record.rdata) for record in shared.rr] == ["192.0.2.1"]


def test_an_opt_between_other_records_is_left_where_it_is_and_nothing_kept() -> None:
    query = ask(opt=True)
    made = respond(query)
    made.add_answer(rr("A", A1))
    made.add_ar(dnslib.EDNS0())
    made.add_ar(rr("A", dnslib.A("192.0.2.9"), name="ns.example"))
    answer = taken(query, made)
    assert answer.keep_s == 0
    assert len(parse(answer.shared(ask())).ar) == 2


def test_an_extended_rcode_is_not_kept() -> None:
    query = ask(opt=True)
    made = respond(query)
    made.add_answer(rr("A", A1))
    made.add_ar(dnslib.EDNS0(ext_rcode=1))
    assert taken(query, made).keep_s == 0


def test_a_cut_answer_is_not_kept_however_it_ends() -> None:
    query = ask()
    made = respond(query, tc=1)
    made.add_answer(rr("A", A1))
    answer = read(bytes(made.pack())[:-3], NUMBER, query)
    assert (answer.truncated, answer.keep_s) == (True, 0)


def test_a_long_answer_is_passed_on_and_not_kept() -> None:
    query = ask()
    made = respond(query)
    for number in range(300):
        made.add_answer(rr("A", dnslib.A(f"192.0.{number // 250}.{number % 250}")))
    answer = taken(query, made)
    assert answer.keep_s == 0
    assert len(parse(answer.given(query)).rr) == 300


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda m: b"\0\0" + m[2:], NotOurs),
        (lambda m: m[:2] + b"\x01" + m[3:], NotOurs),
        (lambda m: m[:2] + b"\x91" + m[3:], NotOurs),
        (lambda m: m[:11], NotOurs),
        (lambda m: m[:5] + b"\2" + m[6:], NotOurs),
        (lambda m: m[:5] + b"\0" + m[6:], NotOurs),
        (lambda m: m.replace(b"\3www", b"\3wwx"), NotOurs),
        (lambda m: m.replace(b"\3www", b"\3wWw"), OtherCase),
        (lambda m: m.replace(b"com\0\0\1", b"com\0\0\2"), NotOurs),
        (lambda m: m[:-1], Malformed),
        (lambda m: m + b"\0", Malformed),
        (lambda m: m[:7] + b"\7" + m[8:], Malformed),
    ],
    ids=[
        "id",
        "query",
        "opcode",
        "half a header",
        "two questions",
        "none, and no failure",
        "name",
        "case",
        "type",
        "cut",
        "longer",
        "counts",
    ],
)
def test_what_is_not_taken(change: Any, error: type[Exception]) -> None:
    query = ask()
    made = respond(query)
    made.add_answer(rr("A", A1))
    message = bytes(made.pack())
    assert read(message, NUMBER, query).keep_s == 300
    with pytest.raises(error) as caught:
        read(change(message), NUMBER, query)
    assert caught.type is error  # a lost case is told from other questions


def test_over_tcp_the_case_may_be_lost() -> None:
    query = ask(name="wWw.example.com")
    made = respond(query)
    made.add_answer(rr("A", A1))
    message = bytes(made.pack()).replace(b"wWw", b"www")
    answer = read(message, NUMBER, query, any_case=True)
    assert str(parse(answer.given(query)).q.qname) == "wWw.example.com."
    with pytest.raises(NotOurs):
        read(message.replace(b"www", b"wwx"), NUMBER, query, any_case=True)


def test_our_failure_tells_why_to_who_can_read_it() -> None:
    told = parse(failure(ask(opt=True), "nobody home" * 100))
    assert told.header.rcode == dnslib.RCODE.SERVFAIL
    assert told.ar[0].rdata[0].data.startswith(b"\0\x16nobody home")
    assert len(told.ar[0].rdata[0].data) == 202
    assert parse(failure(ask(), "nobody home")).ar == []


@given(st.binary(max_size=120), st.integers(0, 140), st.booleans(), st.booleans())
def test_whatever_comes_is_taken_or_refused_and_what_is_given_can_be_read_again(
    noise: bytes, at: int, opt: bool, cut_out: bool
) -> None:
    query = ask(opt=opt)
    made = respond(query)
    made.add_answer(rr("CNAME", ALIAS, 50))
    made.add_answer(rr("A", A1, 300, "a.example"))
    made.add_auth(rr("SOA", ZONE, 600, "example"))
    made.add_ar(dnslib.EDNS0())
    base = bytes(made.pack())
    message = base[:at] + noise + base[at + (len(noise) if cut_out else 0) :]
    try:
        answer = read(message, NUMBER, query)
    except (NotOurs, Malformed):
        return
    replies = [answer.given(query), answer.shared(ask(opt=not opt))]
    if answer.keep_s:
        replies += [answer.stale(query), answer.kept(query, answer.body(lambda ttl: ttl))]
    for told in replies:
        number = int.from_bytes(told[:2])
        assert read(told, number, query).rcode == answer.rcode
