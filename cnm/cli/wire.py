"""HTTP/1.1 on a unix socket, as much as a command needs.

Written by hand because of time: importing ``http.client`` costs 25 ms (it loads
``ssl`` and ``email``), more than all the rest of a command. One request a
connection. RFC 9112: a body is delimited by chunks, by Content-Length, or by the
end of the connection. RFC 9110, 7.8: after ``101 Switching Protocols`` the
connection is a plain stream both ways.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping

# A status line or header beyond this is no answer of ours; nothing is read without bound.
_LINE_LIMIT = 65536
_BLOCK = 65536
_JSON = "application/json"
_SWITCHING = 101


class Garbled(Exception):
    """What came back is not HTTP, or broke off."""


class Response:
    """An answer: its status is read, its body not yet."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")
        try:
            self.status = self._read_status()
            self.headers: Mapping[str, str] = self._read_headers()
            self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
            self._length = self._read_length(self.headers.get("content-length"))
        except BaseException:
            self._stream.close()  # it holds the socket open as well
            raise

    def body(self) -> bytes:
        """All of the body.

        :raises Garbled: when it is shorter than announced.
        """
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The body piece by piece, as it comes."""
        if self._chunked:
            yield from self._chunks()
        elif self._length is not None:
            yield self._exactly(self._length)
        else:
            while block := self._stream.read1(_BLOCK):
                yield block

    def close(self) -> None:
        """Ends the connection."""
        self._stream.close()
        self._connection.close()

    def take_over(self) -> tuple[socket.socket, bytes]:
        """The connection itself, after 101, and what came on it together with the head."""
        self._connection.setblocking(False)  # peek reads on when nothing is buffered
        early = self._stream.peek()
        self._connection.setblocking(True)
        self._stream.close()
        return self._connection, early

    def _read_status(self) -> int:
        line = self._line()
        switched = f"HTTP/1.1 {_SWITCHING}"
        while line.startswith("HTTP/1.1 1") and not line.startswith(switched):  # 100 and the like
            self._read_headers()
            line = self._line()
        parts = line.split(" ", 2)
        if not line.startswith("HTTP/1.") or len(parts) < 2 or not parts[1].isdigit():
            raise Garbled(f"not an HTTP answer: {line[:60]!r}" if line else "the connection ended")
        return int(parts[1])

    def _read_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    def _read_length(self, value: str | None) -> int | None:
        if self.status in (204, 304):
            return 0
        if value is None:
            return None
        if not value.isdigit():
            raise Garbled(f"bad Content-Length {value!r}")
        return int(value)

    def _line(self) -> str:
        line = self._stream.readline(_LINE_LIMIT)
        if len(line) >= _LINE_LIMIT:
            raise Garbled("a header is too long")
        return line.rstrip(b"\r\n").decode("latin-1")

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size = self._line().partition(";")[0].strip()
            try:
                length = int(size, 16)
            except ValueError:
                raise Garbled("the connection ended early") from None
            if not length:
                self._read_headers()
                return
            yield self._exactly(length)
            self._line()

    def _exactly(self, length: int) -> bytes:
        data = self._stream.read(length)
        if len(data) < length:
            raise Garbled("the connection ended early")
        return data


def request(path: str, method: str, target: str, body: bytes | None = None) -> Response:
    """Sends one request to the socket ``path``. A body is JSON.

    :raises OSError: when it cannot be reached.
    :raises Garbled: when the answer cannot be read.
    """
    fields = [*_body_fields(method, body), "Connection: close"]
    return _ask(path, [_head(method, target, fields) + (body or b"")])


def upload(path: str, target: str, kind: str, blocks: Iterable[bytes]) -> Response:
    """POSTs a body of unknown length, chunk by chunk; ``kind`` is its Content-Type.

    Who answers before the end, to refuse it, is heard. Errors as ``request``'s.
    """
    fields = [f"Content-Type: {kind}", "Transfer-Encoding: chunked", "Connection: close"]
    return _ask(path, _chunked(_head("POST", target, fields), blocks))


def upgrade(path: str, target: str, body: bytes | None = None) -> Response:
    """POSTs and asks for a plain stream; granted if the status is 101. Errors as ``request``'s."""
    fields = [*_body_fields("POST", body), "Connection: Upgrade", "Upgrade: tcp"]
    return _ask(path, [_head("POST", target, fields) + (body or b"")])


def _ask(path: str, pieces: Iterable[bytes]) -> Response:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
        try:
            for piece in pieces:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it reads no more; what it has to say about that may be there already
        return Response(connection)
    except BaseException:
        connection.close()
        raise


def _chunked(head: bytes, blocks: Iterable[bytes]) -> Iterator[bytes]:
    yield head
    for block in blocks:
        yield b"%x\r\n%b\r\n" % (len(block), block)
    yield b"0\r\n\r\n"


def _head(method: str, target: str, fields: Iterable[str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: cnm", "User-Agent: cnm", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _body_fields(method: str, body: bytes | None) -> list[str]:
    if body is not None:
        return [f"Content-Type: {_JSON}", f"Content-Length: {len(body)}"]
    return ["Content-Length: 0"] if method == "POST" else []


def quote(text: str) -> str:
    """Percent-encoding of everything but RFC 3986's unreserved characters."""
    return "".join(
        chr(byte)
        if chr(byte).isascii() and (chr(byte).isalnum() or byte in b"-_.~")
        else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogateescape")
    )
