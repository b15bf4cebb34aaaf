"""``/events``: the stream of what happens, and of what happened."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cnm.core.events import Event, Subscription
from cnm.core.facade import Core
from cnm.engine import shape, times
from cnm.engine.answers import encode
from cnm.engine.filters import Filters
from cnm.engine.frame import asked_version
from cnm.engine.versions import ApiVersion
from cnm.errors import InvalidParameter

_POLL_S = 0.5  # how soon a stream's thread notices that its client has gone


def routes(core: Core, stopping: threading.Event) -> APIRouter:
    """The event stream. ``stopping`` ends all of them when the daemon stops."""
    router = APIRouter(tags=["system"])

    @router.get("/events")
    async def events(
        request: Request, since: str = "", until: str = "", filters: str = ""
    ) -> Response:
        """Stream events, one JSON object each."""
        now = time.time_ns()
        since_ns = times.parse(since, now) if since else None
        until_ns = times.parse(until, now) if until else None
        if since_ns is not None and until_ns is not None and since_ns > until_ns:
            raise InvalidParameter(f"`since` time ({since}) cannot be after `until` time ({until})")
        wanted = Filters.parse(filters)
        version = asked_version(request)
        if until_ns is not None and until_ns <= now:
            past = core.events.backlog(since_ns or 0, until_ns) if since_ns is not None else []
            body = b"".join(line(event, version) for event in past if passes(event, wanted))
            return Response(body, media_type="application/json")
        subscription = core.events.subscribe(since_ns)
        return EventStream(subscription, wanted, version, until_ns, stopping)

    return router


class EventStream(Response):
    """Sends events until the client goes, ``until`` is reached or the daemon stops.

    Waiting for events blocks a thread; a stream has one of its own, so that streams
    that stay open for days take none from the pool that serves requests.
    """

    def __init__(
        self,
        subscription: Subscription,
        wanted: Filters,
        version: ApiVersion,
        until_ns: int | None,
        stopping: threading.Event,
    ) -> None:
        super().__init__(media_type="application/json")
        del self.headers["content-length"]
        self._subscription = subscription
        self._wanted = wanted
        self._version = version
        self._until_ns = until_ns
        self._stopping = stopping
        self._gone = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        pump = threading.Thread(
            target=self._pump, args=(asyncio.get_running_loop(), lines), name="events", daemon=True
        )
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            # uvicorn holds the head back until the first piece of the body
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            pump.start()
            await _first(_send_all(lines, send), _disconnected(receive))
        finally:
            self._gone.set()

    def _pump(self, loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[bytes | None]) -> None:
        """In the stream's own thread: from the subscription to the event loop."""
        try:
            while not self._is_over():
                event = self._subscription.get(self._patience_s())
                if event is not None and passes(event, self._wanted):
                    text = line(event, self._version)
                    loop.call_soon_threadsafe(lines.put_nowait, text)
        finally:
            self._subscription.close()
            with contextlib.suppress(RuntimeError):  # the loop has ended before us
                loop.call_soon_threadsafe(lines.put_nowait, None)

    def _is_over(self) -> bool:
        if self._gone.is_set() or self._stopping.is_set() or self._subscription.lost:
            return True
        return self._until_ns is not None and time.time_ns() >= self._until_ns

    def _patience_s(self) -> float:
        if self._until_ns is None:
            return _POLL_S
        return max(0.0, min(_POLL_S, (self._until_ns - time.time_ns()) / 1e9))


def line(event: Event, version: ApiVersion) -> bytes:
    """An event as a line of JSON."""
    document: dict[str, Any] = {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.actor_id, "Attributes": dict(event.attributes)},
        "scope": event.scope,
        "time": event.time_ns // 1_000_000_000,
        "timeNano": event.time_ns,
    }
    return encode(shape.event(document, version))


def passes(event: Event, wanted: Filters) -> bool:
    """Docker's rules: objects match by the beginning of their id or name."""
    objects = (event.actor_id, event.attributes.get("name", ""))
    named = (key for key in ("container", "network", "image", "volume", "plugin"))
    return (
        wanted.exact("type", event.type)
        and wanted.exact("event", event.action, event.action.partition(":")[0])
        and wanted.exact("scope", event.scope)
        and all(wanted.prefix(key, *objects) for key in named)
        and wanted.labels("label", event.attributes)
    )


async def _send_all(lines: asyncio.Queue[bytes | None], send: Send) -> None:
    while (text := await lines.get()) is not None:
        await send({"type": "http.response.body", "body": text, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first(*coroutines: Any) -> None:
    """Run all until one ends; stop the others."""
    tasks = [asyncio.ensure_future(item) for item in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
