"""``/cnm/v1/dns``: what the resolver counts, and what is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from cnm.core.facade import Core
from cnm.engine.answers import Json, encode
from cnm.engine.ours import PREFIX
from cnm.engine.streaming import PiecesAnswer
from cnm.errors import InvalidParameter, NotFound
from cnm.types import SandboxID

_POLL_S = 0.5  # how soon an open log notices that its reader has gone
_LONGEST_S = 86400


def routes(core: Core, stopping: threading.Event) -> APIRouter:
    """All paths of this kind. ``stopping`` ends open answers when the daemon stops."""
    router = APIRouter(prefix=f"{PREFIX}/dns", tags=["cnm"])

    @router.get("/statistics")
    def statistics() -> Response:
        """Queries and answers of all sandboxes and of each; empty while no resolver runs."""
        found = dict(core.names.statistics())
        sandboxes = found.pop("sandboxes", {})
        found["containers"] = {
            sandbox_id: {"name": _name(core, sandbox_id), **counters}
            for sandbox_id, counters in sandboxes.items()
        }
        return Json(found)

    @router.get("/log")
    async def log(container: str = "", seconds: str = "") -> Response:
        """Queries as they are answered, a line of JSON each; nothing is kept for later."""
        until = time.monotonic() + _seconds(seconds) if seconds else None
        wanted = core.sandboxes.find(container).id if container else None
        stream = await run_in_threadpool(core.names.queries, wanted)

        def produce(over: Callable[[], bool]) -> Iterator[bytes]:
            with stream:
                while not over() and (until is None or time.monotonic() < until):
                    for query in stream.get(_POLL_S):
                        name = _name(core, query["container"])
                        yield encode({**query, "container_name": name})

        return PiecesAnswer(produce, "application/x-ndjson", stopping)

    return router


def _name(core: Core, sandbox_id: str) -> str:
    """Of a container, as it is called now; of the host's own queries: ``(host)``."""
    if not sandbox_id:
        return "(host)"
    try:
        return core.sandboxes.find(SandboxID(sandbox_id)).name
    except NotFound:
        return sandbox_id[:12]


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 < found <= _LONGEST_S:
        raise InvalidParameter(f"invalid seconds: {text}: must be from 0 to {_LONGEST_S}")
    return found
