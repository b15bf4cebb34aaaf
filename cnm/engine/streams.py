"""``/containers``: attach, wait, logs, resize."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from cnm.containerapi import ContainerRecord
from cnm.core.facade import Core
from cnm.engine import times
from cnm.engine.exec import detach_keys, media_type, size
from cnm.engine.filters import truth
from cnm.engine.frame import asked_version
from cnm.engine.hijack import Hijack
from cnm.engine.streaming import LogAnswer, LogShape, WaitAnswer
from cnm.errors import InvalidParameter
from cnm.runtime.container import logs as container_logs
from cnm.runtime.container.logs import LogEntry, LogQuery
from cnm.runtimeapi import WaitCondition

_NO_STREAM = "Bad parameters: you must choose at least one stream"


def routes(core: Core, stopping: threading.Event) -> APIRouter:
    """All paths of this kind. ``stopping`` ends open answers when the daemon stops."""
    router = APIRouter(tags=["containers"])
    containers = core.containers

    @router.post("/containers/{reference}/attach")
    async def attach(
        request: Request,
        reference: str,
        stdin: str = "",
        stdout: str = "",
        stderr: str = "",
        stream: str = "",
        logs: str = "",
        detachKeys: str = "",
    ) -> Response:
        """Attach to a container: the connection becomes its terminal or streams."""
        keys = detach_keys(detachKeys)
        record = containers.find(reference)
        shape = LogShape(truth(stdout), truth(stderr), framed=not record.definition.command.tty)
        past = await run_in_threadpool(_past, core, record, shape) if truth(logs) else b""
        record, link = await run_in_threadpool(
            lambda: containers.attach(
                record.id,
                stdin=truth(stdin) and truth(stream),
                stdout=truth(stdout) and truth(stream),
                stderr=truth(stderr) and truth(stream),
            )
        )
        tty = record.definition.command.tty
        return Hijack(
            link,
            media_type(tty, asked_version(request)),
            prefix=past,
            escape=keys if tty and truth(stdin) else None,
            detached=lambda: containers.detached(record),
        )

    @router.post("/containers/{reference}/wait")
    async def wait(reference: str, condition: str = "") -> Response:
        """Wait for a container's end; the head of the answer comes at once."""
        wanted = _condition(condition)
        return WaitAnswer(lambda ended: containers.wait(reference, wanted, ended), stopping)

    @router.get("/containers/{reference}/logs")
    def logs(
        request: Request,
        reference: str,
        stdout: str = "",
        stderr: str = "",
        follow: str = "",
        since: str = "",
        until: str = "",
        timestamps: str = "",
        tail: str = "",
    ) -> Response:
        """Read a container's output."""
        if not (truth(stdout) or truth(stderr)):
            raise InvalidParameter(_NO_STREAM)
        record = containers.find(reference)
        now = time.time_ns()
        query = LogQuery(
            int(tail) if tail.isdigit() else None,
            times.parse(since, now) if since not in ("", "0") else 0,
            times.parse(until, now) if until not in ("", "0") else 0,
        )
        path, tty = containers.log_path(record), record.definition.command.tty

        def entries(over: Callable[[], bool]) -> Iterator[LogEntry]:
            if not truth(follow):
                return container_logs.read(path, query)
            return container_logs.follow(
                path, query, lambda: over() or not containers.alive(record.id)
            )

        shape = LogShape(truth(stdout), truth(stderr), not tty, truth(timestamps))
        return LogAnswer(entries, shape, media_type(tty, asked_version(request)), stopping)

    @router.post("/containers/{reference}/resize")
    def resize(reference: str, h: str = "", w: str = "") -> Response:
        """Set its terminal's size."""
        containers.resize(reference, *size(h, w))
        return Response()

    return router


def _past(core: Core, record: ContainerRecord, shape: LogShape) -> bytes:
    entries = container_logs.read(core.containers.log_path(record), LogQuery())
    return b"".join(map(shape.piece, entries))


def _condition(text: str) -> WaitCondition:
    try:
        return WaitCondition(text or WaitCondition.NOT_RUNNING)
    except ValueError:
        raise InvalidParameter(f'invalid condition: "{text}"') from None
