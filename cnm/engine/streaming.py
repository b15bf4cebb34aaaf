"""Answers that are sent piece by piece: waits, logs, bodies that come in pieces."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cnm.core.waits import Ended
from cnm.engine.answers import encode
from cnm.errors import InvalidParameter
from cnm.runtime.container.logs import LogEntry

log = logging.getLogger(__name__)

STDOUT, STDERR = 1, 2
_NUMBERS = {"stdout": STDOUT, "stderr": STDERR}
_PIECE = 64 * 1024  # bytes of log sent in one go
_AHEAD = 4  # such pieces that may wait for a slow client
_STOP_CHECK_S = 0.5  # how soon an open answer notices that the daemon stops
_START_BODY = {"type": "http.response.body", "body": b"", "more_body": True}


class WaitAnswer(Response):
    """Sends its head at once and the exit code when it is known.

    ``wait`` is given what to call at the end, and returns what ends the wait.
    """

    def __init__(
        self, wait: Callable[[Ended], Callable[[], None]], stopping: threading.Event
    ) -> None:
        super().__init__(media_type="application/json")
        del self.headers["content-length"]
        self._stopping = stopping
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[int] = self._loop.create_future()
        self._cancel = wait(self._ended)  # raises what is to be answered as an error

    def _ended(self, exit_code: int) -> None:
        """From any thread, perhaps twice."""
        self._loop.call_soon_threadsafe(self._settle, exit_code)

    def _settle(self, exit_code: int) -> None:
        if not self._done.done():
            self._done.set_result(exit_code)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send(_START_BODY)
            waiting: set[asyncio.Future[Any]] = {gone, self._done}
            while not (gone.done() or self._done.done() or self._stopping.is_set()):
                await asyncio.wait(
                    waiting, timeout=_STOP_CHECK_S, return_when=asyncio.FIRST_COMPLETED
                )
            if self._done.done():
                # no Error beside it: the client takes one for a failure of the wait itself
                document = {"StatusCode": self._done.result()}
                await send({"type": "http.response.body", "body": encode(document)})
        finally:
            self._cancel()
            gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def frame(stream: int, data: bytes) -> bytes:
    """Docker's 8-byte header and the data."""
    return struct.pack(">BxxxL", stream, len(data)) + data


@dataclass(frozen=True, slots=True)
class LogShape:
    """Which streams of a log are sent, and how."""

    stdout: bool
    stderr: bool
    framed: bool
    timestamps: bool = False

    def piece(self, entry: LogEntry) -> bytes:
        """An entry as the API sends it; empty if it is not wanted."""
        if not (self.stderr if entry.stream == "stderr" else self.stdout):
            return b""
        data = f"{entry.stamp} ".encode() + entry.data if self.timestamps else entry.data
        return frame(_NUMBERS[entry.stream], data) if self.framed else data


class PiecesAnswer(Response):
    """Sends pieces as ``produce`` yields them, in a thread of its own.

    ``produce`` is given what it shall ask now and then whether to end. The thread waits for
    the client, so that a slow one costs no memory.
    """

    def __init__(
        self,
        produce: Callable[[Callable[[], bool]], Iterator[bytes]],
        media_type: str,
        stopping: threading.Event,
    ) -> None:
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self._produce = produce
        self._stopping = stopping
        self._gone = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send(_START_BODY)
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._pump, args=(loop, pieces), name="log", daemon=True)
        gone = asyncio.ensure_future(_disconnected(receive))
        gone.add_done_callback(lambda _: self._gone.set())
        try:
            thread.start()
            while (piece := await pieces.get()) is not None:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._gone.set()
            gone.cancel()
            while not pieces.empty():  # the thread may wait for room
                pieces.get_nowait()

    def _over(self) -> bool:
        return self._gone.is_set() or self._stopping.is_set()

    def _pump(self, loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[bytes | None]) -> None:
        buffer = bytearray()

        def flush() -> None:
            if buffer:
                asyncio.run_coroutine_threadsafe(pieces.put(bytes(buffer)), loop).result()
                buffer.clear()

        def asked_to_end() -> bool:
            flush()  # asked before each wait: what was read is sent by then
            return self._over()

        try:
            for piece in self._produce(asked_to_end):
                buffer += piece
                if len(buffer) >= _PIECE:
                    flush()
                if self._over():
                    break
            flush()
        except Exception as error:  # the head is out: there is no status to tell it with
            log.error("reading a log: %s", error)
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended before us
                asyncio.run_coroutine_threadsafe(pieces.put(None), loop)


class LogAnswer(PiecesAnswer):
    """Sends a container's log as ``entries`` yields it."""

    def __init__(
        self,
        entries: Callable[[Callable[[], bool]], Iterator[LogEntry]],
        shape: LogShape,
        media_type: str,
        stopping: threading.Event,
    ) -> None:
        def produce(over: Callable[[], bool]) -> Iterator[bytes]:
            return map(shape.piece, entries(over))

        super().__init__(produce, media_type, stopping)


class BodySource:
    """A request's body as a file that is read in a thread: ``cnm.imageapi.ByteSource``."""

    def __init__(self, request: Request) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream = request.stream()
        self._rest = b""
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; empty at the end.

        :raises InvalidParameter: the client went away before the end.
        """
        while not self._rest and not self._ended:
            future = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            self._rest = future.result()
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    async def _next(self) -> bytes:
        try:
            return await anext(self._stream)
        except StopAsyncIteration:
            self._ended = True
            return b""
        except ClientDisconnect:
            raise InvalidParameter("the upload ended before its end") from None
