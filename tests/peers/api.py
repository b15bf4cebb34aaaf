"""The Engine API on a unix socket, dockerd's or ours, with the standard library alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
from pathlib import Path
from typing import Any

_TIMEOUT_S = 60.0


class ApiError(Exception):
    """An answer of 400 or above; ``status`` and the engine's own message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float = _TIMEOUT_S) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(str(self._path))
        except BaseException:
            self.close()
            raise


class Api:
    """One connection, kept open.

    A request is written, and its answer read, in one piece each and without a thread: what a
    client does for it should not count for much in what an engine is measured by.
    """

    def __init__(self, path: Path, version: str = "1.41") -> None:
        self._path = path
        self._version = version
        self._socket: socket.socket | None = None
        self._method = ""

    def call(self, method: str, path: str, body: object = None, prefix: str = "") -> Any:
        """The decoded answer, or nothing if it is not one JSON document.

        :raises ApiError: with the engine's own message.
        """
        self.begin(method, path, body, prefix)
        return self.finish()

    def begin(self, method: str, path: str, body: object = None, prefix: str = "") -> None:
        """Ask, and leave the answer for :meth:`finish`: for requests side by side."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode() if body else b""
        kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
        head = (
            f"{method} {prefix or f'/v{self._version}'}{path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        if self._has_been_closed():
            self.close()
        if self._socket is None:
            self._socket = _connected(self._path)
        self._method = method
        try:
            self._socket.sendall(head.encode() + content)
        except BaseException:
            self.close()
            raise

    def finish(self) -> Any:
        """The answer to what was begun; see :meth:`call`."""
        if self._socket is None:
            raise ConnectionError("nothing was asked")
        try:
            with contextlib.closing(
                http.client.HTTPResponse(self._socket, method=self._method)
            ) as response:
                response.begin()
                text = response.read()
        except BaseException:
            self.close()
            raise
        if response.will_close:
            self.close()
        if response.status >= 400:
            raise ApiError(response.status, _message(text))
        with contextlib.suppress(ValueError):  # a progress stream, or nothing
            return json.loads(text)
        return None

    def _has_been_closed(self) -> bool:
        """By the engine, while nothing was asked: then it can be read, and says nothing."""
        return self._socket is not None and bool(select.select([self._socket], [], [], 0)[0])

    def another(self) -> Api:
        """A further connection, for calls side by side."""
        return Api(self._path, self._version)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def _message(text: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(text)["message"])
    return text.decode(errors="replace")
