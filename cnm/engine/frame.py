"""What every request has in common, at the ASGI level, where it costs microseconds.

The version prefix is taken off the path, the content type of a body is checked,
Docker's headers are put on the answer, and an error that nobody foresaw becomes one
line in the log and an answer: 400 if a value was the cause, else 500.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import MutableMapping
from typing import Any

from fastapi import HTTPException, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import cnm
from cnm.engine.answers import failure, unreadable
from cnm.engine.versions import ANNOUNCED, ApiVersion, split_path
from cnm.errors import InvalidParameter

log = logging.getLogger(__name__)

_VERSION_KEY = "cnm.version"
_RAW_BODIES = ("/images/", "/build")  # tars, not JSON
_BODY_MAX = 4 << 20  # bytes; the largest honest body is a few kilobytes of labels
_UNUSABLE = {errno.ENAMETOOLONG, errno.ELOOP}  # of paths, whoever names them
_HEADERS = [
    (b"api-version", str(ANNOUNCED).encode()),
    (b"docker-experimental", b"false"),
    (b"ostype", b"linux"),
    (b"server", f"cnm/{cnm.__version__} (linux)".encode()),
]


def asked_version(request: Request) -> ApiVersion:
    """The API version that this request's path asks for."""
    version: ApiVersion = request.scope[_VERSION_KEY]
    return version


class Frame:
    """The outermost middleware of the Engine API."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            scope[_VERSION_KEY], scope["path"] = split_path(scope["path"])
            _check_body(scope)
            if not scope["path"].startswith(_RAW_BODIES):
                receive = _counted(receive)
            await self._app(scope, receive, answer.send)
        except InvalidParameter as error:
            await failure(400, str(error))(scope, receive, answer.send)
        except Exception as error:
            _log_surprise(scope, error)
            if answer.started:
                raise
            status, message = _told(error)
            await failure(status, message)(scope, receive, answer.send)


class _Answer:
    """Puts the common headers on, and knows whether the answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await self._send(message)


def _check_body(scope: MutableMapping[str, Any]) -> None:
    """A body must be JSON and not announce too much; without one there is nothing to check."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    if length == b"0" and b"transfer-encoding" not in headers:
        return
    if scope["path"].startswith(_RAW_BODIES):
        return
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    if content_type.partition(";")[0].strip().lower() not in {"", "application/json"}:
        raise InvalidParameter(
            f"unsupported Content-Type header ({content_type}): must be 'application/json'"
        )
    if int(length) > _BODY_MAX:
        raise InvalidParameter(f"the body has {int(length)} bytes: at most {_BODY_MAX} are read")


def _counted(receive: Receive) -> Receive:
    """A body that does not announce its length (chunks) is refused once it is too long.

    As an HTTPException, the only error that FastAPI lets through when it reads a body.
    """
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > _BODY_MAX:
            raise HTTPException(400, f"the body is too long: at most {_BODY_MAX} bytes are read")
        return message

    return counted


def _told(error: Exception) -> tuple[int, str]:
    """What no check foresaw. Values that Python or the kernel cannot take are the client's."""
    if isinstance(error, ValueError | RecursionError | OverflowError):
        return 400, f"invalid value: {unreadable(error)}"
    if isinstance(error, OSError) and error.errno in _UNUSABLE:
        return 400, f"invalid value: {error.strerror}"
    return 500, f"internal error: {error}"


def _log_surprise(scope: MutableMapping[str, Any], error: Exception) -> None:
    where = f"{scope['method']} {scope['path']}"
    log.error("%s: internal error: %s: %s", where, type(error).__name__, error)
    log.debug("%s in %s", where, threading.current_thread().name, exc_info=error)
