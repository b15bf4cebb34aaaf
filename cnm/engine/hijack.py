"""Connections that stop being HTTP: attach and exec.

uvicorn hands over no raw connection. So its protocol class is derived here: it puts itself
into the request's scope, and the endpoint takes the transport over from it. Two asyncio
transports, the client's and the process', are then joined with flow control both ways:
who reads slowly is read slowly, and the event loop never waits.

Source: Docker's Engine API, "Hijacking" of ``/containers/{id}/attach``.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable
from typing import Any, cast

import httptools
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cnm.detachkeys import DetachKeys

_KEY = "cnm.connection"
_HANG_UP_CHECK_S = 2.0  # how soon a client that closed after its end of input is noticed
FRAMED = "application/vnd.docker.multiplexed-stream"
RAW = "application/vnd.docker.raw-stream"


class HijackableProtocol(HttpToolsProtocol):
    """HTTP until somebody takes the connection over."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._early = bytearray()  # what the client sent after its request to upgrade
        self._body_left = 0  # of such a request: the parser takes its body for the stream
        self._upgrading = False

    def on_message_begin(self) -> None:
        """As ever, and let the endpoint find us."""
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[_KEY] = self

    def on_headers_complete(self) -> None:
        """As ever; after a request to upgrade the parser reads no other."""
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def data_received(self, data: bytes) -> None:
        """As ever; after a request to upgrade bytes are kept for whoever takes over."""
        if self._upgrading:
            self._after_head(data)
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrading = True
            self._body_left = int(dict(self.headers).get(b"content-length", b"0"))
            self.cycle.more_body = self._body_left > 0
            self._after_head(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _after_head(self, data: bytes) -> None:
        if self._body_left:
            part = data[: self._body_left]
            self._body_left -= len(part)
            self.cycle.body += part
            self.cycle.more_body = self._body_left > 0
            self.cycle.message_event.set()
            data = data[len(part) :]
        self._early += data

    def take_over(self, head: bytes, successor: asyncio.Protocol) -> bytes:
        """Answer with ``head`` in a write of its own and let ``successor`` have the transport.

        Returns what the client has sent already.
        """
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        cycle = self.cycle
        cycle.response_started = cycle.response_complete = True
        self.transport.write(head)
        self.transport.set_protocol(successor)
        cycle.message_event.set()
        return bytes(self._early)

    def pause_reading(self) -> None:
        """Until the successor is ready for bytes."""
        self.flow.pause_reading()


class Hijack(Response):
    """Answers by joining the client's connection with a process' stream.

    ``begin`` runs in a thread when the head is out (an exec is started then); what it
    returns, if anything, is the last that is sent. ``detached`` is called if the client
    typed the keys of ``escape``.
    """

    def __init__(
        self,
        stream: socket.socket,
        media_type: str,
        *,
        prefix: bytes = b"",
        escape: DetachKeys | None = None,
        begin: Callable[[], bytes] | None = None,
        detached: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._media_type = media_type
        self._prefix = prefix
        self._escape = escape
        self._begin = begin
        self._detached = detached

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: HijackableProtocol = scope[_KEY]
        loop = asyncio.get_running_loop()
        client = _Client(self._escape, self._detached, held=self._begin is not None)
        connection.pause_reading()
        early = connection.take_over(_head(scope, self._media_type), client)
        self._stream.setblocking(False)
        client.transport = connection.transport
        if self._prefix:
            client.transport.write(self._prefix)
        _, process = await loop.create_unix_connection(lambda: _Process(client), sock=self._stream)
        client.join(process)
        if early:
            client.data_received(early)
        client.transport.resume_reading()
        if self._begin is not None:
            await self._run(self._begin, client)

    async def _run(self, begin: Callable[[], bytes], client: _Client) -> None:
        client.release(await asyncio.to_thread(begin))


def _head(scope: Scope, media_type: str) -> bytes:
    wanted = any(name == b"upgrade" for name, _ in scope["headers"])
    start = "HTTP/1.1 101 UPGRADED" if wanted else "HTTP/1.1 200 OK"
    upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n" if wanted else ""
    return f"{start}\r\nContent-Type: {media_type}\r\n{upgrade}\r\n".encode()


class _Client(asyncio.Protocol):
    """The client's side."""

    transport: asyncio.Transport

    def __init__(
        self, escape: DetachKeys | None, detached: Callable[[], None] | None, *, held: bool
    ) -> None:
        self._held = held  # the last word is not said yet
        self._over = False
        self._escape = escape
        self._detached = detached
        self._process: _Process | None = None
        self._check: asyncio.TimerHandle | None = None

    def join(self, process: _Process) -> None:
        """The other side is there."""
        self._process = process

    def data_received(self, data: bytes) -> None:
        if self._process is None:
            return
        left = False
        if self._escape is not None:
            data, left = self._escape.feed(data)
        self._process.transport.write(data)
        if left:
            self._process.transport.close()
            self.transport.close()
            if self._detached is not None:
                asyncio.get_running_loop().run_in_executor(None, self._detached)

    def eof_received(self) -> bool:
        """The client's input has ended, or all of it: that is seen by a hang-up only."""
        if self._process is not None and self._process.transport.can_write_eof():
            with contextlib.suppress(OSError):
                self._process.transport.write_eof()
        self._look_for_hang_up()
        return True

    def _look_for_hang_up(self) -> None:
        if self.transport.is_closing():
            return
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), 0)
        if poll.poll(0):
            self.transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._check = loop.call_later(_HANG_UP_CHECK_S, self._look_for_hang_up)

    def pause_writing(self) -> None:
        if self._process is not None:
            self._process.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._process is not None:
            self._process.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._check is not None:
            self._check.cancel()
        if self._process is not None:
            self._process.transport.close()

    def release(self, last_words: bytes) -> None:
        """The process has started, or not: then this is why."""
        self._held = False
        if last_words:
            self.transport.write(last_words)
        if last_words or self._over:
            self.end()

    def end(self) -> None:
        """The process is done. What is buffered is sent first."""
        self._over = True
        if not self._held:
            self.transport.close()


class _Process(asyncio.Protocol):
    """The process' side: its output comes, its input goes."""

    transport: asyncio.Transport

    def __init__(self, client: _Client) -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._client.transport.write(data)

    def pause_writing(self) -> None:
        self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        self._client.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.end()
