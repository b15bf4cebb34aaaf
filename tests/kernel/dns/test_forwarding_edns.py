"""The OPT record: what is passed on and what is not; and queries that are passed as they are."""

from __future__ import annotations

import dnslib
import pytest
from kernel.dns.conftest import ClientFactory, ServerFactory
from kernel.dns.upstreams import ADDRESS, Seen, addresses, answer, question, rcode, silent, well

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("leaves_nothing")]

COOKIE, NSID, ECS, PADDING = 10, 3, 8, 12


def edns(*options: tuple[int, bytes], size: int = 4096, flags: str = "") -> dnslib.EDNS0:
    wanted = [dnslib.EDNSOption(code, data) for code, data in options]
    return dnslib.EDNS0(udp_len=size, flags=flags, opts=wanted)


def opt(message: dnslib.DNSRecord) -> dnslib.RR | None:
    found = [record for record in message.ar if record.rtype == dnslib.QTYPE.OPT]
    assert len(found) <= 1
    return found[0] if found else None


def options(message: dnslib.DNSRecord) -> dict[int, bytes]:
    record = opt(message)
    return {option.code: option.data for option in record.rdata} if record else {}


def with_opt(seen: Seen) -> list[bytes]:
    """An answer with an OPT, whether it was asked for or not."""
    reply = answer(seen)
    reply.add_ar(edns((NSID, b"ns1"), size=1400))
    return [bytes(reply.pack())]


def test_without_an_opt_none_is_sent_and_none_is_given(
    serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", with_opt)
    reply = client(server).ask()
    assert addresses(reply) == [ADDRESS]
    assert opt(reply) is None
    assert opt(server.seen[0].parsed) is None


def test_flags_and_options_are_passed_on_and_the_size_is_ours(
    serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", with_opt)
    reply = client(server).ask(
        edns=edns((NSID, b""), (ECS, bytes.fromhex("00011800c00002")), flags="do")
    )
    sent = opt(server.seen[0].parsed)
    assert sent is not None
    assert (sent.edns_len, sent.edns_do, sent.edns_ver) == (1232, 1, 0)
    assert set(options(server.seen[0].parsed)) == {NSID, ECS}
    assert options(reply) == {NSID: b"ns1"}


def test_cookies_and_padding_go_no_further(serve: ServerFactory, client: ClientFactory) -> None:
    server = serve("127.0.0.2", well())
    reply = client(server).ask(edns=edns((COOKIE, b"12345678"), (PADDING, bytes(100))))
    assert options(server.seen[0].parsed) == {}
    assert addresses(reply) == [ADDRESS]


def test_an_answer_for_one_client_only_is_not_kept(
    serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", well())
    asking = client(server)
    for count in (1, 2):
        asking.ask(edns=edns((ECS, bytes.fromhex("00011800c00002"))))
        assert len(server.seen) == count
    asking.ask()
    assert len(server.seen) == 3


def test_out_of_the_cache_the_opt_is_for_who_asks(
    serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", with_opt)
    asking = client(server)
    first = asking.ask(edns=edns())
    assert options(first) == {NSID: b"ns1"}
    assert opt(asking.ask()) is None
    again = asking.ask(edns=edns((COOKIE, b"12345678")))
    assert opt(again) is not None
    assert options(again) == {}
    assert len(server.seen) == 1


def test_who_shares_an_answer_has_no_opt_of_another(
    serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", silent)
    asking = client(server)
    queries = (question("www.example.com", "A", edns()), question("www.example.com"))
    waiting = [asking.send(query) for query in queries]
    asking.until(lambda: server.seen, "the query")
    (seen,) = server.seen
    server.tell(seen, *with_opt(seen))
    asking.until(lambda: all(waiting), "both replies")
    first, second = (dnslib.DNSRecord.parse(replies[0]) for replies in waiting)
    assert options(first) == {NSID: b"ns1"}
    assert opt(second) is None
    assert addresses(second) == [ADDRESS]


def test_who_shares_an_answer_has_an_opt_if_it_sent_one(
    serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", silent)
    asking = client(server)
    queries = (question("www.example.com"), question("www.example.com", "A", edns()))
    waiting = [asking.send(query) for query in queries]
    asking.until(lambda: server.seen, "the query")
    server.tell(server.seen[0], bytes(answer(server.seen[0]).pack()))
    asking.until(lambda: all(waiting), "both replies")
    first, second = (opt(dnslib.DNSRecord.parse(replies[0])) for replies in waiting)
    assert first is None
    assert second is not None
    assert second.edns_len == 1232


@pytest.mark.parametrize("flag", ["do", "cd", "ad", "not rd"])
def test_what_changes_an_answer_keeps_it_apart(
    flag: str, serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", well())
    asking = client(server)
    asking.ask(edns=edns())
    other = dnslib.DNSRecord.question("www.example.com")
    other.add_ar(edns(flags="do" if flag == "do" else ""))
    other.header.cd, other.header.ad = flag == "cd", flag == "ad"
    other.header.rd = flag != "not rd"
    for _ in range(2):  # the second one has it from the cache
        asking.reply_to(bytes(other.pack()))
        assert len(server.seen) == 2


def test_a_signed_query_is_passed_on_untouched(serve: ServerFactory, client: ClientFactory) -> None:
    server = serve("127.0.0.2", lambda seen: [seen.message[:2] + b"\x81\x80" + seen.message[4:]])
    signed = dnslib.DNSRecord.question("www.example.com")
    signed.add_ar(edns((COOKIE, b"12345678")))
    signed.add_ar(dnslib.RR("key.", 250, 255, 0, dnslib.RD(b"as if it were a TSIG")))
    query = bytes(signed.pack())
    asking = client(server)
    for count in (1, 2):  # and not kept
        reply = asking.reply_to(query)
        assert server.seen[-1].message[2:] == query[2:]
        assert reply[4:] == query[4:]
        assert len(server.seen) == count


@pytest.mark.parametrize(
    ("query", "word"),
    [
        (question("example.com", "AXFR"), "NOTIMP"),
        (question("example.com", "IXFR"), "NOTIMP"),
        (b"\x12\x34\x28" + question("example.com", "SOA")[3:], "NOTIMP"),  # an update
        (question("example.com")[:-3], "FORMERR"),
        (question("example.com")[:11], "FORMERR"),
        (question("example.com") + bytes(2000), "FORMERR"),
        (b"\x12\x34\x81" + question("example.com")[3:], "FORMERR"),  # a response
        (b"\x12", "FORMERR"),
        (b"", "FORMERR"),
    ],
    ids=[
        "transfer",
        "incremental transfer",
        "update",
        "half a question",
        "half a header",
        "too long",
        "response",
        "one byte",
        "nothing",
    ],
)
def test_what_cannot_be_forwarded_is_refused_at_once(
    query: bytes, word: str, serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", well())
    (reply,) = client(server).send(query)
    assert reply[:2] == query[:2].ljust(2, b"\0")
    assert rcode(dnslib.DNSRecord.parse(reply)) == word
    assert server.seen == []
