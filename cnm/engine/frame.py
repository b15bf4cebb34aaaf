"""What every request has in common, at the ASGI level, where it costs microseconds.

The version prefix is taken off the path, the content type of a body is checked,
Docker's headers are put on the answer, and an error that nobody foresaw becomes a
500 with one line in the log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import MutableMapping
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import cnm
from cnm.engine.answers import failure
from cnm.engine.versions import ANNOUNCED, ApiVersion, split_path
from cnm.errors import InvalidParameter

log = logging.getLogger(__name__)

_VERSION_KEY = "cnm.version"
_RAW_BODIES = ("/images/", "/build")  # tars, not JSON
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
            _check_content_type(scope)
            await self._app(scope, receive, answer.send)
        except InvalidParameter as error:
            await failure(400, str(error))(scope, receive, answer.send)
        except Exception as error:
            _log_surprise(scope, error)
            if answer.started:
                raise
            await failure(500, f"internal error: {error}")(scope, receive, answer.send)


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


def _check_content_type(scope: MutableMapping[str, Any]) -> None:
    """A body must be JSON; without a body or without the header there is nothing to check."""
    content_type, has_body = "", False
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value.decode("latin-1")
        elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            has_body = True
    kind = content_type.partition(";")[0].strip().lower()
    if has_body and kind not in {"", "application/json"}:
        if not scope["path"].startswith(_RAW_BODIES):
            raise InvalidParameter(
                f"unsupported Content-Type header ({content_type}): must be 'application/json'"
            )


def _log_surprise(scope: MutableMapping[str, Any], error: Exception) -> None:
    where = f"{scope['method']} {scope['path']}"
    log.error("%s: internal error: %s: %s", where, type(error).__name__, error)
    log.debug("%s in %s", where, threading.current_thread().name, exc_info=error)
