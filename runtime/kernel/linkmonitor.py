"""Word of links that come (back) and are up, and of those that go, by name: rtnetlink multicast.

For parents of other links: when one goes the kernel takes along what sits on it, and who put that
there wants to know, and when it can be put back. Nothing is listened to until a name is followed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import socket
import struct
import threading
from collections.abc import Callable, Collection

from cnm.runtime.kernel.rtsocket import attributes, split_messages

log = logging.getLogger(__name__)

_RTMGRP_LINK = 0x1  # linux/rtnetlink.h
_NEWLINK, _DELLINK = 16, 17
_IFF_UP = 0x1
_IFLA_IFNAME = 3  # linux/if_link.h
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_RECEIVE_BYTES = 1 << 16


class LinkMonitor:
    """Of the namespace of the thread that makes it; one thread, begun with the first name."""

    def __init__(
        self, came: Callable[[str], object], went: Callable[[str], object] | None = None
    ) -> None:
        self._came = came
        self._went = went
        self._names: frozenset[str] = frozenset()
        self._up: dict[str, int] = {}  # index of those that are, by name
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None
        self._events = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._wake_reading, self._wake_writing = socket.socketpair()

    def follow(self, names: Collection[str]) -> None:
        """From now on tell of these links, on our thread."""
        with self._mutex:
            self._names = frozenset(names)
            if self._names and self._thread is None:
                self._events.bind((0, _RTMGRP_LINK))
                self._thread = threading.Thread(target=self._run, name="links", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread, close the sockets. Again is fine."""
        with contextlib.suppress(OSError):
            self._wake_writing.shutdown(socket.SHUT_WR)
        if self._thread is not None:
            self._thread.join()
        for item in (self._wake_writing, self._wake_reading, self._events):
            item.close()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._events, self._wake_reading], [], [])
            if self._wake_reading in ready:
                return
            for name, is_there in self._received():
                told = self._came if is_there else self._went
                if told is not None:
                    _tell(told, name, "came" if is_there else "went")

    def _received(self) -> list[tuple[str, bool]]:
        """Names, and whether the link has come, else gone."""
        try:
            data = self._events.recv(_RECEIVE_BYTES)
        except OSError as error:
            # some were lost: any of them may have come
            lost = sorted(self._names) if error.errno == errno.ENOBUFS else []
            return [(name, True) for name in lost]
        found = []
        for kind, _, _, body in split_messages(memoryview(data)):
            if kind in (_NEWLINK, _DELLINK):
                word = self._apply(kind, body)
                if word is not None:
                    found.append(word)
        return found

    def _apply(self, kind: int, body: memoryview) -> tuple[str, bool] | None:
        """A link that is up and was not, as far as we know, or one that is gone."""
        family, _, index, flags, _ = _LINK.unpack_from(body)
        if family != socket.AF_UNSPEC:
            return None  # of a bridge: said of its ports
        # the kernel puts the name first
        for number, value in attributes(body[_LINK.size :]):
            if number == _IFLA_IFNAME:
                return self._seen(bytes(value).rstrip(b"\0").decode(), kind, index, flags)
        return None

    def _seen(self, name: str, kind: int, index: int, flags: int) -> tuple[str, bool] | None:
        if name not in self._names:
            return None
        if kind == _DELLINK or not flags & _IFF_UP:
            self._up.pop(name, None)
            return (name, False) if kind == _DELLINK else None
        before = self._up.get(name)
        self._up[name] = index
        return (name, True) if before != index else None


def _tell(told: Callable[[str], object], name: str, what: str) -> None:
    try:
        told(name)
    except Exception as error:  # the next one is told all the same
        log.error("link %s %s: %s: %s", name, what, type(error).__name__, error)
        log.debug("link %s %s", name, what, exc_info=error)
