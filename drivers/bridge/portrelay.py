"""What the kernel cannot carry to a container: TCP connections, passed on by hand.

Clients on ``::1`` and on link-local addresses, and IPv6 clients of a container that has IPv4
only. The container sees the host as the client.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable

from cnm.runtime.kernel.loop import READ, WRITE, Loop

Target = tuple[str, int]  # address and port in the container

_CHUNK = 1 << 16
_CONNECTS_WITHIN_S = 30.0
_MOST = 10_000  # connections at once; a client beyond is turned away
_GONE = (errno.ECONNABORTED, errno.EAGAIN)
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


class _Direction:
    """Bytes that go one way. Read only when all that was read has been written."""

    __slots__ = ("ended", "pending", "sink", "source")

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.pending = b""
        self.ended = False  # the source has said its last word, and the sink knows

    def read(self) -> None:
        """:raises OSError: the source is gone."""
        if self.pending or self.ended:
            return
        try:
            self.pending = self.source.recv(_CHUNK)
        except BlockingIOError:
            return
        if self.pending:
            self.write()
        else:
            self.ended = True
            self.sink.shutdown(socket.SHUT_WR)

    def write(self) -> None:
        """:raises OSError: the sink is gone."""
        if self.pending:
            try:
                self.pending = self.pending[self.sink.send(self.pending) :]
            except BlockingIOError:
                return


class _Connection:
    """One client and its container."""

    def __init__(
        self, loop: Loop, client: socket.socket, target: Target, ended: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._client = client
        self._ended = ended
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._server = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        for end in (client, self._server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._there = _Direction(client, self._server)
        self._back = _Direction(self._server, client)
        self._call_off = loop.after(_CONNECTS_WITHIN_S, self.close)
        if self._server.connect_ex(target) not in (0, errno.EINPROGRESS):
            self.close()
            return
        loop.watch(self._server.fileno(), WRITE, self._connected)

    def _connected(self, _events: int) -> None:
        self._call_off()
        if self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.close()
            return
        self._watch()

    def _watch(self) -> None:
        if self._there.ended and self._back.ended:
            self.close()
            return
        for end, out, into in (
            (self._client, self._there, self._back),
            (self._server, self._back, self._there),
        ):
            events = READ if not out.pending and not out.ended else 0
            events |= WRITE if into.pending else 0
            if events:
                self._loop.watch(end.fileno(), events, self._ready)
            else:  # a hang-up would be told again and again until the other end has read all
                self._loop.forget(end.fileno())

    def _ready(self, _events: int) -> None:
        """An end that hung up may have more to be read: reading and writing tell its end."""
        try:
            for direction in (self._there, self._back):
                direction.write()
                direction.read()
        except OSError:
            self.close()
            return
        self._watch()

    def close(self) -> None:
        """Again is fine."""
        if self._client.fileno() < 0:
            return
        self._call_off()
        for end in (self._client, self._server):
            self._loop.forget(end.fileno())
            end.close()
        self._ended()


class StreamRelay:
    """Accepts for listening sockets, and passes on."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._connections = 0
        self._spare: int | None = _spare()

    def close(self) -> None:
        """Connections go on until they end."""
        self._give_spare()

    def accept(self, listener: socket.socket, target: Target) -> None:
        """One client, who is there."""
        try:
            client, _ = listener.accept()
        except OSError as error:
            if error.errno in _NO_DESCRIPTOR:
                self._turn_away(listener)
            elif error.errno not in _GONE:
                raise
            return
        if self._connections >= _MOST:
            client.close()
            return
        self._connections += 1
        try:
            # else the port cannot be held again while this one is in TIME_WAIT
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _Connection(self._loop, client, target, self._one_less)
        except OSError:  # no descriptor is left
            client.close()
            self._one_less()
            raise

    def _turn_away(self, listener: socket.socket) -> None:
        """A client for whom no descriptor is left; unaccepted he would be told again at once."""
        self._give_spare()
        with contextlib.suppress(OSError):  # he has gone, or another process took what was freed
            client, _ = listener.accept()
            client.close()
        with contextlib.suppress(OSError):  # none for the whole machine
            self._spare = _spare()

    def _give_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _one_less(self) -> None:
        self._connections -= 1


def _spare() -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
