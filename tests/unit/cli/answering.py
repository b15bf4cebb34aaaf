"""A real HTTP server on a unix socket that answers what a test tells it to."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple


class Request(NamedTuple):
    """What a command asked: method, target, decoded body (None without one; chunks as they are)."""

    method: str
    target: str
    body: Any


class Answering:
    """Answers by method and path; 404 for what it was not told. One thread, one request each."""

    def __init__(self, path: Path) -> None:
        self.host = f"unix://{path}"
        self.requests: list[Request] = []
        self.asked = threading.Event()
        self._answers: dict[tuple[str, str], bytes] = {}
        self._held: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def answer(self, method: str, path: str, document: object = None, status: int = 200) -> None:
        """Answers with JSON, or with an empty body for None."""
        body = b"" if document is None else json.dumps(document).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n"
        self.raw(method, path, head.encode() + body)

    def refuse(self, method: str, path: str, status: int, message: str) -> None:
        """Answers with an error, as the daemon does."""
        self.answer(method, path, {"message": message}, status)

    def raw(self, method: str, path: str, answer: bytes) -> None:
        """Answers with these bytes and closes."""
        self._answers[method, path] = answer

    def hold(self, method: str, path: str) -> None:
        """Begins an answer without end."""
        self.raw(method, path, b"")

    def close(self) -> None:
        """Ends the thread and the socket."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for connection in self._held:
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # shut down
                return
            request = _read(connection)
            self.requests.append(request)
            path = request.target.partition("?")[0].removeprefix("/v1.51").removeprefix("/v1.52")
            answer = self._answers.get((request.method, path), _NOT_FOUND)
            if answer:
                connection.sendall(answer)
                connection.close()
            else:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                self._held.append(connection)
            self.asked.set()


_NOT_FOUND = b'HTTP/1.1 404 X\r\nContent-Length: 29\r\n\r\n{"message": "page not found"}'


def _read(connection: socket.socket) -> Request:
    with connection.makefile("rb") as stream:
        method, target, _ = stream.readline().decode().split(" ")
        headers: Mapping[str, str] = dict(
            line.decode().strip().lower().split(": ", 1) for line in iter(stream.readline, b"\r\n")
        )
        if headers.get("transfer-encoding") == "chunked":
            return Request(method, target, b"".join(iter(lambda: _chunk(stream), b"")))
        body = stream.read(int(headers.get("content-length", "0")))
    return Request(method, target, json.loads(body) if body else None)


def _chunk(stream: BinaryIO) -> bytes:
    content = stream.read(int(stream.readline(), 16))
    stream.readline()
    return content
