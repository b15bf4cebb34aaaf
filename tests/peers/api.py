"""The Engine API on a unix socket, dockerd's or ours, with the standard library alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
from pathlib import Path
from typing import Any


class ApiError(Exception):
    """An answer of 400 or above; ``status`` and the engine's own message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float = 60.0) -> None:
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
    """One connection, kept open."""

    def __init__(self, path: Path, version: str = "1.41") -> None:
        self._path = path
        self._version = version
        self._connection: UnixConnection | None = None

    def call(self, method: str, path: str, body: object = None, prefix: str = "") -> Any:
        """The decoded answer, or nothing if it is not one JSON document.

        :raises ApiError: with the engine's own message.
        """
        content = body if isinstance(body, bytes) else json.dumps(body) if body else None
        kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
        address = f"{prefix or f'/v{self._version}'}{path}"
        if self._has_been_closed():
            self.close()
        if self._connection is None:
            self._connection = UnixConnection(self._path)
        try:
            self._connection.request(method, address, content, {"Content-Type": kind})
            response = self._connection.getresponse()
            text = response.read()
        except BaseException:
            self.close()
            raise
        if response.status >= 400:
            raise ApiError(response.status, _message(text))
        with contextlib.suppress(ValueError):  # a progress stream, or nothing
            return json.loads(text)
        return None

    def _has_been_closed(self) -> bool:
        """By the engine, while nothing was asked: then it can be read, and says nothing."""
        if self._connection is None or self._connection.sock is None:
            return False
        return bool(select.select([self._connection.sock], [], [], 0)[0])

    def another(self) -> Api:
        """A further connection, for calls side by side."""
        return Api(self._path, self._version)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _message(text: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(text)["message"])
    return text.decode(errors="replace")
