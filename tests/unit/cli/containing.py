"""A server on a unix socket with one container in it, whose process is a function of the test.

It speaks as the daemon does where the order of things matters: ``wait`` answers its head
at once and its body at the end, ``attach`` and exec switch protocols, ``start`` lets the
process begin.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unit.cli.answering import Request

IDENTIFIER = "c" * 64
EXEC = "e" * 64
STDOUT, STDERR = 1, 2
_PATIENCE_S = 30.0

Process = Callable[["Streams"], int]


class Streams:
    """The process's side of an attached connection."""

    def __init__(self, connection: socket.socket, framed: bool) -> None:
        self._connection = connection
        self._framed = framed
        connection.settimeout(_PATIENCE_S)

    def say(self, text: bytes, stream: int = STDOUT) -> None:
        """Output, in a frame unless there is a terminal."""
        head = bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") if self._framed else b""
        self._connection.sendall(head + text)

    def hear(self) -> bytes:
        """Some input; empty at its end."""
        return self._connection.recv(65536)

    def hear_all(self) -> bytes:
        """All input, up to its end."""
        return b"".join(iter(self.hear, b""))

    def hang_up(self) -> None:
        """Breaks the connection off."""
        self._connection.shutdown(socket.SHUT_RDWR)

    def hear_until(self, wanted: bytes) -> bytes:
        """The input up to and with ``wanted``."""
        heard = b""
        while not heard.endswith(wanted):
            piece = self.hear()
            assert piece, f"the input ended after {heard!r}"
            heard += piece
        return heard


def quiet(streams: Streams) -> int:
    """A process that does nothing."""
    return 0


class Containing:
    """The server. Set ``process`` and the rest before the command runs."""

    def __init__(self, path: Path) -> None:
        self.host = f"unix://{path}"
        self.process: Process = quiet
        self.tty = False
        self.open_stdin = True
        self.auto_remove = False
        self.refusals: dict[str, tuple[int, str]] = {}  # last part of the path: status, message
        self.wait_error = ""
        self.requests: list[Request] = []
        self.changed = threading.Condition()
        self._code: int | None = None
        self._started = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._accepting = threading.Thread(target=self._serve)
        self._accepting.start()

    def paths(self) -> list[str]:
        """What was asked, in order, without version and id."""
        return [
            f"{request.method} {request.target}".replace("/v1.51", "").replace(IDENTIFIER, "ID")
            for request in list(self.requests)
        ]

    def wait_for(self, path: str) -> None:
        """Until this was asked."""
        with self.changed:
            asked = self.changed.wait_for(lambda: path in self.paths(), _PATIENCE_S)
        assert asked, f"{path} was not asked: {self.paths()}"

    def start(self) -> None:
        """Lets the process run, as if somebody had started it."""
        self._started.set()

    def close(self) -> None:
        """Ends all threads and the socket."""
        self._end(0)
        self._started.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in (self._accepting, *self._threads):
            thread.join(_PATIENCE_S)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # shut down
                return
            thread = threading.Thread(target=self._answer, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            request = _read(connection)
            with self.changed:
                self.requests.append(request)
                self.changed.notify_all()
            last = request.target.partition("?")[0].rpartition("/")[2]
            try:
                self._handle(connection, request, last)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the command has detached

    def _handle(self, connection: socket.socket, request: Request, last: str) -> None:
        if last in self.refusals:
            status, message = self.refusals[last]
            _send(connection, {"message": message}, status)
        elif last == "wait":
            self._wait(connection)
        elif last == "attach":
            self._upgrade(connection)
            self._started.wait(_PATIENCE_S)
            self._end(self.process(Streams(connection, not self.tty)))
        elif last == "start" and "/exec/" in request.target and not request.body["Detach"]:
            self._upgrade(connection)
            self._end(self.process(Streams(connection, not request.body["Tty"])))
        else:
            if last == "start":
                self._started.set()
            _send(connection, self._document(request, last))

    def _document(self, request: Request, last: str) -> Mapping[str, Any]:
        if last == "json" and "/exec/" in request.target:
            return {"ExitCode": self._code}
        if last == "json":
            return {
                "Id": IDENTIFIER,
                "State": {"Running": self._code is None},
                "Config": {"Tty": self.tty, "OpenStdin": self.open_stdin},
                "HostConfig": {"AutoRemove": self.auto_remove},
            }
        return {"Id": EXEC if last == "exec" else IDENTIFIER, "Warnings": []}

    def _upgrade(self, connection: socket.socket) -> None:
        head = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        connection.sendall(head.encode())

    def _wait(self, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with self.changed:
            self.changed.wait_for(lambda: self._code is not None, _PATIENCE_S)
        error = {"Error": {"Message": self.wait_error}} if self.wait_error else {}
        body = json.dumps({"StatusCode": self._code} | error).encode()
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    def _end(self, code: int) -> None:
        with self.changed:
            self._code = code if self._code is None else self._code
            self.changed.notify_all()


def _send(connection: socket.socket, document: Mapping[str, Any], status: int = 200) -> None:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def _read(connection: socket.socket) -> Request:
    # Byte by byte: what follows the head of an upgrade is the process's input.
    method, target, _ = _line(connection).split(" ")
    lines = iter(lambda: _line(connection).lower(), "")
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    length = int(headers.get("content-length", "0"))
    body = connection.recv(length, socket.MSG_WAITALL) if length else b""
    return Request(method, target, json.loads(body) if body else None)


def _line(connection: socket.socket) -> str:
    return b"".join(iter(lambda: connection.recv(1), b"\n")).decode().strip()
