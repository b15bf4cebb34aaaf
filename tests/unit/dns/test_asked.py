"""A client's query: what of it is passed on, and what decides whether an answer can be shared."""

from __future__ import annotations

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.dns.answer import refusal
from cnm.dns.asked import Asked, Unanswerable, read
from cnm.dns.message import FORMERR, NOTIMP


def query(name: str = "www.example.com", kind: str = "A", **header: int) -> dnslib.DNSRecord:
    made = dnslib.DNSRecord.question(name, kind)
    for field, value in header.items():
        setattr(made.header, field, value)
    return made


def edns(record: dnslib.DNSRecord, *options: tuple[int, bytes], flags: str = "") -> bytes:
    wanted = [dnslib.EDNSOption(code, data) for code, data in options]
    record.add_ar(dnslib.EDNS0(udp_len=4096, flags=flags, opts=wanted))
    return bytes(record.pack())


def plain(record: dnslib.DNSRecord) -> Asked:
    return read(bytes(record.pack()))


def test_a_plain_query_goes_out_as_it_came_with_another_id() -> None:
    record = query("wWw.Example.com", rd=1, ad=1)
    message = bytes(record.pack())
    assert read(message).to_server(0x1234) == b"\x12\x34" + message[2:]


def test_an_opt_goes_out_with_our_size_and_without_what_is_for_one_hop() -> None:
    message = edns(query(), (10, b"cookie!!"), (8, b"subnet"), (12, bytes(64)), flags="do")
    sent = dnslib.DNSRecord.parse(read(message).to_server(7))
    (opt,) = sent.ar
    assert (opt.edns_len, opt.edns_do) == (1232, 1)
    assert [(option.code, option.data) for option in opt.rdata] == [(8, b"subnet")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (query("WWW.example.COM"), query("www.EXAMPLE.com")),
        (query(rd=1), query(rd=1)),
    ],
    ids=["case", "id"],
)
def test_what_makes_no_difference_to_an_answer(
    one: dnslib.DNSRecord, other: dnslib.DNSRecord
) -> None:
    assert plain(one).key == plain(other).key is not None


def test_an_opt_without_options_makes_no_difference() -> None:
    assert read(edns(query(), (10, b"cookie!!"))).key == plain(query()).key


@pytest.mark.parametrize(
    "other",
    [
        query(rd=0),
        query(cd=1),
        query(ad=1),
        query(kind="AAAA"),
        query("ww.wexample.com"),
        query("www.example.com.com"),
        query(kind="A").__class__.question("www.example.com", "A", "CH"),
    ],
    ids=["rd", "cd", "ad", "type", "labels", "name", "class"],
)
def test_what_makes_a_difference(other: dnslib.DNSRecord) -> None:
    assert plain(other).key != plain(query()).key


def test_types_are_not_taken_for_letters() -> None:
    """65 (HTTPS) and 97 are ``A`` and ``a``."""
    https = bytes(query().pack()).replace(b"\0\x01\0\x01", b"\0\x41\0\x01")
    other = bytes(query().pack()).replace(b"\0\x01\0\x01", b"\0\x61\0\x01")
    assert read(https).key != read(other).key


def test_dnssec_makes_a_difference() -> None:
    assert read(edns(query(), flags="do")).key != read(edns(query())).key


def test_an_option_that_is_passed_on_makes_it_private() -> None:
    assert read(edns(query(), (8, b"subnet"))).key is None


@pytest.mark.parametrize(
    ("message", "rcode"),
    [
        (b"", FORMERR),
        (bytes(query().pack())[:15], FORMERR),
        (bytes(query(qr=1).pack()), FORMERR),
        (bytes(query(opcode=5).pack()), NOTIMP),
        (bytes(query(kind="AXFR").pack()), NOTIMP),
        (bytes(query().pack()) + bytes(1300), FORMERR),
        (bytes(12), FORMERR),
        (b"\0\0\1\0\0\2" + bytes(query().pack())[6:], FORMERR),
        (b"\0\0\1\0\0\1" + bytes(6) + b"\xc0\x0c\0\1\0\1", FORMERR),
        (b"\0\0\1\0\0\1" + bytes(6) + (b"\x3f" + b"x" * 63) * 4 + b"\0\0\1\0\1", FORMERR),
    ],
    ids=[
        "empty",
        "cut",
        "response",
        "update",
        "transfer",
        "too long",
        "no question",
        "two questions",
        "compressed",
        "name of 257",
    ],
)
def test_what_is_not_forwarded(message: bytes, rcode: int) -> None:
    with pytest.raises(Unanswerable) as caught:
        read(message)
    assert caught.value.rcode == rcode


def test_the_longest_name_is_forwarded() -> None:
    name = ".".join(["x" * 63, "y" * 63, "z" * 63, "w" * 61])
    assert plain(query(name)).key is not None


@given(st.binary(max_size=300), st.integers(0, 60), st.integers(0, 3))
def test_whatever_comes_is_read_or_refused(noise: bytes, at: int, kind: int) -> None:
    base = bytes(query().pack()) if kind % 2 else edns(query(), (10, b"12345678"))
    message = noise if kind > 1 else base[:at] + noise[: len(noise) // 8] + base[at:]
    try:
        asked = read(message)
    except Unanswerable as error:
        reply = refusal(message, error.rcode)
        assert reply[:2] == message[:2].ljust(2, b"\0")
        assert reply[2] & 0x80
        dnslib.DNSRecord.parse(reply)
    else:
        sent = asked.to_server(0xABCD)
        assert sent[:2] == b"\xab\xcd"
        assert read(sent).question == asked.question
        assert read(sent).key == asked.key
