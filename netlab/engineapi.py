"""The Engine API of a daemon on a host, over its socket: dockerd's and ours alike."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from cnm.netlab.errors import LabError

TIMEOUT_S = 60.0  # a stop may take the container's ten seconds, on a busy machine more
_OK = range(200, 400)


class EngineError(LabError):
    """The daemon refused. ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class EngineApi:
    """One connection, made when it is needed and kept; not for several threads.

    ``socket_path`` may lead through ``/proc/<pid>/root``: a host's files are not ours.
    """

    def __init__(self, socket_path: str, timeout_s: float = TIMEOUT_S) -> None:
        self._connection = _UnixConnection(socket_path, timeout_s)

    def get(self, path: str, **query: str) -> Any:
        """The decoded answer of GET."""
        return self.call("GET", path, None, query)

    def post(self, path: str, body: object = None, **query: str) -> Any:
        """The decoded answer of POST: ``body`` is sent as JSON, bytes as they are."""
        return self.call("POST", path, body, query)

    def delete(self, path: str, **query: str) -> Any:
        """The decoded answer of DELETE."""
        return self.call("DELETE", path, None, query)

    def call(
        self, method: str, path: str, body: object = None, query: Mapping[str, str] | None = None
    ) -> Any:
        """One request; the decoded document, text that is none, or ``None`` for nothing.

        :raises EngineError: the daemon refused; its own words.
        :raises OSError: it cannot be reached, or does not answer.
        """
        target = f"{path}?{urlencode(query)}" if query else path
        kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Content-Type": kind} if content is not None else {}
        try:
            self._connection.request(method, target, content, headers)
            response = self._connection.getresponse()
            data = response.read()
        except http.client.HTTPException as error:
            self.close()
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        except OSError:
            self.close()
            raise
        document = _decoded(data)
        if response.status not in _OK:
            said = document.get("message") if isinstance(document, dict) else document
            raise EngineError(response.status, str(said or response.reason))
        return document

    def answers(self) -> bool:
        """Whether the daemon is ready."""
        try:
            self.get("/_ping")
        except (OSError, EngineError):
            return False
        return True

    def close(self) -> None:
        """Close the connection; the next call makes another one."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise


def _decoded(data: bytes) -> Any:
    if not data.strip():
        return None
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace").strip()
