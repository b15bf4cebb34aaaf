"""Answers that are sent piece by piece: waits, logs, bodies that come in pieces."""

from __future__ import annotations

import asyncio
import itertools
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from cnm.core.logs import LogEntry, LogReader, LogWish
from cnm.core.waits import Ended
from cnm.engine.answers import encode
from cnm.errors import InvalidParameter

_BATCH = 256  # log entries read at once in a thread
_LOOK_AGAIN_S = 0.05
_STOP_CHECK_S = 0.5  # how soon an open answer notices that the daemon stops
_START_WAIT = {"type": "http.response.body", "body": b"", "more_body": True}


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
            await send(_START_WAIT)
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


def log_piece(entry: LogEntry, *, framed: bool, timestamps: bool) -> bytes:
    """One entry as the API sends it."""
    data = f"{entry.time} ".encode() + entry.data if timestamps else entry.data
    return frame(entry.stream, data) if framed else data


class LogAnswer(StreamingResponse):
    """A log; with ``running`` it goes on until the container does not run any more."""

    def __init__(
        self,
        reader: LogReader,
        wish: LogWish,
        media_type: str,
        *,
        framed: bool,
        timestamps: bool,
        running: Callable[[], bool] | None,
        stopping: threading.Event,
    ) -> None:
        self._reader = reader
        self._wish = wish
        self._framed = framed
        self._timestamps = timestamps
        self._running = running
        self._stopping = stopping
        super().__init__(self._pieces(), media_type=media_type)

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            yield b""  # the head, at once
            async for piece in self._batches(self._reader.begin(self._wish)):
                yield piece
            while self._running is not None and not self._stopping.is_set():
                going_on = self._running()  # asked first: what came until then is read
                async for piece in self._batches(self._reader.more(self._wish)):
                    yield piece
                if not going_on:
                    return
                await asyncio.sleep(_LOOK_AGAIN_S)
        finally:
            self._reader.close()

    async def _batches(self, entries: Iterator[LogEntry]) -> AsyncIterator[bytes]:
        while batch := await run_in_threadpool(lambda: list(itertools.islice(entries, _BATCH))):
            yield b"".join(
                log_piece(item, framed=self._framed, timestamps=self._timestamps) for item in batch
            )


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
