"""Servers for the forwarder to ask, well-behaved and not; and a client that asks the forwarder."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dnslib
from kernel.namespaces import Namespace, entered

from cnm.dns.admission import Limits
from cnm.dns.cache import Room
from cnm.dns.forwarder import Forwarder
from cnm.dns.hostservers import HostServers
from cnm.dns.place import SandboxPlace
from cnm.dns.querylog import QueryLog
from cnm.dns.statistics import ForwardingCounters
from cnm.runtime.kernel.loop import Loop
from cnm.types import IPAddress

ADDRESS = "198.51.100.7"  # what a well-behaved server answers


@dataclass(frozen=True)
class Seen:
    """One query as a server got it."""

    transport: str
    source: tuple[str, int]
    message: bytes

    @property
    def parsed(self) -> dnslib.DNSRecord:
        return dnslib.DNSRecord.parse(self.message)


@dataclass(frozen=True)
class Raw:
    """Bytes for a TCP connection as they are; ``then_close``, or else it stays open."""

    data: bytes
    then_close: bool = True


Behaviour = Callable[[Seen], Sequence[bytes | Raw]]


def answer(seen: Seen, address: str = ADDRESS, ttl: int = 60) -> dnslib.DNSRecord:
    """An A record for whatever was asked."""
    reply = seen.parsed.reply(aa=0)
    reply.add_answer(dnslib.RR(reply.q.qname, rdata=dnslib.A(address), ttl=ttl))
    return reply


def well(address: str = ADDRESS, ttl: int = 60) -> Behaviour:
    """Answers everything with one address."""
    return lambda seen: [bytes(answer(seen, address, ttl).pack())]


def silent(_seen: Seen) -> list[bytes]:
    """Takes queries and says nothing."""
    return []


def failing(rcode: str, *, soa: bool = False) -> Behaviour:
    """Answers everything with an rcode; ``soa``: as a negative answer that may be kept."""

    def behave(seen: Seen) -> list[bytes]:
        reply = seen.parsed.reply()
        reply.header.rcode = getattr(dnslib.RCODE, rcode)
        if soa:
            times = (1, 7200, 900, 86400, 60)
            zone = dnslib.SOA("ns.example.", "root.example.", times)
            reply.add_auth(dnslib.RR("example.", dnslib.QTYPE.SOA, rdata=zone, ttl=600))
        return [bytes(reply.pack())]

    return behave


class Server:
    """UDP and TCP on an address inside a namespace, served by a thread; a context manager.

    Without ``stream`` TCP is refused.
    """

    def __init__(
        self, namespace: Namespace, address: str, behave: Behaviour, *, stream: bool = True
    ) -> None:
        self.address = ipaddress.ip_address(address)
        self.seen: list[Seen] = []
        self.behave = behave
        self.namespace = namespace
        self._family = socket.AF_INET if self.address.version == 4 else socket.AF_INET6
        self._stream_too = stream
        self._sockets: list[socket.socket] = []
        self._stop_read, self._stop_write = os.pipe()

    def __enter__(self) -> Server:
        with entered(self.namespace):
            self._udp = self._bound(socket.SOCK_DGRAM)
            self._tcp = self._bound(socket.SOCK_STREAM)
        if self._stream_too:
            self._tcp.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join()
        for each in self._sockets:
            each.close()
        os.close(self._stop_read)
        os.close(self._stop_write)

    def tell(self, seen: Seen, message: bytes) -> None:
        """Send a datagram to who asked, now."""
        self._udp.sendto(message, seen.source)

    def _bound(self, kind: int) -> socket.socket:
        made = socket.socket(self._family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(socket.getaddrinfo(str(self.address), 53, self._family, kind)[0][4])
        self._sockets.append(made)
        return made

    def _serve(self) -> None:
        connections: list[socket.socket] = []
        while True:
            waiting = [self._udp.fileno(), self._stop_read]
            waiting += [self._tcp.fileno()] if self._stream_too else []
            waiting += [each.fileno() for each in connections]
            ready, _, _ = select.select(waiting, [], [])
            if self._stop_read in ready:
                break
            if self._udp.fileno() in ready:
                self._datagram()
            for each in [each for each in connections if each.fileno() in ready]:
                if not self._stream(each):
                    connections.remove(each)
                    each.close()
            if self._tcp.fileno() in ready:
                connections.append(self._tcp.accept()[0])
        for each in connections:
            each.close()

    def _datagram(self) -> None:
        message, source = self._udp.recvfrom(65535)
        seen = Seen("udp", source[:2], message)
        self.seen.append(seen)
        for reply in self.behave(seen):
            assert isinstance(reply, bytes)
            self.tell(seen, reply)

    def _stream(self, connection: socket.socket) -> bool:
        """Whether it stays open."""
        try:
            head = connection.recv(2)
            if not head:
                return False
            message = connection.recv(int.from_bytes(head))
            seen = Seen("tcp", connection.getpeername()[:2], message)
            self.seen.append(seen)
            for reply in self.behave(seen):
                if isinstance(reply, Raw):
                    connection.sendall(reply.data)
                    if reply.then_close:
                        return False
                    continue
                connection.sendall(len(reply).to_bytes(2) + reply)
        except OSError:
            return False
        return True


def framed(message: bytes) -> bytes:
    """As it goes over TCP."""
    return len(message).to_bytes(2) + message


@dataclass
class Client:
    """Asks a forwarder, on a loop that it turns itself."""

    place: SandboxPlace
    servers: tuple[IPAddress, ...]
    resolv_conf: Path
    limits: Limits | None = None
    room: Room | None = None
    replies: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.failures: list[Exception] = []
        self.loop = Loop(self.failures.append)
        self.counters = ForwardingCounters()
        self.log = QueryLog()
        host = HostServers(self.resolv_conf, self.resolv_conf.with_name("resolved.conf"))
        self.forwarder = Forwarder(self.loop, host, self.counters, self.log, self.limits, self.room)

    def send(self, query: bytes, place: SandboxPlace | None = None) -> list[bytes]:
        """Forward a query; the list will have its reply."""
        replies: list[bytes] = []
        self.forwarder.forward(place or self.place, self.servers, query, replies.append)
        return replies

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 10.0) -> None:
        """Turn the loop until it holds."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"waited {timeout_s} s in vain for {what}"
            self.loop.turn(0.02)

    def ask(
        self,
        name: str = "www.example.com",
        kind: str = "A",
        place: SandboxPlace | None = None,
        edns: dnslib.EDNS0 | None = None,
    ) -> dnslib.DNSRecord:
        """The reply to a question, as dnslib reads it."""
        query = question(name, kind, edns)
        message = self.reply_to(query, place)
        reply = dnslib.DNSRecord.parse(message)
        assert message[:2] == query[:2]
        assert str(reply.q.qname) == f"{name.removesuffix('.')}."
        return reply

    def reply_to(self, query: bytes, place: SandboxPlace | None = None) -> bytes:
        """The one reply to a query."""
        replies = self.send(query, place)
        self.until(lambda: replies, "a reply")
        (reply,) = replies
        return reply

    def close(self) -> None:
        self.forwarder.close()
        self.loop.close()
        assert self.failures == []


def question(name: str, kind: str = "A", edns: dnslib.EDNS0 | None = None) -> bytes:
    """A query as a stub resolver sends it."""
    made = dnslib.DNSRecord.question(name, kind)
    if edns is not None:
        made.add_ar(edns)
    return bytes(made.pack())


def addresses(reply: dnslib.DNSRecord) -> list[str]:
    """Of the A records in the answer."""
    return [str(record.rdata) for record in reply.rr if record.rtype == dnslib.QTYPE.A]


def rcode(reply: dnslib.DNSRecord) -> str:
    return str(dnslib.RCODE[reply.header.rcode])


@contextlib.contextmanager
def opened(namespace: Namespace, name: str = "") -> Iterator[SandboxPlace]:
    """The namespace as a sandbox's place."""
    descriptor = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield SandboxPlace(name or namespace.name, descriptor)
    finally:
        os.close(descriptor)


def extended_error(reply: dnslib.DNSRecord) -> tuple[int, str] | None:
    """Code and text (RFC 8914) out of a reply's OPT."""
    for record in reply.ar:
        if record.rtype == dnslib.QTYPE.OPT:
            for option in record.rdata:
                if option.code == 15:
                    return int.from_bytes(option.data[:2]), option.data[2:].decode()
    return None
