"""TCP connections passed on by the port helper, over real sockets of loopback."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from cnm.drivers.bridge.portrelay import StreamRelay
from cnm.runtime.kernel.loop import READ, Loop

_TURNS = 20_000  # far more than any of these need
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger
BLOCK = bytes(1 << 20)


class Relayed:
    """A client and its server, with the relay between them."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.loop = Loop(self.errors.append)
        self.relay = StreamRelay(self.loop)
        self.behind = socket.create_server(("127.0.0.1", 0))
        self.front = socket.create_server(("127.0.0.1", 0))
        self.behind.settimeout(5)
        target = self.behind.getsockname()
        self.loop.watch(
            self.front.fileno(), READ, lambda _events: self.relay.accept(self.front, target)
        )
        self.client = socket.create_connection(self.front.getsockname())
        self.turn(3)
        self.server, _ = self.behind.accept()
        self.turn(3)
        for end in (self.client, self.server):
            end.setblocking(False)

    def turn(self, times: int) -> None:
        for _ in range(times):
            self.loop.turn(0.01)

    def close(self) -> None:
        self.client.close()
        self.server.close()
        self.turn(30)  # the relay closes its own
        for item in (self.front, self.behind, self.loop, self.relay):
            item.close()

    def fill(self, source: socket.socket) -> None:
        """Send until the other side takes no more, and the relay alone has some left."""
        for _ in range(_TURNS):
            with contextlib.suppress(BlockingIOError):
                source.send(bytes(1 << 14))
            self.loop.turn(0)
            if any(self.loop._poll.poll(0) == [] and item.pending for item in self.directions()):
                return
        raise AssertionError("the relay always takes more")

    def directions(self) -> list[Any]:
        found = (getattr(item, "__self__", None) for item in self.loop._ready.values())
        ends = [item for item in found if item is not None]
        return [direction for item in ends for direction in (item._there, item._back)]

    def is_at_rest(self) -> bool:
        """Whether the loop waits; it would turn at once for what is never dealt with."""
        self.turn(30)
        return self.loop._poll.poll(0.05) == []


@pytest.fixture
def relayed() -> Iterator[Relayed]:
    found = Relayed()
    yield found
    found.close()
    assert found.errors == []


def test_a_long_answer_after_the_client_said_its_last_word(relayed: Relayed) -> None:
    """As ``nc -N`` and HTTP/1.0 clients do: both have then ended before all has been read."""
    relayed.client.shutdown(socket.SHUT_WR)
    relayed.turn(2)
    assert relayed.server.recv(1) == b""
    relayed.server.setblocking(True)
    relayed.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    relayed.server.setblocking(False)
    sent = relayed.server.send(BLOCK)
    relayed.server.close()
    received = 0
    for _ in range(_TURNS):
        relayed.loop.turn(0.01)
        try:
            data = relayed.client.recv(1 << 20)
        except BlockingIOError:
            continue
        if not data:
            break
        received += len(data)
    assert received == sent


def test_a_client_that_reads_slowly_costs_nothing(relayed: Relayed) -> None:
    relayed.client.shutdown(socket.SHUT_WR)
    relayed.turn(2)
    relayed.fill(relayed.server)
    relayed.server.close()
    assert relayed.is_at_rest()


def test_a_client_that_breaks_off_costs_nothing(relayed: Relayed) -> None:
    relayed.fill(relayed.client)
    relayed.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    relayed.client.close()
    assert relayed.is_at_rest()


def test_both_ends_gone_is_the_end(relayed: Relayed) -> None:
    relayed.client.close()
    relayed.turn(2)
    relayed.server.close()
    relayed.turn(3)
    assert relayed.relay._connections == 0


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """That many can be opened yet."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_one = os.dup(0)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one + count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_one_for_whom_no_descriptor_is_left_is_turned_away(relayed: Relayed) -> None:
    """Else the loop would be told of him again and again."""
    with socket.create_connection(relayed.front.getsockname()) as client:
        with descriptors_left(0):
            relayed.loop.turn(1)
            assert relayed.is_at_rest()
        client.settimeout(5)
        assert client.recv(1) == b""
    assert relayed.relay._connections == 1
    with socket.create_connection(relayed.front.getsockname()):
        relayed.turn(3)
        assert relayed.relay._connections == 2
        relayed.behind.accept()[0].close()
    relayed.turn(3)


def test_one_that_cannot_be_passed_on_is_not_counted(relayed: Relayed) -> None:
    """No descriptor is left for the way to the container."""
    with socket.create_connection(relayed.front.getsockname()) as client:
        with descriptors_left(1):
            relayed.loop.turn(1)
        client.settimeout(5)
        assert client.recv(1) == b""
    (error,) = relayed.errors
    relayed.errors.clear()
    assert isinstance(error, OSError)
    assert relayed.relay._connections == 1
