"""The query log, read by the daemon: a connection of its own to the process."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any

from cnm.errors import CNMError, Unavailable
from cnm.runtime.kernel import packets
from cnm.runtime.kernel.service import failure

_ANSWERS_WITHIN_S = 10.0


class Queries:
    """What is asked from now on; a context manager. Goes on with the next process.

    ``connect``: a connection to the resolver. :raises Unavailable:
    """

    def __init__(self, connect: Callable[[], socket.socket], sandbox_id: str | None) -> None:
        self._connect = connect
        self._sandbox_id = sandbox_id
        self._link: socket.socket | None = self._open()

    def __enter__(self) -> Queries:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drop()

    def get(self, timeout_s: float) -> list[dict[str, Any]]:
        """What came; nothing if nothing came in time. See :func:`cnm.dns.logline.document`."""
        try:
            if self._link is None:
                self._link = self._open()
            ready, _, _ = select.select([self._link], [], [], timeout_s)
            if not ready:
                return []
            found: list[dict[str, Any]] = packets.receive(self._link)[0]["queries"]
            return found
        except (OSError, EOFError, ValueError, CNMError):  # it has ended: the next one goes on
            self._drop()
            return []

    def _open(self) -> socket.socket:
        link = self._connect()
        try:
            link.settimeout(_ANSWERS_WITHIN_S)
            packets.send(link, {"ask": "log", "id": self._sandbox_id})
            message, _ = packets.receive(link)
        except (OSError, EOFError, ValueError) as error:
            link.close()
            raise Unavailable(f"the resolver does not answer: {error}") from error
        if "done" not in message:
            link.close()
            raise failure(message, "the resolver refused")
        return link

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
