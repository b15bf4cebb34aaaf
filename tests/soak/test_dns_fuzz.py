"""The resolver's process, sent what is not DNS: it lives, does not grow, and answers the others.

Mutations of real queries over UDP and TCP, from a sandbox whose servers answer mutations too.
A second sandbox asks all the while and must be answered right, to the byte; the first one is
asked a proper question after each burst. 20,000 packets in ``make test``, 1,200,000 in
``make soak``. ``SEED=…`` repeats a run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import dnslib
import pytest
from kernel.dns.upstreams import Seen, Server, framed, well
from kernel.namespaces import Namespace, add_namespace, delete_namespace, entered, record_of
from peers.mutations import Mutations

from cnm.discovery import NamedEndpoint, SandboxView
from cnm.dns.handover import Handover
from cnm.runtime.kernel.netns import NetNS
from cnm.types import EndpointID, NetworkID

pytestmark = [pytest.mark.kernel]

RESOLVER = ("127.0.0.11", 53)
UPSTREAM = "127.0.0.2"
NETWORK = NetworkID("f" * 64)
_SO_RCVBUFFORCE = 33  # socket(7); Python has no name for it
_AUTHORITATIVE = 0x04
_CLOSED = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
PATIENCE_S = 20.0  # the machine may be busy
BURST = 64
SHORT, SHORT_WARM_UP = 20_000, 5_000
LONG, LONG_WARM_UP = 1_200_000, 300_000  # until the forwarder's cache is full
MORE_MEMORY_KB = 2_048


def real_queries() -> list[bytes]:
    """What glibc, musl, dig and resolvers send; and answers, which nobody should send us."""
    cookie = dnslib.EDNS0(opts=[dnslib.EDNSOption(10, b"12345678")], udp_len=1232)
    found = []
    for name in ("web", "web.front", "nobody", "www.example.com", "2.0.0.10.in-addr.arpa"):
        for kind in ("A", "AAAA", "PTR", "MX", "ANY", "HTTPS"):
            for edns in (None, dnslib.EDNS0(flags="do", udp_len=4096), cookie):
                question = dnslib.DNSRecord.question(name, kind)
                if edns is not None:
                    question.add_ar(edns)
                found.append(bytes(question.pack()))
    answer = dnslib.DNSRecord.question("www.example.com").reply()
    answer.add_answer(*dnslib.RR.fromZone("www.example.com 60 A 192.0.2.1"))
    return [*found, bytes(answer.pack())]


@pytest.fixture
def seed(record_property: Callable[[str, object], None]) -> int:
    chosen = int(os.environ.get("SEED") or random.randrange(1 << 30))
    record_property("SEED", chosen)
    return chosen


class Stage:
    """The resolver with two sandboxes: one attacks, one watches."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, seed: int) -> None:
        self.folder = folder
        self.attacker, self.witness = (_box(stack, hint) for hint in ("attack", "watch"))
        self.upstream = stack.enter_context(
            Server(self.attacker, UPSTREAM, partly_wrong(Mutations(seed + 1, real_queries())))
        )
        self.resolver = Handover(str(folder))
        stack.callback(self.resolver.shutdown)
        endpoint = NamedEndpoint(EndpointID("1" * 64), ("web",), (ip_address("10.0.0.2"),))
        self.resolver.publish(NETWORK, "front", endpoint)
        for box, servers in ((self.attacker, (ip_address(UPSTREAM),)), (self.witness, ())):
            with NetNS(box.path) as inside:
                view = SandboxView((NETWORK,), servers=servers, forward=bool(servers))
                self.resolver.serve(record_of(box, inside.cookie()), view, inside)

    @property
    def pid(self) -> int:
        process = self.resolver._process
        assert process is not None
        pid: int = process.pid
        return pid

    def memory_kb(self) -> int:
        """Its own, not shared with anybody."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        found = re.search(r"^Pss_Anon: +(\d+) kB", text, re.M)
        assert found is not None
        return int(found[1])


def _box(stack: contextlib.ExitStack, hint: str) -> Namespace:
    box = add_namespace(hint)
    stack.callback(delete_namespace, box)
    return box


def partly_wrong(mutations: Mutations) -> Callable[[Seen], list[bytes]]:
    """A server of which every fourth answer is a mutation, and every fourth does not come."""

    def behave(seen: Seen) -> list[bytes]:
        if mutations.chance(4):
            return []
        if mutations.chance(3):
            return [seen.message[:2] + mutations.next()[2:]]
        try:
            return [reply for reply in well()(seen) if isinstance(reply, bytes)]
        except dnslib.DNSError:  # what was forwarded is more than dnslib reads
            return []

    return behave


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory, seed: int) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        yield Stage(tmp_path_factory.mktemp("d"), stack, seed)


def test_short_fuzz(stage: Stage, seed: int) -> None:
    fuzz(stage, seed, SHORT_WARM_UP, SHORT)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_million_packets(stage: Stage, seed: int) -> None:
    fuzz(stage, seed, LONG_WARM_UP, LONG)


def fuzz(stage: Stage, seed: int, warm_up: int, packets: int) -> None:
    attack = Attack(stage.attacker, Mutations(seed, real_queries()))
    with contextlib.closing(attack), watching(stage.witness) as answered:
        attack.run(warm_up)
        pid, before = stage.pid, stage.memory_kb()
        attack.run(packets)
        grown = stage.memory_kb() - before
    assert stage.pid == pid
    assert grown <= MORE_MEMORY_KB, f"{grown} kB more (before: {before})"
    assert len(answered) > packets // 1000
    assert Path(stage.folder, "dns.log").read_text() == ""


class Attack:
    """A client that sends mutations, and now and then a question, to see that it is answered."""

    def __init__(self, box: Namespace, mutations: Mutations) -> None:
        self._box = box
        self._mutations = mutations
        self._numbers = 0
        self._udp = self._connected(socket.SOCK_DGRAM)
        # A thousand late SERVFAILs may come at once; our answer must not be lost behind them.
        self._udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)

    def close(self) -> None:
        self._udp.close()

    def run(self, packets: int) -> None:
        sent = 0
        while sent < packets:
            if self._mutations.chance(20):
                sent += self._stream()
            else:
                sent += self._burst()
            self._ask()

    def _burst(self) -> int:
        for _ in range(BURST):
            with contextlib.suppress(BlockingIOError):
                self._udp.send(self._mutations.next())
        return BURST

    def _ask(self) -> None:
        """What comes before our answer must at least be answers."""
        self._numbers += 1
        ours = (self._numbers % 65536).to_bytes(2, "big") + _QUESTION
        self._udp.send(ours)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            reply = self._udp.recv(65535)
            assert len(reply) >= 12
            assert reply[2] & 0x80
            if self._mutations.chance(100):
                _parse(reply)
            if reply == ours[:2] + _ANSWER:
                return
        raise AssertionError("a proper question was not answered")

    def _stream(self) -> int:
        """Some messages on one connection, each with a length that may be wrong."""
        count = 1 + self._mutations.below(10)
        with self._connected(socket.SOCK_STREAM) as client:
            try:
                self._frames(client, count)
            except OSError as error:
                if error.errno not in _CLOSED:
                    raise
        return count

    def _frames(self, client: socket.socket, count: int) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b"".join(self._mutations.frame(self._mutations.next()) for _ in range(count))
        for piece in self._mutations.segments(data):
            client.sendall(piece)
        if self._mutations.chance(10):
            client.shutdown(socket.SHUT_WR)
            while client.recv(65535):  # it ends: closed, or all answered
                pass

    def _connected(self, kind: int) -> socket.socket:
        with entered(self._box):
            client = socket.socket(socket.AF_INET, kind)
        client.settimeout(PATIENCE_S)
        client.connect(RESOLVER)
        return client


# "web A" and its answer, without ids.
_QUESTION = dnslib.DNSRecord.question("web").pack()[2:]
_ANSWER = bytes.fromhex(
    "8580 0001 0001 0000 0000 03776562 00 0001 0001 c00c 0001 0001 00000005 0004 0a000002"
)


def _parse(reply: bytes) -> None:
    """What is ours is well-formed whatever the question was; what an upstream said may not be."""
    if reply[2] & _AUTHORITATIVE and reply[12:17] == b"\x03web\0":
        assert dnslib.DNSRecord.parse(reply).header.qr == 1


@contextlib.contextmanager
def watching(box: Namespace) -> Iterator[list[None]]:
    """Another client, over UDP and now and then over TCP. The list grows with each answer."""
    answered: list[None] = []
    stop = threading.Event()
    wrong: list[object] = []

    def run() -> None:
        try:
            with entered(box):
                client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.settimeout(PATIENCE_S)
            client.connect(RESOLVER)
            with client:
                while not stop.is_set():
                    ours = (len(answered) % 65536).to_bytes(2, "big")
                    client.send(ours + _QUESTION)
                    assert client.recv(65535) == ours + _ANSWER
                    if len(answered) % 50 == 0:
                        _watch_stream(box, ours)
                    answered.append(None)
                    stop.wait(0.001)
        except (AssertionError, OSError) as error:
            wrong.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield answered
    finally:
        stop.set()
        thread.join()
    assert wrong == []


def _watch_stream(box: Namespace, ours: bytes) -> None:
    with entered(box):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.settimeout(PATIENCE_S)
    with client:
        client.connect(RESOLVER)
        client.sendall(framed(ours + _QUESTION))
        assert client.recv(65535) == framed(ours + _ANSWER)
