"""The wire format: what is taken, what is refused, how a long answer is cut; judged by dnslib."""

from __future__ import annotations

import random
import struct
from ipaddress import ip_address

import pytest
from dnslib import (
    AAAA,
    EDNS0,
    QTYPE,
    RR,
    A,
    DNSBuffer,
    DNSHeader,
    DNSQuestion,
    DNSRecord,
    EDNSOption,
)
from hypothesis import given
from hypothesis import strategies as st
from unit.dns.questions import opt, query

from cnm.dns import message
from cnm.dns.message import Malformed, NotAQuery

WEB = b"\x03web\0"
IN_A = struct.pack(">HH", message.A, message.IN)
PLAIN_OPT = b"\0" + struct.pack(">HHIH", message.OPT, 1232, 0, 0)


def body(
    *parts: bytes, flags: bytes = b"\x01\0", counts: tuple[int, int, int, int] = (1, 0, 0, 0)
) -> bytes:
    return flags + struct.pack(">4H", *counts) + b"".join(parts)


def test_a_question_is_read() -> None:
    found = message.read(query("Web.Front", "AAAA")[2:])
    assert found.name == b"\x03Web\x05Front\0"
    assert (found.type, found.klass, found.edns, found.limit) == (28, 1, None, 512)


@pytest.mark.parametrize(
    ("size", "limit"),
    [(0, 512), (100, 512), (512, 512), (1232, 1232), (4096, 4096), (65535, 65535)],
)
def test_the_clients_size_is_honoured(size: int, limit: int) -> None:
    assert message.read(query("web", edns=opt(size))[2:]).limit == limit


def test_options_of_an_opt_are_passed_over() -> None:
    cookie = EDNS0(opts=[EDNSOption(10, b"12345678"), EDNSOption(65001, b"")], udp_len=1400)
    found = message.read(query("web", edns=cookie)[2:])
    assert found.edns == message.Edns(1400, 0, False)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(body(counts=(0, 0, 0, 0)), id="no question"),
        pytest.param(body(WEB + IN_A, WEB + IN_A, counts=(2, 0, 0, 0)), id="two questions"),
        pytest.param(body(WEB + IN_A, counts=(1, 1, 0, 0)), id="an answer"),
        pytest.param(body(WEB + IN_A, counts=(1, 0, 1, 0)), id="an authority"),
        pytest.param(body(WEB, b"\0\1"), id="cut in the type"),
        pytest.param(body(b"\x03we"), id="cut in a label"),
        pytest.param(body(b"\x03web"), id="no end of the name"),
        pytest.param(body(b"\xc0\x0c", IN_A), id="a pointer to itself"),
        pytest.param(body(b"\x03web\xc0\x0c", IN_A), id="a pointer behind a label"),
        pytest.param(body(b"\xc0\x00", IN_A), id="a pointer to the header"),
        pytest.param(body(b"\x40" + bytes(80), IN_A), id="a label of 64"),
        pytest.param(body(b"\x80" + bytes(200), IN_A), id="a reserved label"),
        pytest.param(body((b"\x3f" + b"a" * 63) * 4 + b"\0", IN_A), id="a name of 257"),
        pytest.param(body(b"\1a" * 127 + b"\1a\0", IN_A), id="a name of 257, short labels"),
        pytest.param(body(WEB, IN_A, b"\0"), id="something behind"),
        pytest.param(body(WEB, IN_A, PLAIN_OPT), id="an OPT that is not counted"),
        pytest.param(body(WEB, IN_A, counts=(1, 0, 0, 1)), id="an OPT that is not there"),
        pytest.param(body(WEB, IN_A, PLAIN_OPT, counts=(1, 0, 0, 2)), id="one of two"),
        pytest.param(body(WEB, IN_A, PLAIN_OPT * 2, counts=(1, 0, 0, 2)), id="two OPTs"),
        pytest.param(body(WEB, IN_A, PLAIN_OPT[:-1], counts=(1, 0, 0, 1)), id="a cut OPT"),
        pytest.param(body(WEB, IN_A, WEB + PLAIN_OPT[1:], counts=(1, 0, 0, 1)), id="an owned OPT"),
        pytest.param(
            body(WEB, IN_A, PLAIN_OPT[:-1] + b"\x09", counts=(1, 0, 0, 1)), id="OPT too long"
        ),
        pytest.param(body(WEB, IN_A, counts=(1, 0, 0, 65535)), id="65535 records"),
    ],
)
def test_malformed(wrong: bytes) -> None:
    with pytest.raises(Malformed):
        message.read(wrong)
    reply = DNSRecord.parse(message.error_reply(b"\x12\x34" + wrong, message.REFUSED))
    assert (reply.header.id, reply.header.rcode, reply.header.qr) == (0x1234, message.FORMERR, 1)
    assert reply.questions == []


@pytest.mark.parametrize("kind", [250, 24])  # TSIG, SIG: who does not know them ignores them
def test_other_records_behind_the_question_are_passed_over(kind: int) -> None:
    signature = b"\0" + struct.pack(">HHIH", kind, 255, 0, 3) + b"abc"
    for parts in ((signature,), (PLAIN_OPT, signature), (signature, PLAIN_OPT)):
        found = message.read(body(WEB, IN_A, *parts, counts=(1, 0, 0, len(parts))))
        assert (found.edns is not None) == (PLAIN_OPT in parts)


@pytest.mark.parametrize("size", range(message.HEADER))
def test_less_than_a_header_is_never_answered(size: int) -> None:
    with pytest.raises(NotAQuery):
        message.read(bytes(size))


def test_a_response_is_never_answered() -> None:
    with pytest.raises(NotAQuery):
        message.error_reply(b"\x12\x34" + body(WEB, IN_A, flags=b"\x81\0"), message.SERVFAIL)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = message.read(data)
    except (Malformed, NotAQuery):
        return
    parsed = DNSRecord.parse(b"\0\0" + data)
    assert parsed.q.qtype == found.type
    assert bytes(found.name) == data[message.HEADER : found.end - 4]


@given(
    st.lists(st.text(st.characters(codec="ascii", exclude_characters="."), min_size=1, max_size=70))
)
def test_names_as_dnslib_writes_them(labels: list[str]) -> None:
    text = ".".join(labels)
    encoded = message.encode_name(text)
    fits = bool(labels) and all(len(label) < 64 for label in labels) and len(text) < 254
    assert (encoded is not None) == fits
    if encoded is not None:
        question = DNSQuestion.parse(DNSBuffer(encoded + IN_A))
        assert question.qname.label == tuple(label.encode() for label in labels)


def test_reverse_names() -> None:
    for text in ("10.0.200.3", "fd00::12ab", "255.255.255.255", "::"):
        address = ip_address(text)
        assert message.reverse_name(address.packed) == message.encode_name(address.reverse_pointer)


def long_reply(count: int, *, edns: bool, authority: int = 0) -> bytes:
    record = DNSRecord(DNSHeader(id=7, qr=1, ra=1, rd=1), q=DNSQuestion("far.example"))
    for number in range(count):
        record.add_answer(RR("far.example", QTYPE.A, rdata=A(f"192.0.2.{number % 256}")))
    for number in range(authority):
        record.add_auth(RR(f"ns{number}.example", QTYPE.AAAA, rdata=AAAA("2001:db8::1")))
    if edns:
        record.add_ar(EDNS0(udp_len=1232))
    return bytes(record.pack())


@pytest.mark.parametrize("edns", [False, True])
@pytest.mark.parametrize("limit", [512, 1232, 4096])
def test_a_long_answer_is_cut_between_records(limit: int, edns: bool) -> None:
    whole = long_reply(400, edns=edns)
    cut = message.fit(whole, limit)
    assert limit - 16 < len(cut) <= limit
    reply = DNSRecord.parse(cut)
    assert (reply.header.tc, reply.header.id, str(reply.q.qname)) == (1, 7, "far.example.")
    assert [str(record.rdata) for record in reply.rr] == [
        f"192.0.2.{number % 256}" for number in range(len(reply.rr))
    ]
    assert len(reply.ar) == edns


def test_what_fits_is_left_alone() -> None:
    whole = long_reply(10, edns=True)
    assert message.fit(whole, len(whole)) is whole
    assert message.fit(whole, len(whole) - 1) is not whole


def test_authorities_go_first_and_are_missed() -> None:
    reply = DNSRecord.parse(message.fit(long_reply(3, edns=True, authority=30), 512))
    assert (reply.header.tc, len(reply.rr), len(reply.auth), len(reply.ar)) == (1, 3, 0, 1)


def test_any_upstreams_bytes_are_cut() -> None:
    chosen = random.Random(4)
    whole = bytearray(long_reply(80, edns=True))
    for _ in range(3000):
        wrong = whole.copy()
        for _ in range(chosen.randrange(1, 6)):
            wrong[chosen.randrange(2, len(wrong))] = chosen.randrange(256)
        cut = message.fit(bytes(wrong), 512)
        assert len(cut) <= 512
        assert cut[:2] == wrong[:2]
        assert cut[2] & 0x02
