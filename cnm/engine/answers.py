"""What answers look like: JSON bodies, errors, and which error becomes which status."""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cnm.errors import CNMError, TeardownError

log = logging.getLogger(__name__)

PAGE_NOT_FOUND = "page not found"
NOT_YET = "not supported yet"


class Json(Response):
    """A JSON body. The documents are plain, so FastAPI's encoder (0.3 ms) is not needed."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encode(content)


def encode(document: Any) -> bytes:
    """Compact JSON and a line end, as Docker's."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"


def failure(status: int, message: str) -> Json:
    """An error's answer."""
    return Json({"message": message}, status)


def unreadable(error: Exception) -> str:
    """What is wrong with a text that could not be read, in one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())


def install(app: FastAPI) -> None:
    """Make the app answer its errors in Docker's shape."""
    for kind in (CNMError, TeardownError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, to)


def to(request: Request, error: Exception) -> Response:
    """The answer to one of the errors that are foreseen."""
    if isinstance(error, RequestValidationError):
        return _bad_body(error)
    if isinstance(error, HTTPException):
        return _unknown_path(error)
    return _refused(request, error)


def _refused(request: Request, error: Exception) -> Response:
    status = error.http_status if isinstance(error, CNMError | TeardownError) else 500
    level = logging.ERROR if status == 500 else logging.DEBUG
    where = f"{request.method} {request.scope['path']}"
    log.log(level, "%s: %s %s", where, status, error, exc_info=error if status == 500 else None)
    return failure(status, str(error))


def _unknown_path(error: HTTPException) -> Response:
    """Docker answers 404 to a method that a path does not have, too."""
    if error.status_code in {404, 405}:
        return failure(404, PAGE_NOT_FOUND)
    if isinstance(error.__cause__, ValueError | RecursionError):  # raised where the body is read
        return failure(400, f"invalid JSON: {unreadable(error.__cause__)}")
    return failure(error.status_code, error.detail)


def _bad_body(error: RequestValidationError) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    if first["type"] == "json_invalid":
        reason = str(first["ctx"]["error"])
        if reason == "Extra data":
            return failure(400, "unexpected content after JSON")
        return failure(400, f"invalid JSON: {reason[:1].lower()}{reason[1:]}")
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return failure(400, f"invalid JSON: {where}: {reason}" if where else f"invalid JSON: {reason}")
