"""DNS over TCP (RFC 7766): framing, pipelining, and limits that no client can stretch.

Any number of questions may be under way on a connection; each is answered when its answer is
there, in any order. Whatever a client does costs at most ``CONNECTIONS`` descriptors and
``BUFFERED`` bytes a sandbox, and one read of ``_READ`` bytes at a time.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Callable
from typing import Final

from cnm.dns.statistics import Counters
from cnm.runtime.kernel.loop import READ, WRITE, Loop

CONNECTIONS: Final = 64  # of one sandbox; the next one takes the place of the longest idle
BUFFERED: Final = 4 << 20  # bytes of answers that clients of one sandbox have not read yet
PIPELINED: Final = 32  # questions under way upstream on one connection; then it is read no more
IDLE_S: Final = 10.0  # "in the order of a few seconds", RFC 7766 6.2.3
STALLED_S: Final = 5.0  # what a whole message may take to arrive, or an answer to be read further
_LONGEST: Final = 4096  # bytes of a question; EDNS padding makes 468 of the longest usual one
_SHORTEST: Final = 12
_READ: Final = 4096  # at most 200 small questions a wake: under a millisecond
_UNREAD: Final = 1 << 16  # bytes of answers not read, from which on no question is taken
_ACCEPTED: Final = 16  # connections a wake
# What the kernel may hold for a connection; it would give 4 MB to each that is not read.
_KERNEL_UNREAD: Final = 1 << 16
_KERNEL_RECEIVED: Final = 1 << 14
_SWEEP_S: Final = 1.0
_NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_length = struct.Struct(">H")

Send = Callable[[bytes], None]


class Streams:
    """All TCP connections of a sandbox. It owns the listening socket.

    ``answer(query, send)`` calls ``send`` once, now or later, with the reply; empty: the client
    does not speak DNS.
    """

    def __init__(
        self,
        loop: Loop,
        listening: socket.socket,
        counters: Counters,
        answer: Callable[[bytes, Send], None],
    ) -> None:
        self.loop = loop
        self.counters = counters
        self.answer = answer
        self.unread = 0
        self._listening = listening
        self._open: set[Stream] = set()
        self._call_off: Callable[[], None] | None = None
        self._accepting = True
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_UNREAD)  # inherited
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_RECEIVED)
        self._watch(READ)

    def accept_no_more(self) -> None:
        """Somebody else does. The connections that there are go on."""
        self._accepting = False
        self.loop.forget(self._listening.fileno())

    def close(self) -> None:
        """All connections at once, and the listening socket."""
        if self._call_off is not None:
            self._call_off()
        self.accept_no_more()
        self._listening.close()
        for stream in tuple(self._open):
            stream.close()

    def closed(self, stream: Stream) -> None:
        """To be told by each that closes."""
        self._open.discard(stream)

    def _connections_wait(self, _events: int) -> None:
        for _ in range(_ACCEPTED):
            try:
                connection, _ = self._listening.accept()
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR:  # it would be ready again at once, for ever
                    self._watch(0)
                    self._sweep_later()
                return
            if len(self._open) >= CONNECTIONS:
                self._evict()
            self.counters.tcp_connections += 1
            self._open.add(Stream(self, connection))
            self._sweep_later()

    def _watch(self, events: int) -> None:
        self.loop.watch(self._listening.fileno(), events, self._connections_wait)

    def _evict(self) -> None:
        self.counters.tcp_closed_by_us += 1
        min(self._open, key=lambda stream: stream.since).close()

    def _sweep_later(self) -> None:
        if self._call_off is None:
            self._call_off = self.loop.after(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._call_off = None
        now = time.monotonic()
        for stream in tuple(self._open):
            if stream.is_late(now):
                self.counters.tcp_closed_by_us += 1
                stream.close()
        if self._accepting:
            self._watch(READ)
        if self._open:
            self._sweep_later()


class Stream:
    """One connection. ``since``: when it last got anywhere, monotonic seconds."""

    def __init__(self, streams: Streams, connection: socket.socket) -> None:
        self.since = time.monotonic()
        self._streams = streams
        self._connection = connection
        self._received = bytearray()
        self._unsent = bytearray()
        self._under_way = 0
        self._taking = False
        self._ended = False  # the client sends no more; it may still read
        self._closed = False
        self._events = READ
        connection.setblocking(False)
        streams.loop.watch(connection.fileno(), READ, self._ready)

    def close(self) -> None:
        """At once; answers that come later are thrown away."""
        if not self._closed:
            self._closed = True
            self._streams.unread -= len(self._unsent)
            self._streams.loop.forget(self._connection.fileno())
            self._connection.close()
            self._streams.closed(self)

    def is_late(self, now: float) -> bool:
        """Whether the client has let a deadline pass."""
        if self._under_way and not self._unsent:
            return False  # it waits for us
        limit = STALLED_S if self._unsent or self._received else IDLE_S
        return now - self.since > limit

    def _ready(self, events: int) -> None:
        try:
            if not events & (READ | WRITE):  # reset, or gone for good
                self.close()
                return
            if events & READ and self._events & READ:
                self._read()
            self._go_on()
        except BaseException:  # an error of ours, which the loop reports: not to be met again
            self._break_off()
            raise

    def _read(self) -> None:
        try:
            data = self._connection.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not self._received:
            self.since = time.monotonic()
        self._received += data
        self._ended = not data

    def _go_on(self) -> None:
        """Take what questions there are, write what answers there are, and wait for more."""
        while not self._closed and self._take():  # what was read: a few turns at most
            self._write()
        if not self._closed:
            self._write()
        if not self._closed:
            self._wait()

    def _take(self) -> bool:
        """Whether there was a whole question, and room for its answer.

        Every turn takes two bytes at least, or is the last: no length can make it endless.
        """
        data, at = self._received, 0
        self._taking = True
        while not self._closed and not self._is_full() and len(data) - at >= 2:
            (length,) = _length.unpack_from(data, at)
            if not _SHORTEST <= length <= _LONGEST:
                self._break_off()
            if len(data) - at < 2 + length:
                break
            query = bytes(data[at + 2 : at + 2 + length])
            at += 2 + length
            self._under_way += 1
            self._streams.answer(query, self._answered)
        self._taking = False
        if at:
            del data[:at]
            self.since = time.monotonic()
        return at > 0

    def _answered(self, reply: bytes) -> None:
        if self._closed:
            return
        self._under_way -= 1
        if not reply:
            self._break_off()
            return
        framed = _length.pack(len(reply)) + reply
        self._unsent += framed
        self._streams.unread += len(framed)
        if self._streams.unread > BUFFERED:
            self._break_off()
        elif not self._taking:
            self._go_on()

    def _write(self) -> None:
        if not self._unsent:
            return
        try:
            sent = self._connection.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        del self._unsent[:sent]
        self._streams.unread -= sent
        self.since = time.monotonic()

    def _wait(self) -> None:
        if self._ended and not self._under_way and not self._unsent:
            self.close()
            return
        events = 0 if self._ended or self._is_full() else READ
        events |= WRITE if self._unsent else 0
        if events != self._events:
            self._events = events
            self._streams.loop.watch(self._connection.fileno(), events, self._ready)

    def _is_full(self) -> bool:
        return self._under_way >= PIPELINED or len(self._unsent) > _UNREAD

    def _break_off(self) -> None:
        self._streams.counters.tcp_closed_by_us += 1
        self.close()
