"""What may pass for an answer, and what happens with what may not."""

from __future__ import annotations

import socket
from collections.abc import Callable

import dnslib
import pytest
from kernel.dns.conftest import ClientFactory, ServerFactory
from kernel.dns.upstreams import ADDRESS, Seen, addresses, answer, question, rcode, silent, well
from kernel.namespaces import Namespace, entered

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("leaves_nothing")]

FORGED = "203.0.113.66"


def forged(seen: Seen) -> bytes:
    return bytes(answer(seen, FORGED).pack())


def another_id(seen: Seen) -> bytes:
    message = forged(seen)
    return (int.from_bytes(message[:2]) ^ 1).to_bytes(2) + message[2:]


def another_name(seen: Seen) -> bytes:
    return forged(seen).replace(b"\x03www", b"\x03wwx")


def another_type(seen: Seen) -> bytes:
    asked = dnslib.DNSRecord.question(str(seen.parsed.q.qname), "AAAA")
    asked.header.id = seen.parsed.header.id
    return bytes(asked.reply().pack())


def two_questions(seen: Seen) -> bytes:
    asked = dnslib.DNSRecord.parse(seen.message)
    asked.add_question(dnslib.DNSQuestion("www.example.com"))
    reply = asked.reply()
    reply.add_question(dnslib.DNSQuestion("www.example.com"))
    return bytes(reply.pack())


NO_ANSWERS: dict[str, Callable[[Seen], bytes]] = {
    "another id": another_id,
    "another name": another_name,
    "another type": another_type,
    "two questions": two_questions,
    "the query itself": lambda seen: seen.message,
    "nothing": lambda _seen: b"",
    "a cut header": lambda seen: forged(seen)[:11],
    "a cut question": lambda seen: forged(seen)[:20],
    "another opcode": lambda seen: forged(seen)[:2] + b"\xa0\x00" + forged(seen)[4:],
}


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_what_is_no_answer_is_ignored_and_the_answer_is_taken(
    name: str, serve: ServerFactory, client: ClientFactory
) -> None:
    bad = NO_ANSWERS[name]
    server = serve("127.0.0.2", lambda seen: [bad(seen), *well()(seen)])
    asking = client(server)
    assert addresses(asking.ask()) == [ADDRESS]
    assert asking.counters.ignored == 1
    assert len(server.seen) == 1


def test_an_answer_from_elsewhere_is_not_even_seen(
    box: Namespace, serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", silent)
    asking = client(server)
    replies = asking.send(question("www.example.com"))
    asking.until(lambda: server.seen, "the query")
    (seen,) = server.seen
    with entered(box):
        attacker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with attacker:
        attacker.bind(("127.0.0.2", 5300))  # the server's address, but not its port
        attacker.sendto(forged(seen), seen.source)
    server.tell(seen, bytes(answer(seen).pack()))
    asking.until(lambda: replies, "the reply")
    assert addresses(dnslib.DNSRecord.parse(replies[0])) == [ADDRESS]
    assert asking.counters.ignored == 0


def test_under_a_hail_of_forgeries_it_is_asked_over_tcp(
    serve: ServerFactory, client: ClientFactory
) -> None:
    def behave(seen: Seen) -> list[bytes]:
        hail = [another_id(seen)] * 20
        return [*hail, forged(seen)] if seen.transport == "udp" else [bytes(answer(seen).pack())]

    server = serve("127.0.0.2", behave)
    assert addresses(client(server).ask()) == [ADDRESS]
    assert [seen.transport for seen in server.seen] == ["udp", "tcp"]


def test_ids_and_ports_cannot_be_guessed(serve: ServerFactory, client: ClientFactory) -> None:
    server = serve("127.0.0.2", well())
    asking = client(server)
    for number in range(60):
        asking.ask(f"{number}.example.com")
    ids = [seen.parsed.header.id for seen in server.seen]
    ports = [seen.source[1] for seen in server.seen]
    for numbers in (ids, ports):
        assert len(set(numbers)) > 50
        # neither counted up nor near one another: sorted they spread over most of their range
        steps = [after - before for before, after in zip(numbers, numbers[1:], strict=False)]
        assert len(set(steps)) > 50
        assert max(numbers) - min(numbers) > 15_000


def test_the_letters_case_is_the_clients_both_ways(
    serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", well())
    asking = client(server)
    reply = asking.reply_to(question("wWw.ExAmPlE.cOm"))
    assert b"\x03wWw\x07ExAmPlE\x03cOm" in server.seen[0].message
    assert b"\x03wWw\x07ExAmPlE\x03cOm" in reply
    reply = asking.reply_to(question("WWW.example.com"))  # from the cache
    assert b"\x03WWW\x07example\x03com" in reply
    assert addresses(dnslib.DNSRecord.parse(reply)) == [ADDRESS]
    assert len(server.seen) == 1


def test_a_server_that_loses_the_case_is_asked_over_tcp(
    serve: ServerFactory, client: ClientFactory
) -> None:
    def behave(seen: Seen) -> list[bytes]:
        return [bytes(answer(seen).pack()).replace(b"\x03WwW", b"\x03www")]

    server = serve("127.0.0.2", behave)
    asking = client(server)
    replies = asking.send(question("WwW.example.com"))
    asking.until(lambda: replies, "the reply")
    assert [seen.transport for seen in server.seen] == ["udp", "tcp"]
    assert b"\x03WwW\x07example\x03com" in replies[0]
    assert addresses(dnslib.DNSRecord.parse(replies[0])) == [ADDRESS]


def test_records_that_make_no_sense_are_not_passed_on(
    serve: ServerFactory, client: ClientFactory
) -> None:
    first = serve("127.0.0.2", lambda seen: [bytes(answer(seen).pack())[:-2]])
    asking = client(first, serve("127.0.0.3", well()))
    assert addresses(asking.ask("a.example.com")) == [ADDRESS]
    assert rcode(client(first).ask("b.example.com")) == "SERVFAIL"
