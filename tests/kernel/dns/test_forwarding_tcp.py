"""Answers that do not fit a datagram, and what can go wrong with a stream."""

from __future__ import annotations

from collections.abc import Sequence

import dnslib
import pytest
from kernel.dns.conftest import ClientFactory, ServerFactory
from kernel.dns.upstreams import (
    ADDRESS,
    Behaviour,
    Raw,
    Seen,
    addresses,
    answer,
    framed,
    question,
    rcode,
    silent,
    well,
)

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("leaves_nothing")]

PARTIAL = "203.0.113.1"


def cut(seen: Seen) -> bytes:
    """A truncated answer, with something in it."""
    reply = answer(seen, PARTIAL)
    reply.header.tc = 1
    return bytes(reply.pack())


def whole(seen: Seen) -> bytes:
    return bytes(answer(seen).pack())


def over_tcp(*pieces: bytes | Raw) -> Behaviour:
    """Cut over UDP; over TCP ``pieces``."""
    return lambda seen: [cut(seen)] if seen.transport == "udp" else pieces


def transports(seen: Sequence[Seen]) -> list[str]:
    return [each.transport for each in seen]


def test_a_cut_answer_is_fetched_whole(serve: ServerFactory, client: ClientFactory) -> None:
    server = serve("127.0.0.2", lambda s: [cut(s)] if s.transport == "udp" else [whole(s)])
    reply = client(server).ask()
    assert addresses(reply) == [ADDRESS]
    assert not reply.header.tc
    assert transports(server.seen) == ["udp", "tcp"]


def test_the_longest_answer_there_can_be(serve: ServerFactory, client: ClientFactory) -> None:
    def long(seen: Seen) -> bytes:
        reply = seen.parsed.reply()
        room = 65535 - len(reply.pack())
        while room > 0:
            size = min(room - 12, 12_000)  # a record has 12 bytes beside its data
            size = size if room - size - 12 == 0 or room - size - 12 > 20 else size - 20
            data = dnslib.RD(bytes(size))
            reply.add_answer(dnslib.RR(reply.q.qname, 65280, rdata=data, ttl=60))
            room -= size + 12
        message = bytes(reply.pack())
        assert len(message) == 65535
        return message

    server = serve("127.0.0.2", lambda s: [cut(s)] if s.transport == "udp" else [long(s)])
    asking = client(server)
    replies = asking.send(question("www.example.com"))
    asking.until(lambda: replies, "the reply")
    assert len(replies[0]) == 65535
    assert replies[0][2:] == long(server.seen[1])[2:]


def test_a_stream_may_come_byte_by_byte(serve: ServerFactory, client: ClientFactory) -> None:
    server = serve(
        "127.0.0.2",
        lambda s: [cut(s)] if s.transport == "udp" else [*_bytes(framed(whole(s))), Raw(b"")],
    )
    assert addresses(client(server).ask()) == [ADDRESS]


def _bytes(data: bytes) -> list[Raw]:
    return [Raw(data[at : at + 1], then_close=False) for at in range(len(data))]


def test_other_messages_of_a_stream_are_passed_over(
    serve: ServerFactory, client: ClientFactory
) -> None:
    def behave(seen: Seen) -> list[bytes]:
        other = (int.from_bytes(seen.message[:2]) ^ 1).to_bytes(2) + whole(seen)[2:]
        return [cut(seen)] if seen.transport == "udp" else [other, b"", whole(seen)]

    assert addresses(client(serve("127.0.0.2", behave)).ask()) == [ADDRESS]


@pytest.mark.parametrize(
    "end",
    [
        Raw(b""),
        Raw(b"\x01"),
        Raw(b"\x01\x00only a part of it"),
        Raw(b"\x01\x00only a part of it", then_close=False),  # and then nothing any more
        Raw(b"", then_close=False),
        Raw(framed(b"no message") * 50),
    ],
    ids=["closed", "half a length", "half closed", "half open", "mute", "noise"],
)
def test_after_a_broken_stream_the_next_server_is_asked(
    end: Raw, serve: ServerFactory, client: ClientFactory
) -> None:
    first, second = serve("127.0.0.2", over_tcp(end)), serve("127.0.0.3", well())
    assert addresses(client(first, second).ask()) == [ADDRESS]
    assert transports(first.seen) == ["udp", "tcp"]


def test_a_cut_answer_is_better_than_none(serve: ServerFactory, client: ClientFactory) -> None:
    servers = serve("127.0.0.2", over_tcp(Raw(b""))), "127.0.0.9"
    reply = client(*servers).ask()
    assert (rcode(reply), addresses(reply)) == ("NOERROR", [PARTIAL])
    assert reply.header.tc


def test_a_cut_answer_of_who_has_no_tcp_is_better_than_a_failure(
    serve: ServerFactory, client: ClientFactory
) -> None:
    first = serve("127.0.0.2", over_tcp(), stream=False)
    second = serve("127.0.0.3", silent)
    asking = client(first, second)
    replies = asking.send(question("www.example.com"))
    asking.until(lambda: second.seen, "the second server to be asked")
    seen = second.seen[0]
    failure = seen.parsed.reply()
    failure.header.rcode = dnslib.RCODE.SERVFAIL
    second.tell(seen, bytes(failure.pack()))
    asking.until(lambda: replies, "the reply")
    reply = dnslib.DNSRecord.parse(replies[0])
    assert (addresses(reply), reply.header.tc) == ([PARTIAL], 1)


def test_who_refuses_tcp_is_not_taken_for_dead(serve: ServerFactory, client: ClientFactory) -> None:
    first = serve("127.0.0.2", over_tcp(), stream=False)
    asking = client(first, serve("127.0.0.3", well()))
    assert addresses(asking.ask("long.example.com")) == [ADDRESS]
    first.behave = well(PARTIAL)
    assert addresses(asking.ask("short.example.com")) == [PARTIAL]


def test_who_answered_by_udp_is_not_silent(serve: ServerFactory, client: ClientFactory) -> None:
    first = serve("127.0.0.2", over_tcp(Raw(b"", then_close=False)))
    asking = client(first, serve("127.0.0.3", well()))
    for number in range(3):
        assert addresses(asking.ask(f"long{number}.example.com")) == [ADDRESS]
    first.behave = well(PARTIAL)
    assert addresses(asking.ask("short.example.com")) == [PARTIAL]
