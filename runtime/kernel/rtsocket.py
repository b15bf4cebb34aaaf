"""A plain rtnetlink socket: requests, acknowledgements, dumps.

Nothing here knows what a message means. pyroute2's own sockets are not used:
opening one costs 5 ms, because an event loop comes with it; this one 0.05 ms.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
import threading
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from cnm.errors import KernelError

log = logging.getLogger(__name__)

# linux/netlink.h
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12  # dumps honour the filters in their request

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_FLAGS = struct.Struct("=H")
_FLAGS_AT = 6
_ATTRIBUTE = struct.Struct("=HH")
_SEQUENCE_MASK = 0xFFFFFFFF
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h: SO_RCVBUF would stop at net.core.rmem_max
_RECEIVE_BYTES = 1 << 16  # the kernel fills dumps by 32 KiB at most
_BUFFER_BYTES = 1 << 20  # room for the errors of a whole chunk
_CHUNK_MESSAGES = 128  # sent at once; bounds what the two buffers must hold
_DUMP_ATTEMPTS = 10
_SILENCE_S = 20  # an acknowledgement lost for want of memory must not block for ever


class Request(NamedTuple):
    """One encoded message (sequence number still 0), and words for its error text."""

    data: bytes
    what: str
    fine: frozenset[int] = frozenset()  # errnos that count as success


class Message(NamedTuple):
    """One message of an answer: type and what follows the header."""

    kind: int
    body: memoryview


class RouteSocket:
    """An rtnetlink socket of the namespace of the thread that makes it; thread-safe.

    :raises KernelError: EMFILE and the like.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sequence = 0
        try:
            self._socket = _open()
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, "opening rtnetlink") from error

    def fileno(self) -> int:
        """The socket's descriptor, for ioctls in its namespace."""
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def execute(self, requests: Sequence[Request]) -> list[KernelError]:
        """Send all, in order, in one go; what the kernel refused, in order.

        The kernel goes on with the next message after it refused one.
        """
        for request in requests:
            log.debug("kernel: %s", request.what)
        failures: list[KernelError] = []
        with self._lock:
            for start in range(0, len(requests), _CHUNK_MESSAGES):
                failures += self._execute(requests[start : start + _CHUNK_MESSAGES])
        return failures

    def ask(self, data: bytes, what: str) -> Message:
        """A request that is answered by one message.

        :raises KernelError: the kernel's refusal.
        """
        with self._lock:
            sequence = self._send([data], what)
            for kind, flags, number, body in self._receive(what):
                if number != sequence:
                    continue
                if kind == _NLMSG_ERROR:
                    raise _refusal(flags, body, what)
                return Message(kind, body)
        raise KernelError(errno.EIO, what, "the kernel gave no answer")

    def dump(self, data: bytes, what: str) -> list[Message]:
        """A request that is answered by a list; begun anew when it changed meanwhile."""
        for _ in range(_DUMP_ATTEMPTS):
            with self._lock:
                found = self._dump(data, what)
            if found is not None:
                return found
        raise KernelError(errno.EINTR, what, "the list kept changing while it was read")

    def _execute(self, requests: Sequence[Request]) -> list[KernelError]:
        """The kernel works in order and tells every error: the last one's answer ends it."""
        last = len(requests) - 1
        data = [*(_without_ack(request.data) for request in requests[:last]), requests[last].data]
        first = self._send(data, requests[0].what)
        failures = []
        for kind, flags, number, body in self._receive(requests[0].what):
            position = (number - first) & _SEQUENCE_MASK
            if kind != _NLMSG_ERROR or position > last:
                continue  # left from an exchange that was broken off
            (code,) = struct.unpack_from("=i", body)
            if code and -code not in requests[position].fine:
                failures.append(_refusal(flags, body, requests[position].what))
            if position == last:
                break
        return failures

    def _dump(self, data: bytes, what: str) -> list[Message] | None:
        found: list[Message] = []
        sequence = self._send([data], what)
        interrupted = False
        try:
            for kind, flags, number, body in self._receive(what):
                if number != sequence:
                    continue
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                if kind == _NLMSG_ERROR:
                    raise _refusal(flags, body, what)
                if kind == _NLMSG_DONE:
                    (code,) = struct.unpack_from("=i", body)
                    if code:
                        raise KernelError(-code, what)
                    return None if interrupted else found
                found.append(Message(kind, body))
        except KernelError as error:
            if error.errno not in (errno.ENOBUFS, errno.EINTR):
                raise
        return None

    def _send(self, messages: Sequence[bytes], what: str) -> int:
        """Number the messages and send them; the first one's sequence number."""
        first = (self._sequence + 1) & _SEQUENCE_MASK
        parts = []
        for message in messages:
            part = bytearray(message)
            struct.pack_into("=I", part, 8, self._next())
            part += bytes(-len(part) % 4)
            parts.append(part)
        try:
            self._socket.send(b"".join(parts))
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, what) from error
        return first

    def _next(self) -> int:
        self._sequence = (self._sequence + 1) & _SEQUENCE_MASK
        return self._sequence

    def _receive(self, what: str) -> Iterator[tuple[int, int, int, memoryview]]:
        """Type, flags, sequence and body of message after message."""
        while True:
            try:
                data = memoryview(self._socket.recv(_RECEIVE_BYTES))
            except BlockingIOError as error:
                raise KernelError(errno.ETIMEDOUT, what, "the kernel does not answer") from error
            except OSError as error:  # ENOBUFS: the kernel had to drop an answer
                raise KernelError(error.errno or errno.EIO, what) from error
            yield from split_messages(data)


def _without_ack(data: bytes) -> bytes:
    """That all went well is not to be told: each answer is a call of the kernel's."""
    (flags,) = _FLAGS.unpack_from(data, _FLAGS_AT)
    return data[:_FLAGS_AT] + _FLAGS.pack(flags & ~NLM_F_ACK) + data[_FLAGS_AT + _FLAGS.size :]


def _open() -> socket.socket:
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
        opened.setsockopt(_SOL_NETLINK, option, 1)
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _SILENCE_S, 0))
    opened.bind((0, 0))
    return opened


def split_messages(data: memoryview) -> Iterator[tuple[int, int, int, memoryview]]:
    """Type, flags, sequence number and body of the messages in a datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, offset)
        yield kind, flags, number, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type (flag bits removed) and payload of each attribute (netlink(7))."""
    offset = 0
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def chosen(data: memoryview, wanted: Container[int]) -> dict[int, memoryview]:
    """Payloads of the attributes of these types: a link has 45, and most are not looked at."""
    found: dict[int, memoryview] = {}
    offset, end, unpack = 0, len(data), _ATTRIBUTE.unpack_from
    while offset + 4 <= end:
        length, kind = unpack(data, offset)
        if length < 4:
            break
        if kind & 0x3FFF in wanted:
            found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _refusal(flags: int, body: memoryview, what: str) -> KernelError:
    """The error of an NLMSG_ERROR message, with the kernel's own words if it sent any."""
    code, length = struct.unpack_from("=iI", body)
    said = ""
    if flags & _NLM_F_ACK_TLVS:
        start = 20 if flags & _NLM_F_CAPPED else 4 + ((length + 3) & ~3)
        for kind, value in attributes(body[start:]):
            if kind == _NLMSGERR_ATTR_MSG:
                said = bytes(value).rstrip(b"\0").decode(errors="replace")
    plain = KernelError(-code, what)
    return KernelError(-code, str(plain), said.rstrip(".")) if said else plain
