"""Who asks the same shares an answer; who asks too much waits; who goes leaves nothing."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator, Sequence

import dnslib
import pytest
from kernel.dns.conftest import ClientFactory, ServerFactory
from kernel.dns.upstreams import (
    ADDRESS,
    Behaviour,
    Client,
    Raw,
    Seen,
    Server,
    addresses,
    answer,
    failing,
    opened,
    question,
    rcode,
    silent,
    well,
)
from kernel.namespaces import Namespace

from cnm.dns.admission import Limits
from cnm.dns.place import SandboxPlace

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("leaves_nothing")]


@pytest.fixture
def neighbour(box: Namespace) -> Iterator[SandboxPlace]:
    """Another sandbox; in the same namespace, so that the same servers can be asked."""
    with opened(box, "neighbour") as made:
        yield made


def release(server: Server, *, address: str = ADDRESS) -> None:
    """Answer what waits, and from now on at once."""
    server.behave = well(address)
    for seen in server.seen:
        server.tell(seen, bytes(answer(seen, address).pack()))


def open_sockets() -> int:
    return sum(
        os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        for name in os.listdir("/proc/self/fd")
        if os.path.islink(f"/proc/self/fd/{name}")
    )


def test_the_same_question_goes_out_once(serve: ServerFactory, client: ClientFactory) -> None:
    server = serve("127.0.0.2", silent)
    asking = client(server)
    queries = [question(name) for name in ("www.example.com", "WWW.example.com") * 10]
    waiting = [asking.send(query) for query in queries]
    asking.until(lambda: server.seen, "the query")
    release(server)
    asking.until(lambda: all(waiting), "all replies")
    assert len(server.seen) == 1
    assert asking.counters.joined == 19
    for query, replies in zip(queries, waiting, strict=True):
        assert len(replies) == 1
        assert replies[0][:2] == query[:2]
        assert replies[0][12:33] == query[12:33]  # the question, each in its own letters
        assert addresses(dnslib.DNSRecord.parse(replies[0])) == [ADDRESS]


def test_sandboxes_share_nothing(
    neighbour: SandboxPlace, serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", silent)
    asking = client(server)
    waiting = [asking.send(question("www.example.com"), each) for each in (None, neighbour)]
    asking.until(lambda: len(server.seen) == 2, "two queries")
    release(server)
    asking.until(lambda: all(waiting), "both replies")
    asking.ask()
    asking.ask(place=neighbour)
    assert len(server.seen) == 2


def test_what_is_too_much_waits_and_delays_nobody_else(
    neighbour: SandboxPlace, serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", silent)
    asking = client(server, limits=Limits(under_way_of_sandbox=3, under_way=5))
    waiting = [asking.send(question(f"{number}.example.com")) for number in range(20)]
    asking.until(lambda: len(server.seen) == 3, "three queries")
    others = asking.send(question("other.example.com"), neighbour)
    asking.until(lambda: len(server.seen) == 4, "the neighbour's query")
    release(server)
    asking.until(lambda: others and all(waiting), "all replies")
    assert len(server.seen) == 21
    names = [str(dnslib.DNSRecord.parse(replies[0]).q.qname) for replies in waiting]
    assert names == [f"{number}.example.com." for number in range(20)]
    assert {len(replies) for replies in waiting} == {1}


def test_who_asks_without_measure_is_refused(
    neighbour: SandboxPlace, serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", silent)
    limits = Limits(under_way_of_sandbox=2, askers_of_sandbox=5)
    asking = client(server, limits=limits)
    waiting = [asking.send(question(f"{number}.example.com")) for number in range(8)]
    assert [len(replies) for replies in waiting] == [0] * 5 + [1] * 3
    assert rcode(dnslib.DNSRecord.parse(waiting[7][0])) == "SERVFAIL"
    assert asking.counters.refused == 3
    others = asking.send(question("other.example.com"), neighbour)
    asking.until(lambda: len(server.seen) == 3, "the queries")
    release(server)
    asking.until(lambda: others and all(waiting), "all replies")
    assert addresses(asking.ask("0.example.com")) == [ADDRESS]  # and may ask again


def test_sockets_are_bounded_and_closed(serve: ServerFactory, client: ClientFactory) -> None:
    servers = [serve(f"127.0.0.{number}", silent) for number in (2, 3, 4)]
    asking = client(*servers, limits=Limits(under_way_of_sandbox=4, under_way=4))
    before = open_sockets()
    waiting = [asking.send(question(f"{number}.example.com")) for number in range(40)]
    asking.until(lambda: len(servers[2].seen) >= 4, "all servers to be asked")
    assert open_sockets() == before + 12
    for server in servers:
        release(server)
    asking.until(lambda: all(waiting), "all replies")
    assert open_sockets() == before


def test_what_nobody_answers_ends_also_for_those_in_line(
    serve: ServerFactory, client: ClientFactory
) -> None:
    asking = client(serve("127.0.0.2", silent), limits=Limits(under_way_of_sandbox=2))
    waiting = [asking.send(question(f"{number}.example.com")) for number in range(30)]
    asking.until(lambda: all(waiting), "all replies")
    words = {rcode(dnslib.DNSRecord.parse(replies[0])) for replies in waiting}
    assert words == {"SERVFAIL"}


def test_a_sandbox_that_goes_takes_its_questions_along(
    neighbour: SandboxPlace, place: SandboxPlace, serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", silent)
    asking = client(server, limits=Limits(under_way_of_sandbox=3))
    before = open_sockets()
    gone = [asking.send(question(f"{number}.example.com")) for number in range(10)]
    others = asking.send(question("other.example.com"), neighbour)
    asking.until(lambda: len(server.seen) == 4, "the queries")
    asking.forwarder.forget(place)
    assert open_sockets() == before + 1
    release(server)
    asking.until(lambda: others, "the neighbour's reply")
    assert not any(gone)
    assert len(server.seen) == 4
    asking.forwarder.forget(place)  # again is fine
    asking.forwarder.forget(neighbour)


def test_what_a_sandboxs_servers_said_is_forgotten_with_it(
    place: SandboxPlace, serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", well())
    asking = client(server)
    for count in (1, 2):
        asking.ask()
        asking.ask()
        assert len(server.seen) == count
        asking.forwarder.forget(place)


def test_a_namespace_that_is_gone_fails_clean(
    box: Namespace, serve: ServerFactory, client: ClientFactory
) -> None:
    asking = client(serve("127.0.0.2", well()))
    with opened(box, "short-lived") as place:
        assert addresses(asking.ask(place=place)) == [ADDRESS]
    assert rcode(asking.ask("b.example.com", place=place)) == "SERVFAIL"
    assert addresses(asking.ask("c.example.com")) == [ADDRESS]


def test_a_reply_that_fails_leaves_the_others_alone(
    serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("127.0.0.2", silent)
    asking = client(server)

    def broken(_reply: bytes) -> None:
        raise OSError("the client's socket is closed")

    asking.forwarder.forward(asking.place, asking.servers, question("www.example.com"), broken)
    waiting = asking.send(question("www.example.com"))
    asking.until(lambda: server.seen, "the query")
    release(server)
    asking.until(lambda: waiting, "the reply")
    (failure,) = asking.failures
    assert isinstance(failure, ExceptionGroup)
    asking.failures.clear()


def test_whatever_servers_do_each_question_has_one_reply(
    neighbour: SandboxPlace, serve: ServerFactory, client: ClientFactory
) -> None:
    moods: list[Behaviour] = [
        well(),
        well(ttl=1),
        silent,
        failing("SERVFAIL"),
        failing("NXDOMAIN", soa=True),
        lambda seen: [b"noise", *well()(seen)],
        lambda seen: [seen.message[:12] * 9] * 9,
        lambda seen: [Raw(b"\1\0x", then_close=False)] if seen.transport == "tcp" else [_cut(seen)],
    ]
    chance = random.Random(20)

    def moody(seen: Seen) -> Sequence[bytes | Raw]:
        return chance.choice(moods)(seen)

    asking = client(serve("127.0.0.2", moody), serve("127.0.0.3", moody), "127.0.0.9")
    before = open_sockets()
    waiting = []
    for _ in range(20):
        for place in (None, neighbour):
            names = [f"{chance.randrange(100)}.example.com" for _ in range(10)]
            waiting += [asking.send(question(name), place) for name in names]
        asking.loop.turn(0.01)
    asking.until(lambda: all(waiting), "all replies")
    assert {len(replies) for replies in waiting} == {1}
    asking.forwarder.forget(neighbour)
    asking.forwarder.forget(asking.place)
    assert asking.counters.ignored > 0
    asking.until(lambda: open_sockets() <= before, "the servers' ends to be closed as well")


def _cut(seen: Seen) -> bytes:
    reply = seen.parsed.reply()
    reply.header.tc = 1
    return bytes(reply.pack())


def test_everything_is_closed_at_the_end(serve: ServerFactory, client: ClientFactory) -> None:
    server = serve("127.0.0.2", silent)
    before = set(os.listdir("/proc/self/fd"))
    asking: Client = client(server)
    waiting = [asking.send(question(f"{number}.example.com")) for number in range(200)]
    asking.until(lambda: len(server.seen) == 100, "the queries")
    with contextlib.closing(asking.loop):
        asking.forwarder.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert not any(waiting)
