"""One server asked one thing: over UDP, then over TCP if the answer is cut (RFC 7766).

Against answers that the server never sent: a socket of its own for each attempt, connected
(so the kernel drops what comes from elsewhere), on a port of the kernel's random choice, a
random id, and the question must come back letter for letter. What does not match is ignored; if
it happens often, or the letters' case was lost, the server is asked over TCP.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable

from cnm.dns.answer import Answer, Malformed, NotOurs, OtherCase, read
from cnm.dns.asked import Asked
from cnm.dns.message import LARGEST
from cnm.dns.statistics import ForwardingCounters
from cnm.dns.upstream import Upstream
from cnm.runtime.kernel.loop import READ, WRITE, Loop
from cnm.runtime.kernel.visit import Home

_MOST_IGNORED = 5
_DATAGRAMS_A_TURN = 16  # then others are served
_PREFIX = 2  # bytes of a message's length over TCP
# IP_RECVERR, IPV6_RECVERR: an unreachable host or network is told as well, not ports alone
_TELL_ERRORS = {socket.AF_INET: (socket.SOL_IP, 11), socket.AF_INET6: (41, 25)}
# errors that say nothing about the server
_OUR_FAULT = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EBADF, errno.EINVAL)
)


class Means:
    """What all attempts share."""

    def __init__(self, loop: Loop, home: Home, counters: ForwardingCounters) -> None:
        self.loop = loop
        self.home = home
        self.counters = counters
        self.buffer = memoryview(bytearray(LARGEST + _PREFIX))


class Attempt:
    """``over`` is called once, when it has ended by itself: with an answer, or None."""

    def __init__(
        self,
        means: Means,
        upstream: Upstream,
        netns_fd: int,
        asked: Asked,
        over: Callable[[Attempt, Answer | None], None],
    ) -> None:
        self.upstream = upstream
        self.began = time.monotonic()
        self.trouble = "no answer"
        self.truncated: Answer | None = None  # what the server sent by UDP
        self._means = means
        self._netns_fd = netns_fd
        self._asked = asked
        self._over = over
        self._number = int.from_bytes(os.urandom(2))
        self._socket: socket.socket | None = None
        self._stream = False
        self._outgoing = b""  # TCP: what is still to be sent
        self._incoming = bytearray()
        self._ignored = 0

    def start(self) -> None:
        """Send the query. :raises OSError: it cannot be sent; nothing is left open."""
        try:
            descriptor = self._open(socket.SOCK_DGRAM)
            self._means.loop.watch(descriptor, READ, self._ready)
            self._send()
        except OSError as error:
            self._note(error)
            self.close()
            raise

    def again(self) -> None:
        """Send it once more, in case it was lost; from the same port, so that there is not one
        more that an attacker could hit."""
        if self._socket is not None and not self._stream:
            self._means.counters.sent_again += 1
            try:
                self._send()
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Give up, without a word. Again is fine."""
        if self._socket is not None:
            self._means.loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _open(self, kind: int) -> int:
        def make() -> socket.socket:
            return socket.socket(self.upstream.family, kind | socket.SOCK_NONBLOCK)

        home = self.upstream.from_host
        made = make() if home else self._means.home.visit(self._netns_fd, make)
        self._socket = made
        made.setsockopt(*_TELL_ERRORS[self.upstream.family], 1)
        result = made.connect_ex(self.upstream.sockaddr)
        if result not in (0, errno.EINPROGRESS):
            raise OSError(result, os.strerror(result))
        return made.fileno()

    def _send(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):  # congested: as good as lost on the way
            self._socket.send(self._asked.to_server(self._number))

    def _ready(self, _events: int) -> None:
        try:
            if self._stream:
                self._go_on()
            else:
                self._receive()
        except OSError as error:
            self._fail(error)
        except Exception:
            self.close()  # or the loop would call again for ever
            raise

    def _receive(self) -> None:
        buffer = self._means.buffer
        for _ in range(_DATAGRAMS_A_TURN):
            if self._socket is None or self._stream:
                return
            try:
                length = self._socket.recv_into(buffer)
            except BlockingIOError:
                return
            self._take(bytes(buffer[:length]))

    def _take(self, message: bytes) -> None:
        try:
            answer = read(message, self._number, self._asked, any_case=self._stream)
        except OtherCase:
            self._ask_over_tcp()
        except NotOurs:
            self._ignore()
        except Malformed as error:
            self._end(None, f"malformed answer ({error})")
        else:
            if answer.truncated and not self._stream:
                self.truncated = answer
                self._ask_over_tcp()
            else:
                self._end(answer, "")

    def _ignore(self) -> None:
        self._means.counters.ignored += 1
        self._ignored += 1
        if self._ignored < _MOST_IGNORED:
            return
        if self._stream:
            self._end(None, "answers to other questions")
        else:
            self._ask_over_tcp()

    def _ask_over_tcp(self) -> None:
        self._means.counters.over_tcp += 1
        self.close()
        self._stream = True
        self._ignored = 0
        message = self._asked.to_server(self._number)
        self._outgoing = len(message).to_bytes(_PREFIX) + message
        self._means.loop.watch(self._open(socket.SOCK_STREAM), WRITE, self._ready)

    def _go_on(self) -> None:
        assert self._socket is not None
        try:
            if self._outgoing:
                self._outgoing = self._outgoing[self._socket.send(self._outgoing) :]
                if not self._outgoing:
                    self._means.loop.watch(self._socket.fileno(), READ, self._ready)
                return
            length = self._socket.recv_into(self._means.buffer)
        except BlockingIOError:
            return
        if length == 0:
            self._end(None, "connection closed")
            return
        self._incoming += self._means.buffer[:length]
        self._split()

    def _split(self) -> None:
        while self._socket is not None and len(self._incoming) >= _PREFIX:
            end = _PREFIX + int.from_bytes(self._incoming[:_PREFIX])
            if len(self._incoming) < end:
                return
            message = bytes(self._incoming[_PREFIX:end])
            del self._incoming[:end]
            self._take(message)

    def _fail(self, error: OSError) -> None:
        self._note(error)
        self._end(None, self.trouble)

    def _note(self, error: OSError) -> None:
        number = error.errno or errno.EIO
        self.trouble = os.strerror(number).lower()
        if number not in _OUR_FAULT and not self._stream:
            self.upstream.unreachable(time.monotonic())

    def _end(self, answer: Answer | None, trouble: str) -> None:
        self.close()
        self.trouble = trouble
        if answer is not None:
            self.upstream.answered()
        self._over(self, answer)
