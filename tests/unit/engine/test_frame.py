"""What every request has in common: headers, versions, content types, surprises."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cnm.engine.frame import Frame


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    version = ".".join(map(str, scope["cnm.version"]))
    await Response(f"{version} {scope['path']}")(scope, receive, send)


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("never foreseen")


async def reading(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive)
    try:
        size = len(await request.body())
    except HTTPException as error:
        await Response(error.detail, error.status_code)(scope, receive, send)
        return
    await Response(str(size))(scope, receive, send)


def ask(
    path: str,
    headers: dict[str, str] | None = None,
    app: ASGIApp = echo,
    chunks: Sequence[bytes] = (b"",),
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request."""
    sent: list[Any] = []
    raw = [(key.lower().encode(), value.encode()) for key, value in (headers or {}).items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": raw}

    coming = list(chunks)

    async def receive() -> Message:
        return {"type": "http.request", "body": coming.pop(0), "more_body": bool(coming)}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Frame(app)(scope, receive, send))
    answered = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return sent[0]["status"], answered, sent[1]["body"]


def test_the_prefix_is_taken_off_and_headers_are_put_on() -> None:
    status, headers, body = ask("/v1.44/networks")
    assert (status, body) == (200, b"1.44 /networks")
    assert headers["api-version"] == "1.51"
    assert headers["ostype"] == "linux"
    assert headers["docker-experimental"] == "false"
    assert headers["server"].endswith(" (linux)")


def test_a_version_that_is_not_served() -> None:
    status, headers, body = ask("/v1.99/networks")
    assert status == 400
    assert "too new" in json.loads(body)["message"]
    assert headers["api-version"] == "1.51"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "text/plain", "Content-Length": "0"},
        {"Content-Type": "application/json", "Content-Length": "2"},
        {"Content-Type": "Application/JSON; charset=utf-8", "Content-Length": "2"},
        {"Content-Length": "2"},
    ],
)
def test_bodies_that_may_be(headers: dict[str, str]) -> None:
    assert ask("/networks/create", headers)[0] == 200


@pytest.mark.parametrize("length", [{"Content-Length": "2"}, {"Transfer-Encoding": "chunked"}])
def test_a_body_that_is_not_json(length: dict[str, str]) -> None:
    status, _, body = ask("/networks/create", {"Content-Type": "text/plain", **length})
    assert status == 400
    assert json.loads(body)["message"] == (
        "unsupported Content-Type header (text/plain): must be 'application/json'"
    )


def test_a_body_that_nobody_needs() -> None:
    status, _, body = ask("/networks/create", {"Content-Length": "5000000"})
    assert status == 400
    assert json.loads(body)["message"] == "the body has 5000000 bytes: at most 4194304 are read"


_CHUNKS = [b" " * (1 << 20)] * 5


def test_chunks_that_nobody_needs() -> None:
    status, _, body = ask(
        "/networks/create", {"Transfer-Encoding": "chunked"}, reading, [*_CHUNKS, b"never read"]
    )
    assert (status, body) == (400, b"the body is too long: at most 4194304 bytes are read")


def test_an_image_may_be_long() -> None:
    status, _, body = ask("/images/load", {"Transfer-Encoding": "chunked"}, reading, _CHUNKS)
    assert (status, body) == (200, b"5242880")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("embedded null byte"), "embedded null byte"),
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deeply"),
        (OverflowError("too\nlarge"), "too large"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000), "File name too long"),
    ],
    ids=["value", "recursion", "overflow", "path"],
)
def test_a_value_that_no_check_foresaw(error: Exception, message: str) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    status, _, body = ask("/x", app=failing)
    assert (status, json.loads(body)) == (400, {"message": f"invalid value: {message}"})


def test_a_surprise_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        status, _, body = ask("/x", app=broken)
    assert (status, json.loads(body)) == (500, {"message": "internal error: never foreseen"})
    assert caplog.messages == ["POST /x: internal error: RuntimeError: never foreseen"]
