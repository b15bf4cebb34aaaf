"""``/exec``: further commands in running containers."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from cnm import detachkeys
from cnm.containerapi import Command
from cnm.core.execs import Exec, ExecRequest
from cnm.core.facade import Core
from cnm.detachkeys import DetachKeys
from cnm.engine.answers import Json
from cnm.engine.createbody import ExecBody, ExecStartBody
from cnm.engine.definition import environment
from cnm.engine.frame import asked_version
from cnm.engine.hijack import FRAMED, RAW, Hijack
from cnm.engine.streaming import STDOUT, frame
from cnm.engine.versions import ApiVersion
from cnm.errors import InvalidParameter

_MEDIA_TYPES = ApiVersion(1, 42)


def routes(core: Core) -> APIRouter:
    """All paths of this resource."""
    router = APIRouter(tags=["exec"])

    @router.post("/containers/{reference}/exec", status_code=201)
    def create_exec(reference: str, body: ExecBody | None = None) -> Response:
        """Prepare a command in a running container."""
        made = core.execs.create(reference, _request(body or ExecBody()))
        return Json({"Id": made.id}, 201)

    @router.post("/exec/{exec_id}/start")
    async def start_exec(
        request: Request, exec_id: str, body: ExecStartBody | None = None
    ) -> Response:
        """Start it; unless detached, the connection becomes its terminal or streams."""
        body = body or ExecStartBody()
        rows, columns = (*body.console_size, 0, 0)[:2]
        item = core.execs.find(exec_id)
        if body.detach:
            await run_in_threadpool(core.execs.start, item.id, rows, columns)
            return Response()
        stream = await run_in_threadpool(core.execs.attach, item.id)
        tty = item.request.command.tty
        escape = detach_keys(item.request.detach_keys) if tty else None

        def begin() -> bytes:
            try:
                core.execs.start(item.id, rows, columns)
            except Exception as error:  # the head is out: there is no status to tell it with
                text = f"{error}\r\n".encode()
                return text if tty else frame(STDOUT, text)
            return b""

        return Hijack(stream, media_type(tty, asked_version(request)), escape=escape, begin=begin)

    @router.post("/exec/{exec_id}/resize")
    def resize_exec(exec_id: str, h: str = "", w: str = "") -> Response:
        """Set its terminal's size."""
        core.execs.resize(exec_id, *size(h, w))
        return Response()

    @router.get("/exec/{exec_id}/json")
    def inspect_exec(exec_id: str) -> Response:
        """Inspect a command: whether it runs, and its exit code."""
        return Json(_document(*core.execs.status(exec_id)))

    return router


def media_type(tty: bool, version: ApiVersion) -> str:
    """Content type of a stream; below 1.42 there was one for both."""
    return FRAMED if not tty and version >= _MEDIA_TYPES else RAW


def size(height: str, width: str) -> tuple[int, int]:
    """:raises InvalidParameter: no numbers."""
    try:
        rows, columns = int(height), int(width)
        if not (0 <= rows < 65536 and 0 <= columns < 65536):
            raise ValueError
    except ValueError:
        raise InvalidParameter(f'invalid size "{height}x{width}": must be two numbers') from None
    return rows, columns


def detach_keys(text: str) -> DetachKeys:
    """:raises InvalidParameter: with Docker's text."""
    try:
        return DetachKeys(detachkeys.parse(text))
    except ValueError as error:
        raise InvalidParameter(f"Invalid escape keys ({text}): {error}") from None


def _request(body: ExecBody) -> ExecRequest:
    detach_keys(body.detach_keys)
    if body.working_dir and not body.working_dir.startswith("/"):
        raise InvalidParameter(f"Cwd must be an absolute path: {body.working_dir}")
    return ExecRequest(
        Command(
            arguments=tuple(body.cmd or ()),
            environment=tuple(environment(body.env)),
            working_directory=body.working_dir,
            user=body.user,
            tty=body.tty,
            open_stdin=body.attach_stdin,
            stdin_once=True,
        ),
        body.privileged,
        body.attach_stdin,
        body.attach_stdout,
        body.attach_stderr,
        body.detach_keys,
    )


def _document(item: Exec, pid: int, running: bool) -> dict[str, object]:
    request, words = item.request, item.request.command.arguments or ("",)
    return {
        "ID": item.id,
        "Running": running,
        "ExitCode": item.exit_code,
        "ProcessConfig": {
            "tty": request.command.tty,
            "entrypoint": words[0],
            "arguments": list(words[1:]),
            "privileged": request.privileged,
            "user": request.command.user,
        },
        "OpenStdin": request.attach_stdin,
        "OpenStderr": request.attach_stderr,
        "OpenStdout": request.attach_stdout,
        "CanRemove": not running and item.exit_code is not None,
        "ContainerID": item.container_id,
        "DetachKeys": request.detach_keys,
        "Pid": pid,
    }
