"""Messages between the daemon and its resident processes: JSON with descriptors.

A SEQPACKET socket keeps messages whole and carries descriptors beside them. A message that
is too long for one packet travels in a memfd.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Sequence
from typing import Any

_LONGEST_PACKET = 100_000  # under half of the default send buffer (212,992), which counts overhead
_LONGEST_MESSAGE = 16 << 20
_MOST_DESCRIPTORS = 16

Message = dict[str, Any]


def send(link: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message. :raises OSError: the other side is gone (or does not read)."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) <= _LONGEST_PACKET:
        socket.send_fds(link, [data], list(descriptors))
        return
    memory = os.memfd_create("message", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(data)
        socket.send_fds(link, [b"{}"], [memory, *descriptors])
    finally:
        os.close(memory)


def receive(link: socket.socket) -> tuple[Message, list[int]]:
    """The next message and its descriptors (close-on-exec, the caller's to close).

    :raises EOFError: the other side has gone.
    :raises ValueError: what came is no message; descriptors are closed.
    """
    size = array.array("i").itemsize * _MOST_DESCRIPTORS
    data, ancillary, _flags, _address = link.recvmsg(
        _LONGEST_PACKET + 1, socket.CMSG_SPACE(size), socket.MSG_CMSG_CLOEXEC
    )
    descriptors = _descriptors(ancillary)
    try:
        if data == b"{}" and descriptors:
            data = _contents(descriptors.pop(0))
        if not data:
            raise EOFError("the other side has gone")
        message = json.loads(data)
        if not isinstance(message, dict):
            raise ValueError("a message is an object")
    except BaseException:
        close_all(descriptors)
        raise
    return message, descriptors


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _contents(memory: int) -> bytes:
    try:
        if os.fstat(memory).st_size > _LONGEST_MESSAGE:
            raise ValueError("message too long")
        return os.pread(memory, _LONGEST_MESSAGE, 0)
    finally:
        os.close(memory)


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that nobody wants."""
    for descriptor in descriptors:
        os.close(descriptor)
