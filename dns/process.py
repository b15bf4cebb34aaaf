"""The daemon's connection to a resolver process that runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnm.dns import control
from cnm.dns.sockets import Sockets, adopt
from cnm.errors import CNMError
from cnm.runtime.kernel import packets, resident
from cnm.runtime.kernel.readable import is_readable
from cnm.runtime.kernel.resident import Place
from cnm.runtime.kernel.service import failure

ANSWERS_WITHIN_S = 10.0  # a whole table of 10,000 names takes 0.1; who is silent longer hangs
_ENDS_WITHIN_S = 5.0
_PEER = struct.Struct("=iII")  # ucred: pid, uid, gid


class Lost(Exception):
    """The process has ended, or does not answer."""


@dataclass(slots=True)
class Post:
    """What was asked and not answered yet. ``done``: whether it was; None: nobody knows yet."""

    done: bool | None = None


class Process:
    """One at a time asks it: the caller sees to that."""

    def __init__(
        self, place: Place, link: socket.socket, patience_s: float = ANSWERS_WITHIN_S
    ) -> None:
        self._place = place
        self._link = link
        self._patience_s = patience_s
        self._posts: deque[Post] = deque()  # those whose answers have not come, oldest first
        link.settimeout(patience_s)
        peer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        self.pid = _PEER.unpack(peer)[0]
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError as error:
            link.close()
            raise Lost(f"the resolver has ended: {error}") from error

    @classmethod
    def running(cls, place: Place, patience_s: float = ANSWERS_WITHIN_S) -> Process | None:
        """The one that runs; None: none does."""
        try:
            return cls(place, resident.connect(place), patience_s)
        except (FileNotFoundError, ConnectionRefusedError, Lost):
            return None

    @classmethod
    def start(cls, place: Place, patience_s: float = ANSWERS_WITHIN_S) -> Process:
        """Another one, or the one that runs. :raises Unavailable: :raises Lost:"""
        return cls(place, resident.connect_or_start(place, control.MODULE), patience_s)

    def close(self) -> None:
        """Leave it alone. Again is fine."""
        self._link.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def ask(self, request: str, descriptors: Sequence[int] = (), /, **arguments: object) -> Any:
        """One question and its answer. :raises Lost: :raises CNMError: it refuses."""
        return self._ask(request, descriptors, arguments)[0]

    def post(self, requests: Sequence[Mapping[str, object]]) -> Post:
        """Ask several in one message, and leave the answer to :meth:`wait`. :raises Lost:"""
        try:
            packets.send(self._link, {"ask": control.TOGETHER, "of": list(requests)})
        except (OSError, ValueError) as error:
            raise self._lost(error) from error
        self._posts.append(post := Post())
        return post

    def wait(self, post: Post) -> bool:
        """For an answer; whether all of it was done. :raises Lost:"""
        try:
            self._take_answers(post)
        except (OSError, EOFError, ValueError) as error:
            raise self._lost(error) from error
        return bool(post.done)

    def _take_answers(self, until: Post | None = None) -> None:
        """In the order in which was asked: whoever waits takes those of others as well."""
        while self._posts and (until is None or until.done is None):
            message, _ = packets.receive(self._link)
            self._posts.popleft().done = "done" in message

    def _ask(
        self, request: str, descriptors: Sequence[int], arguments: dict[str, object]
    ) -> tuple[Any, list[int]]:
        try:
            self._take_answers()
            packets.send(self._link, {"ask": request, **arguments}, descriptors)
            message, received = packets.receive(self._link)
        except (OSError, EOFError, ValueError) as error:
            raise self._lost(error) from error
        if "done" not in message:
            packets.close_all(received)
            raise failure(message, "the resolver refused")
        return message["done"], received

    def _lost(self, error: Exception) -> Lost:
        return Lost(f"the resolver (process {self.pid}): {error}")

    def is_ours(self) -> bool:
        """Whether it speaks as we do. One that does not is to be replaced. :raises Lost:"""
        try:
            return bool(self.ask("hello") == control.greeting())
        except CNMError:
            return False

    def sockets(self) -> Iterator[tuple[str, Sockets]]:
        """Whom it serves, and a second descriptor of both sockets. :raises Lost:"""
        start = 0
        while True:
            listed, descriptors = self._ask("take", (), {"from": start})
            pairs = zip(descriptors[::2], descriptors[1::2], strict=True)
            for sandbox_id, (udp, tcp) in zip(listed, pairs, strict=True):
                yield sandbox_id, adopt(udp, tcp)
            if not listed:
                return
            start += len(listed)

    def watch(self) -> socket.socket:
        """A connection on which it tells what happens; its end is the process's. :raises Lost:"""
        try:
            link = resident.connect(self._place)
        except OSError as error:
            raise Lost(f"the resolver: {error}") from error
        try:
            link.settimeout(self._patience_s)
            packets.send(link, {"ask": "watch"})
            packets.receive(link)
        except (OSError, EOFError, ValueError) as error:
            link.close()
            raise Lost(f"the resolver: {error}") from error
        link.settimeout(None)
        return link

    def end(self) -> None:
        """Kill it, if it has not ended yet, and wait until it has. Closed: somebody has done so."""
        if self._pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        is_readable(self._pidfd, _ENDS_WITHIN_S)
