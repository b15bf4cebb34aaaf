"""Listeners on a loop in a thread: sandboxes, with our sockets and the port rewrite inside."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from kernel.dns.upstreams import framed
from kernel.namespaces import Namespace, entered

from cnm.dns.forwarder import Forwarder
from cnm.dns.hostservers import HostServers
from cnm.dns.listener import Listener, Shared
from cnm.dns.names import View
from cnm.dns.place import SandboxPlace
from cnm.dns.querylog import QueryLog
from cnm.dns.statistics import Counters, ForwardingCounters
from cnm.runtime.kernel.loop import READ, Loop

ADDRESS = "127.0.0.11"
SO_RCVBUFFORCE = 33  # socket(7); Python has no name for it
PATIENCE_S = 20.0  # the machine may be busy
T = TypeVar("T")

# What the daemon's side does, in nft's own words: tests of this side need no netlink.
_REWRITE = """
table ip cnm-dns {{
  chain rewrite {{
    type filter hook output priority raw
    ip daddr 127.0.0.11 udp dport 53 notrack udp dport set {udp}
    ip saddr 127.0.0.11 udp sport {udp} notrack udp sport set 53
    ip daddr 127.0.0.11 tcp dport 53 notrack tcp dport set {tcp}
    ip saddr 127.0.0.11 tcp sport {tcp} notrack tcp sport set 53
  }}
}}
"""


class Sandbox:
    """One that is served. Calls run on the loop's thread."""

    def __init__(
        self, box: Namespace, listener: Listener, counters: Counters, ports: tuple[int, int]
    ):
        self.box = box
        self.listener = listener
        self.counters = counters
        self.udp_port, self.tcp_port = ports

    def dig(self, *arguments: str) -> str:
        """What ``dig`` says; it fails on an answer that it does not understand."""
        return self.box.run("dig", f"@{ADDRESS}", "+tries=1", "+timeout=10", *arguments)

    def short(self, *arguments: str) -> list[str]:
        return self.dig("+short", *arguments).split()

    def datagram(self) -> socket.socket:
        """A client's, connected to port 53."""
        return self._connected(socket.SOCK_DGRAM)

    def stream(self) -> Stream:
        return Stream(self._connected(socket.SOCK_STREAM))

    def ask(self, query: bytes) -> bytes:
        """One datagram there and one back."""
        with self.datagram() as client:
            client.send(query)
            return client.recv(65535)

    def _connected(self, kind: int) -> socket.socket:
        with entered(self.box):
            client = socket.socket(socket.AF_INET, kind)
        client.settimeout(PATIENCE_S)
        client.connect((ADDRESS, 53))
        return client


class Stream:
    """A TCP client that minds the framing. A context manager."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    def send(self, *queries: bytes) -> None:
        """All of them in one segment, if they fit."""
        self.socket.sendall(b"".join(map(framed, queries)))

    def fill(self, query: bytes) -> int:
        """Ask again and again, reading nothing, until no more is taken. Returns how often."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        self.socket.settimeout(0.3)
        asked, data = 0, framed(query)
        while True:
            try:
                sent = self.socket.send(data)
            except TimeoutError:
                break
            if sent < len(data):
                self.socket.settimeout(PATIENCE_S)
                self.socket.sendall(data[sent:])
            asked += 1
        self.socket.settimeout(PATIENCE_S)
        return asked

    def read(self) -> bytes:
        """One message; empty: the other side has closed."""
        head = self._exactly(2)
        return self._exactly(int.from_bytes(head)) if head else b""

    def is_closed(self) -> bool:
        """The other side closes within the time-out, and sends nothing before."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                more = self.socket.recv(size - len(data))
            except ConnectionResetError:
                return b""
            if not more:
                return b""
            data += more
        return data

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Serving:
    """The loop, and the sandboxes on it; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.failures: list[Exception] = []
        self._folder = folder
        self._stack = ExitStack()
        self._calls: list[Callable[[], None]] = []

    def __enter__(self) -> Serving:
        self.loop = Loop(self.failures.append)
        self._wake, woken = socket.socketpair()
        self._stack.callback(self._wake.close)
        self._stack.callback(woken.close)
        self.loop.watch(woken.fileno(), READ, lambda _: self._run_calls(woken))
        host = HostServers(self._folder / "resolv.conf", self._folder / "resolved.conf")
        self.log = QueryLog()
        self.forwarding = ForwardingCounters()
        self.forwarder = Forwarder(self.loop, host, self.forwarding, self.log)
        self.shared = Shared()
        self._listeners: list[Listener] = []
        self._thread = threading.Thread(target=self.loop.run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for listener in self._listeners:
            self.do(listener.close)
        self.do(self.forwarder.close)
        self.do(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self._stack.close()
        assert self.failures == []

    def do(self, call: Callable[[], T]) -> T:
        """Its result, from the loop's thread."""
        done = threading.Event()
        results: list[T] = []

        def run() -> None:
            try:
                results.append(call())
            finally:
                done.set()

        self._calls.append(run)
        self._wake.send(b"x")
        assert done.wait(PATIENCE_S), "the loop is stuck"
        return results[0]

    def serve(self, box: Namespace, view: View) -> Sandbox:
        """Have a namespace answered, as of ``view``."""
        sandbox = self.listen(box, view, ADDRESS)
        rules = _REWRITE.format(udp=sandbox.udp_port, tcp=sandbox.tcp_port)
        subprocess.run(
            ["ip", "netns", "exec", box.name, "nft", "-f", "-"], input=rules, text=True, check=True
        )
        return sandbox

    def listen(self, box: Namespace, view: View, address: str) -> Sandbox:
        """On ports of the kernel's choice."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with entered(box):
            udp = socket.socket(family, socket.SOCK_DGRAM)
            tcp = socket.socket(family, socket.SOCK_STREAM)
        udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)
        for each in (udp, tcp):
            each.bind((address, 0))
        tcp.listen(128)
        descriptor = os.open(box.path, os.O_RDONLY | os.O_CLOEXEC)
        self._stack.callback(os.close, descriptor)
        place = SandboxPlace(box.name, descriptor)
        counters = Counters()
        listener = self.do(
            lambda: Listener(
                self.loop, place, udp, tcp, view, self.forwarder, counters, self.shared
            )
        )
        self._listeners.append(listener)
        return Sandbox(box, listener, counters, (udp.getsockname()[1], tcp.getsockname()[1]))

    def stop(self, sandbox: Sandbox) -> None:
        self._listeners.remove(sandbox.listener)
        self.do(sandbox.listener.close)

    def _run_calls(self, woken: socket.socket) -> None:
        woken.recv(4096)
        while self._calls:
            self._calls.pop(0)()


@contextmanager
def asking(sandbox: Sandbox, queries: Sequence[bytes]) -> Iterator[list[bytes]]:
    """A client that asks these over and over, one after the other, meanwhile.

    The list has what came back; a query that is not answered ends it.
    """
    replies: list[bytes] = []
    stop = threading.Event()

    def run() -> None:
        with sandbox.datagram() as client:
            while not stop.is_set():
                for query in queries:
                    client.send(query)
                    replies.append(client.recv(65535))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield replies
    finally:
        asked = len(replies)
        end = time.monotonic() + PATIENCE_S
        while len(replies) <= asked and thread.is_alive():  # it is still answered, afterwards
            assert time.monotonic() < end
            time.sleep(0.001)
        alive = thread.is_alive()
        stop.set()
        thread.join()
        assert alive, "a query was not answered"
