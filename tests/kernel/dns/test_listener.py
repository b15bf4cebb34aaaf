"""A sandbox's sockets, asked by dig, by dnslib and by whoever misbehaves."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from dnslib import RR, DNSRecord
from kernel.dns.conftest import ServerFactory
from kernel.dns.serving import ADDRESS, SO_RCVBUFFORCE, Sandbox, Serving, Stream, asking
from kernel.dns.upstreams import Seen, framed, question, silent, well
from kernel.namespaces import Namespace, NamespaceFactory, entered, poll
from unit.dns.questions import answers, opt
from unit.dns.test_names import endpoint

from cnm.discovery import NetworkNames
from cnm.dns import stream
from cnm.dns.listener import Listener, Shared
from cnm.dns.names import Owner, Table, View
from cnm.dns.place import SandboxPlace
from cnm.dns.statistics import Counters
from cnm.runtime.kernel.loop import Loop
from cnm.types import EndpointID, NetworkID

pytestmark = pytest.mark.kernel

_KINDS = (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_DGRAM)
FRONT = NetworkID("f" * 64)
ServeBox = Callable[..., Sandbox]


def table(*more: object) -> Table:
    known = [endpoint(1, "web www", "10.0.0.2"), endpoint(2, "db", "10.0.0.3 fd00::3")]
    return Table.build(NetworkNames(FRONT, "front", (*known, *more)))  # type: ignore[arg-type]


def crowd(count: int) -> Table:
    """Many holders of one name."""
    return table(*(endpoint(n, "all", f"10.9.{n >> 8}.{n & 255}") for n in range(10, 10 + count)))


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    with Serving(tmp_path) as made:
        yield made


@pytest.fixture
def sandbox(serving: Serving, box: Namespace) -> Sandbox:
    return serving.serve(box, View((table(),), forward=False))


def test_dig_understands_every_answer(sandbox: Sandbox) -> None:
    assert sandbox.short("web") == ["10.0.0.2"]
    assert sandbox.short("web.front.", "+tcp") == ["10.0.0.2"]
    assert sandbox.short("DB", "AAAA") == ["fd00::3"]
    assert sandbox.short("-x", "10.0.0.3") == ["db.front."]
    assert sandbox.short("-x", "fd00::3") == ["db.front."]
    assert sorted(sandbox.short("db", "ANY")) == ["10.0.0.3", "fd00::3"]


def test_dig_sees_no_denial(sandbox: Sandbox) -> None:
    for kind in ("AAAA", "MX", "TXT", "SRV", "HTTPS"):
        said = sandbox.dig("web", kind)
        assert "status: NOERROR" in said
        assert "flags: qr aa rd ra; QUERY: 1, ANSWER: 0, AUTHORITY: 1, ADDITIONAL: 1" in said
        assert "EDNS: version: 0, flags:; udp: 1232" in said
        assert "WARNING" not in said


def test_dig_of_odd_things(sandbox: Sandbox) -> None:
    assert "status: REFUSED" in sandbox.dig("CH", "TXT", "version.bind")
    assert "status: BADVERS" in sandbox.dig("web", "+edns=5", "+noednsnegotiation")
    assert "status: NOTIMP" in sandbox.dig("web", "+opcode=NOTIFY")
    assert "status: SERVFAIL" in sandbox.dig("web.example.com")
    assert "flags: do" in sandbox.dig("web", "+dnssec")
    assert "ANSWER: 1" in sandbox.dig("web", "+noedns")
    assert "ANSWER: 1" in sandbox.dig("web", "+subnet=192.0.2.0/24", "+nsid", "+padding=256")
    assert "flags: qr aa ra;" in sandbox.dig("web", "+norecurse").replace("ra cd", "ra")


def test_dig_goes_over_to_tcp(serving: Serving, box: Namespace) -> None:
    sandbox = serving.serve(box, View((crowd(300),)))
    assert len(sandbox.short("all")) == 300
    cut = sandbox.dig("all", "+ignore", "+noedns")
    assert "flags: qr aa tc rd ra; QUERY: 1, ANSWER: 30," in cut
    whole = sandbox.dig("all", "+ignore", "+bufsize=8192")  # longer than a slot
    assert "flags: qr aa rd ra; QUERY: 1, ANSWER: 300," in whole
    assert sandbox.counters.tcp_connections == 1


def test_the_port_stays_free(sandbox: Sandbox) -> None:
    """The container's own server can have it."""
    listening = sandbox.box.run("ss", "-Hlnut")
    assert f"{ADDRESS}:{sandbox.udp_port}" in listening
    assert ":53 " not in listening


def test_names_of_others_are_asked_from_their_servers(
    serving: Serving, box: Namespace, serve: ServerFactory
) -> None:
    upstream = serve("127.0.0.2", well("198.51.100.7"))
    sandbox = serving.serve(box, View((table(),), servers=(upstream.address,)))
    assert sandbox.short("www.example.com") == ["198.51.100.7"]
    assert sandbox.short("www.example.com", "+tcp") == ["198.51.100.7"]
    assert sandbox.short("web") == ["10.0.0.2"]
    assert "web" not in {str(seen.parsed.q.qname) for seen in upstream.seen}
    counted = sandbox.counters
    assert (counted.queries, counted.forwarded, counted.answered) == (3, 2, 1)
    assert counted.upstream.count == 2


def many(seen: Seen) -> list[bytes]:
    """60 records, over UDP as well."""
    reply = seen.parsed.reply()
    for number in range(60):
        reply.add_answer(*RR.fromZone(f"{seen.parsed.q.qname} 60 A 192.0.2.{number}"))
    return [bytes(reply.pack())]


def test_a_long_forwarded_answer_is_cut_for_udp(
    serving: Serving, box: Namespace, serve: ServerFactory
) -> None:
    upstream = serve("127.0.0.2", many)
    sandbox = serving.serve(box, View((table(),), servers=(upstream.address,)))
    reply = DNSRecord.parse(sandbox.ask(question("far.example")))
    assert reply.header.tc == 1
    assert 20 < len(reply.rr) < 60
    assert sandbox.counters.truncated == 1
    assert len(sandbox.short("far.example", "+noedns")) == 60  # over TCP


def test_the_host_may_ask_over_ipv6_as_well(
    serving: Serving, box: Namespace, serve: ServerFactory
) -> None:
    """In turn with IPv4, whose addresses are shorter; answers that come later find back, too."""
    upstream = serve("127.0.0.2", well("198.51.100.7"))
    view = View((crowd(300),), servers=(upstream.address,))
    four, six = (serving.listen(box, view, address) for address in ("127.0.0.1", "::1"))
    for _ in range(3):
        for sandbox, address in ((four, "127.0.0.1"), (six, "::1")):
            for name, count in (("web", 1), ("www.example.com", 1), ("all", 300)):
                where = (f"@{address}", "-p", str(sandbox.udp_port), "+bufsize=8192", "+ignore")
                said = box.run("dig", *where, "+tries=1", "+short", name)
                assert len(said.split()) == count
    assert box.run("dig", "@::1", "-p", str(six.tcp_port), "+tcp", "+short", "web") == "10.0.0.2\n"


def test_clients_are_told_apart(serving: Serving, make_ns: NamespaceFactory) -> None:
    """Each sandbox has its own view, whatever the other asks."""
    one = serving.serve(make_ns("one"), View((table(),), forward=False))
    two = serving.serve(make_ns("two"), View((crowd(1),), forward=False))
    other = Table.build(NetworkNames(FRONT, "x", (endpoint(7, "web", "10.7.7.7"),)))
    three = serving.serve(make_ns("three"), View((other,), forward=False))
    for _ in range(3):
        assert one.short("web") == two.short("web") == ["10.0.0.2"]
        assert three.short("web") == ["10.7.7.7"]
        assert "SERVFAIL" in one.dig("all")
        assert two.short("all") == ["10.9.0.10"]


def test_a_burst_is_answered_whole(sandbox: Sandbox) -> None:
    """More than a batch waits when the loop comes to it."""
    queries = {}
    for number in range(500):
        query = question("web" if number % 3 else "db", "AAAA" if number % 2 else "A")
        queries[number] = struct.pack(">H", number) + query[2:]
    with sandbox.datagram() as client:
        client.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
        for query in queries.values():
            client.send(query)
        replies = [client.recv(4096) for _ in queries]
    assert len({reply[:2] for reply in replies}) == 500
    for reply in map(DNSRecord.parse, replies):
        assert reply.q == DNSRecord.parse(queries[reply.header.id]).q
    poll(lambda: sandbox.counters.queries == 500, "all to be counted")
    assert sandbox.counters.answered + sandbox.counters.nodata == 500
    assert sandbox.counters.local.count == 500


class Defective(Table):
    """Stands for an error of ours that one question meets."""

    __slots__ = ()

    def find_qualified(self, name: bytes) -> Owner | None:
        if name == b"\x04boom\0":
            raise RuntimeError("boom")
        return super().find_qualified(name)


def test_an_error_of_ours_costs_the_question_that_meets_it(
    serving: Serving, box: Namespace
) -> None:
    """Not those that came with it, and not the loop."""
    defective = Defective.build(table().names())
    sandbox = serving.serve(box, View((defective,), forward=False))
    with sandbox.datagram() as client, sandbox.stream() as bad, sandbox.stream() as good:
        serving.do(lambda: [client.send(question(name)) for name in ("web", "boom", "db")])
        names = [str(DNSRecord.parse(client.recv(4096)).q.qname) for _ in range(2)]
        assert names == ["web.", "db."]
        bad.send(question("boom"), question("web"))
        assert bad.is_closed()
        good.send(question("web"))
        assert good.read()
    assert [str(error) for error in serving.failures] == ["boom", "boom"]
    serving.failures.clear()


class Laborious:
    """Forwarding of which each question takes half a millisecond to begin."""

    def __init__(self) -> None:
        self.begun = 0

    def forward(self, *_: object) -> None:
        self.begun += 1
        time.sleep(0.0005)

    def forget(self, place: SandboxPlace) -> None: ...


def test_questions_that_take_long_are_taken_in_small_batches(box: Namespace) -> None:
    """Else who asks for others' names at once holds everybody up for 64 of them."""
    failures: list[Exception] = []
    laborious = Laborious()
    with closing(Loop(failures.append)) as loop, entered(box):
        udp, tcp, client = (socket.socket(socket.AF_INET, kind) for kind in _KINDS)
        for each in (udp, tcp):
            each.bind((ADDRESS, 0))
        tcp.listen()
        place = SandboxPlace("x", -1)
        view = View((table(),))
        listener = Listener(loop, place, udp, tcp, view, laborious, Counters(), Shared())
        with client, closing(listener):
            client.connect(udp.getsockname())
            for _ in range(200):
                client.send(question("www.example.com"))
            taken: list[int] = []
            while sum(taken) < 200:
                before = laborious.begun
                loop.turn(1.0)
                taken.append(laborious.begun - before)
            for _ in range(64):
                client.send(question("web"))
            while listener.counters.answered < 64:
                loop.turn(1.0)
    assert taken[:5] == [64, 32, 16, 8, 4]
    assert max(taken[5:]) <= 8
    assert failures == []


def test_tables_swap_under_load_and_no_query_is_lost(serving: Serving, sandbox: Sandbox) -> None:
    found = table()
    queries = [question("web"), question("db", "AAAA"), question("come")]
    with asking(sandbox, queries) as replies:
        for number in range(300):
            endpoint_id = EndpointID(f"{9:064x}")
            comes = (
                found.without(endpoint_id)
                if number % 2
                else found.with_endpoint(endpoint(9, "come", "10.0.0.9"))
            )
            found = comes
            serving.do(partial(sandbox.listener.see, View((found,), forward=False)))
            reply = DNSRecord.parse(sandbox.ask(question("come")))
            assert answers(reply) == ([] if number % 2 else ["10.0.0.9"])  # at once
    assert len(replies) > 300
    for reply in map(DNSRecord.parse, replies):
        if str(reply.q.qname) != "come.":
            assert len(reply.rr) == 1


def test_what_is_in_flight_survives_another_view(
    serving: Serving, box: Namespace, serve: ServerFactory
) -> None:
    upstream = serve("127.0.0.2", silent)
    view = View((table(),), servers=(upstream.address,))
    sandbox = serving.serve(box, view)
    query = question("slow.example")
    with sandbox.datagram() as client, sandbox.stream() as connection:
        client.send(query)
        poll(lambda: upstream.seen, "the upstream to be asked")
        connection.send(query)
        poll(lambda: sandbox.counters.forwarded == 2, "both to be forwarded")
        serving.do(lambda: sandbox.listener.see(View((crowd(2),), servers=(upstream.address,))))
        upstream.tell(upstream.seen[0], well("192.0.2.9")(upstream.seen[0])[0])  # type: ignore[arg-type]
        for reply in (client.recv(4096), connection.read()):
            assert answers(DNSRecord.parse(reply)) == ["192.0.2.9"]


def test_who_closes_leaves_nothing_watched(serving: Serving, sandbox: Sandbox) -> None:
    with sandbox.stream() as connection:
        connection.send(question("web"))
        assert connection.read()
        serving.stop(sandbox)
        assert connection.is_closed()
    assert len(serving.loop._ready) == 1  # what wakes the loop
    assert sandbox.box.run("ss", "-Hlnut") == ""


def test_who_leaves_its_sockets_unread_answers_what_it_has_read(
    serving: Serving, box: Namespace, serve: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_SWEEP_S", 0.05)  # which must not accept again
    upstream = serve("127.0.0.2", silent)
    sandbox = serving.serve(box, View((table(),), servers=(upstream.address,)))
    with sandbox.datagram() as client, sandbox.stream() as connection:
        client.send(question("slow.example"))
        connection.send(question("web"))
        assert connection.read()
        poll(lambda: upstream.seen, "the upstream to be asked")
        serving.do(sandbox.listener.leave_unread)
        client.send(question("web"))
        with sandbox.stream() as late:
            late.send(question("web"))
            upstream.tell(upstream.seen[0], well()(upstream.seen[0])[0])  # type: ignore[arg-type]
            assert str(DNSRecord.parse(client.recv(4096)).q.qname) == "slow.example."
            late.socket.settimeout(0.5)
            with pytest.raises(TimeoutError):
                late.socket.recv(1)
        assert sandbox.counters.queries == 2


def test_the_log_sees_every_query(serving: Serving, sandbox: Sandbox) -> None:
    seen: list[tuple[str, str, bytes | None]] = []

    class Log:
        def saw(
            self, _place: object, transport: str, query: bytes, reply: bytes | None, took_s: float
        ) -> None:
            assert took_s >= 0
            seen.append((transport, str(DNSRecord.parse(query).q.qname), reply))

    query = question("web")
    first = sandbox.ask(query)
    serving.do(lambda: sandbox.listener.watch(Log()))
    assert sandbox.ask(query) == first  # although it is kept
    sandbox.short("db", "+tcp")
    sandbox.dig("web.example.com")
    with sandbox.datagram() as client:
        client.send(first)  # a response: dropped
        client.send(query)
        client.recv(4096)
    serving.do(lambda: sandbox.listener.watch(None))
    sandbox.ask(query)
    assert [each[:2] for each in seen] == [
        ("udp", "web."),
        ("tcp", "db."),
        ("udp", "web.example.com."),
        ("udp", "web."),
        ("udp", "web."),
    ]
    assert [each[2] is None for each in seen] == [False, False, False, True, False]
    assert seen[0][2] == first


# over TCP


def test_pipelined_questions_are_all_answered(sandbox: Sandbox) -> None:
    queries = [question("web") for _ in range(1000)]
    with sandbox.stream() as client:
        client.send(*queries)
        replies = [client.read() for _ in queries]
    assert sorted(reply[:2] for reply in replies) == sorted(query[:2] for query in queries)
    assert sandbox.counters.tcp_connections == 1


def test_a_fast_answer_overtakes_a_slow_one(
    serving: Serving, box: Namespace, serve: ServerFactory
) -> None:
    upstream = serve("127.0.0.2", silent)
    sandbox = serving.serve(box, View((table(),), servers=(upstream.address,)))
    with sandbox.stream() as client:
        client.send(question("slow.example"), question("web"))
        assert str(DNSRecord.parse(client.read()).q.qname) == "web."
        poll(lambda: upstream.seen, "the upstream to be asked")
        upstream.tell(upstream.seen[0], well()(upstream.seen[0])[0])  # type: ignore[arg-type]
        assert str(DNSRecord.parse(client.read()).q.qname) == "slow.example."


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_any_cut_into_segments(sandbox: Sandbox, size: int) -> None:
    data = framed(question("web")) + framed(question("db"))
    with sandbox.stream() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), size):
            client.socket.send(data[at : at + size])
        names = {str(DNSRecord.parse(client.read()).q.qname) for _ in range(2)}
    assert names == {"web.", "db."}


def test_a_half_closed_client_gets_its_answers(
    serving: Serving, box: Namespace, serve: ServerFactory
) -> None:
    upstream = serve("127.0.0.2", silent)
    sandbox = serving.serve(box, View((table(),), servers=(upstream.address,)))
    with sandbox.stream() as client:
        client.send(question("web"), question("slow.example"))
        client.socket.shutdown(socket.SHUT_WR)
        assert answers(DNSRecord.parse(client.read())) == ["10.0.0.2"]
        poll(lambda: upstream.seen, "the upstream to be asked")
        upstream.tell(upstream.seen[0], well()(upstream.seen[0])[0])  # type: ignore[arg-type]
        assert answers(DNSRecord.parse(client.read())) == ["198.51.100.7"]
        assert client.is_closed()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\0\0", id="length 0"),
        pytest.param(b"\0\x0b" + bytes(11), id="length 11"),
        pytest.param(b"\xff\xff", id="length 65535"),
        pytest.param(b"\x10\x01", id="longer than any question"),
        pytest.param(framed(b"\x12\x34\x81\0" + bytes(8)), id="a response"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
        pytest.param(b"\x16\x03\x01\x02\x00" + bytes(512), id="TLS"),
    ],
)
def test_what_is_not_dns_is_closed_at_once(sandbox: Sandbox, data: bytes) -> None:
    """CVE-2026-35406: a length that leads nowhere kept a server busy for ever."""
    with sandbox.stream() as client:
        client.socket.sendall(data)
        assert client.is_closed()
    assert sandbox.counters.tcp_closed_by_us == 1


def test_a_malformed_question_is_answered_and_the_next_one_too(sandbox: Sandbox) -> None:
    with sandbox.stream() as client:
        client.send(b"\x12\x34\x01\0" + bytes(8), question("web"))
        assert [DNSRecord.parse(client.read()).header.rcode for _ in range(2)] == [1, 0]


def slow(client: Stream) -> None:
    client.socket.sendall(framed(question("web"))[:5])


def idle(client: Stream) -> None:
    client.send(question("web"))
    client.read()


def deaf(client: Stream) -> None:
    assert client.fill(question("all")) > 1000


def silent_client(client: Stream) -> None:
    """Connects, and that is all."""


@pytest.mark.parametrize("misbehave", [slow, idle, deaf, silent_client])
def test_who_lets_a_deadline_pass_is_closed_and_hurts_nobody(
    serving: Serving,
    box: Namespace,
    monkeypatch: pytest.MonkeyPatch,
    misbehave: Callable[[Stream], None],
) -> None:
    """CVE-2024-8418: one slow client kept all others waiting."""
    monkeypatch.setattr(stream, "IDLE_S", 1.0)
    monkeypatch.setattr(stream, "STALLED_S", 1.0)
    monkeypatch.setattr(stream, "_SWEEP_S", 0.1)
    sandbox = serving.serve(box, View((crowd(250),)))
    with sandbox.stream() as bad, asking(sandbox, [question("web")]):
        misbehave(bad)
        with sandbox.stream() as good:
            good.send(question("web"))
            assert good.read()
        poll(lambda: sandbox.counters.tcp_closed_by_us, "the deadline")
        while misbehave is deaf and bad.read():  # what the kernel still had
            pass
        assert bad.is_closed()


def test_a_client_that_reads_late_gets_all_it_asked_for(serving: Serving, box: Namespace) -> None:
    """Not read, we do not take more questions than answers fit; nothing is lost."""
    sandbox = serving.serve(box, View((crowd(250),)))
    with sandbox.stream() as client:
        asked = client.fill(question("all"))
        assert sandbox.counters.queries < asked  # the rest waits where it costs us nothing
        client.socket.shutdown(socket.SHUT_WR)
        sizes = []
        while reply := client.read():
            sizes.append(len(reply))
    assert set(sizes) == {21 + 16 * 250}
    assert len(sizes) == asked > 1000


def test_too_many_connections_cost_the_longest_idle(sandbox: Sandbox) -> None:
    first = sandbox.stream()
    others = [sandbox.stream() for _ in range(stream.CONNECTIONS - 1)]
    try:
        first.send(question("web"))
        assert first.read()  # so that it is not the longest idle
        with sandbox.stream() as one_more:
            one_more.send(question("web"))
            assert one_more.read()
            assert others[0].is_closed()
            for client in (first, others[1], others[-1]):
                client.send(question("db"))
                assert client.read()
    finally:
        for client in (first, *others):
            client.socket.close()
    assert sandbox.counters.tcp_closed_by_us == 1


def test_a_reset_connection_is_forgotten(serving: Serving, sandbox: Sandbox) -> None:
    for _ in range(20):
        with sandbox.stream() as client:
            client.send(question("web"))
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    poll(lambda: len(serving.loop._ready) == 3, "all to be forgotten")


def test_answers_to_odd_sizes(sandbox: Sandbox) -> None:
    for size in (0, 511, 4096, 65535):
        reply = DNSRecord.parse(sandbox.ask(question("web", "A", opt(size))))
        assert answers(reply) == ["10.0.0.2"]


@pytest.mark.parametrize("size", [1, 11, 2047, 2048, 2049, 60000])
def test_datagrams_of_any_size(sandbox: Sandbox, size: int) -> None:
    """Too short: nothing comes. Else FORMERR. The next one is answered in any case."""
    with sandbox.datagram() as client:
        client.send((question("web") + bytes(65535))[:size])
        client.send(question("db"))
        replies = [client.recv(4096) for _ in range(1 if size < 12 else 2)]
    assert answers(DNSRecord.parse(replies[-1])) == ["10.0.0.3"]
    if size >= 12:
        assert DNSRecord.parse(replies[0]).header.rcode == 1
