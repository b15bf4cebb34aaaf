"""Links that are gone, by the kernel's own word, before the call that deletes them returns.

RTM_DELLINK is said when a link is on no list any more: nobody finds it, its name is free, no
packet passes it. What the call itself then waits for is RCU, 12 ms and more, so that memory can
be freed. A veth is said to be gone after 1 ms, a bridge after 17 of 35.

A filter in the kernel lets nothing else through: an attach alone makes eight other messages.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cnm.runtime.kernel import bpf
from cnm.runtime.kernel.rtsocket import split_messages

_RTMGRP_LINK = 1  # linux/rtnetlink.h
_RTM_DELLINK = 17
_LINK = struct.Struct("=BxHi")  # ifinfomsg up to its index: family, device type
_FAMILY_AT = 16  # bytes into the message
_RECEIVE_BYTES = 1 << 16
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_BUFFER_BYTES = 1 << 20

_FILTER = (
    (bpf.LOAD_HALF, 0, 0, bpf.TYPE_AT),
    (bpf.JUMP_EQUAL, 0, 3, bpf.read_type(_RTM_DELLINK)),
    (bpf.LOAD_BYTE, 0, 0, _FAMILY_AT),
    # of a bridge: said of a port that leaves it and stays
    (bpf.JUMP_EQUAL, 0, 1, socket.AF_UNSPEC),
    (bpf.RETURN, 0, 0, bpf.WHOLE),
    (bpf.RETURN, 0, 0, 0),
)


class Departures:
    """Those of the namespace of the thread that makes it. One thread, begun at the first use.

    A hint: a message may be lost when very many come at once. Who waits also needs the
    answer of the deletion itself.
    """

    def __init__(self) -> None:
        self._awaited: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._events = _listen()
        self._wake_reading, self._wake_writing = socket.socketpair()

    @contextmanager
    def watching(self, index: int, gone: Callable[[], None]) -> Iterator[None]:
        """Within the block, ``gone`` is called on our thread when that link is gone."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="departures", daemon=True)
                self._thread.start()
        self._awaited[index] = gone
        try:
            yield
        finally:
            self._awaited.pop(index, None)

    def close(self) -> None:
        """End the thread, close the sockets. Again is fine."""
        self._wake_writing.close()
        if self._thread is not None:
            self._thread.join()
        self._wake_reading.close()
        self._events.close()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._events, self._wake_reading], [], [])
            if self._wake_reading in ready:
                return
            for index in self._gone():
                called = self._awaited.get(index)
                if called is not None:
                    called()

    def _gone(self) -> list[int]:
        try:
            data = self._events.recv(_RECEIVE_BYTES)
        except OSError:  # ENOBUFS: some were lost, and those who wait learn it otherwise
            return []
        messages = split_messages(memoryview(data))
        return [_LINK.unpack_from(body)[2] for kind, _, _, body in messages if kind == _RTM_DELLINK]


def _listen() -> socket.socket:
    events = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    bpf.attach(events, _FILTER)
    events.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    events.bind((0, _RTMGRP_LINK))
    return events
