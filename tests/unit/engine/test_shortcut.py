"""The shorter way answers what FastAPI answers, to good and to bad requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request
from pydantic import Field
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cnm.engine import answers
from cnm.engine.answers import Json
from cnm.engine.shortcut import Shortcut
from cnm.engine.wire import Wire
from cnm.engine.workers import Workers
from cnm.errors import Conflict, TeardownError

Answer = tuple[int, dict[bytes, bytes], bytes]
ANYTHING = {"type": "http", "http_version": "1.1", "scheme": "http", "root_path": "", "state": {}}


class Inner(Wire):
    text: str = Field(default="", alias="Text")


class Body(Wire):
    number: int = Field(default=0, alias="Number")
    inner: Inner = Field(default=Inner(), alias="Inner")
    many: list[Inner] = Field(default=[], alias="Many")


def routes() -> APIRouter:
    """Of each kind that we have: simple, and what is FastAPI's."""
    router = APIRouter(prefix="/things")

    @router.post("/create", status_code=201)
    def create(request: Request, body: Body | None = None, name: str = "none") -> Response:
        shown = None if body is None else [body.number, body.inner.text, len(body.many)]
        return Json([request.method, shown, name, here()], 201)

    @router.post("/{reference:path}/refuse")
    def refuse(reference: str) -> Response:
        raise Conflict(f"{reference} is in use")

    @router.post("/half")
    def half() -> Response:
        raise TeardownError("remove", [OSError("one"), OSError("two")])

    @router.post("/teapot")
    def teapot() -> Response:
        raise HTTPException(418, "short and stout")

    @router.delete("/{reference:path}", status_code=204)
    def delete(reference: str) -> Response:
        return Response(status_code=204, headers={"x-reference": reference.encode().hex()})

    @router.get("/{reference}")
    def inspect(reference: str, count: int = 1) -> Response:
        return Json([reference, count, here()])

    @router.put("/{reference}")
    async def put(reference: str, request: Request) -> Response:
        return Json([reference, len(await request.body())])

    return router


def here() -> bool:
    """Whether it is the event loop's own thread."""
    return threading.current_thread() is threading.main_thread()


def app_of(router: APIRouter, *, short: bool) -> FastAPI:
    app = FastAPI(strict_content_type=False, redirect_slashes=False)
    answers.install(app)
    if short:
        app.add_middleware(Shortcut, routers=[router], workers=Workers())
    app.include_router(router)
    return app


def ask(app: ASGIApp, line: str, chunks: Sequence[bytes] = (b"",)) -> Answer:
    """What is answered to ``METHOD /path?query`` with a body in chunks."""
    method, _, target = line.partition(" ")
    path, _, query = target.partition("?")
    scope = {
        **ANYTHING,
        **{"method": method, "path": path, "raw_path": path.encode()},
        **{"query_string": query.encode(), "headers": [(b"content-type", b"application/json")]},
    }
    coming, sent = list(chunks), []

    async def receive() -> Message:
        return {"type": "http.request", "body": coming.pop(0), "more_body": bool(coming)}

    async def send(message: Message) -> None:
        sent.append(message)

    async def serve() -> None:
        await app(scope, receive, send)

    asyncio.run(serve())
    start: Any = sent[0]
    return start["status"], dict(start["headers"]), b"".join(m.get("body", b"") for m in sent[1:])


BODIES = (
    *(b"", b"null", b"{}", b'{"Number": 3}', b'{"number": 3, "INNER": {"text": "x"}, "other": 1}'),
    *(b'{"Number": "3"}', b'{"Number": 3.5}', b'{"Inner": []}', b'{"Inner": {"Text": 1}}'),
    *(b'{"Many": [{}, {"Text": true}]}', b'{"Number": null, "Inner": null}', b"[]", b"1", b'"x"'),
    *(b"{", b'{"Number": }', b"{} {}", b"\xff\xfe", b'{"Number": \xff}', b"[" * 100_000, b"NaN"),
    b'{"Number": 1' + b"0" * 5000 + b"}",
)
LINES = (
    *("POST /things/create", "POST /things/create?name=a&name=b", "POST /things/create?name="),
    *("POST /things/create?name=a%20b%2Fc+d&other=1", "POST /things/a/b/refuse"),
    *("POST /things/half", "POST /things/teapot", "DELETE /things/a/b c", "DELETE /things/"),
    *("GET /things/create", "GET /things/x?count=7", "GET /things/x?count=seven", "PUT /things/x"),
    *("PATCH /things/create", "POST /things", "POST /things/x/", "GET /nothing", "POST /things/é"),
    "DELETE /things/a\nb",
)


@pytest.fixture(scope="module")
def both() -> tuple[FastAPI, FastAPI]:
    return app_of(routes(), short=False), app_of(routes(), short=True)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:40]))
def test_a_body_is_read_as_fastapi_reads_it(both: tuple[FastAPI, FastAPI], body: bytes) -> None:
    long, short = (ask(app, "POST /things/create", [body]) for app in both)
    assert short == long
    assert short[0] in (201, 400)


@pytest.mark.parametrize("line", LINES)
def test_a_path_leads_where_fastapi_leads(both: tuple[FastAPI, FastAPI], line: str) -> None:
    long, short = (ask(app, line) for app in both)
    assert short == long


def test_a_body_in_chunks(both: tuple[FastAPI, FastAPI]) -> None:
    long, short = (ask(app, "POST /things/create", [b'{"Num', b'ber": ', b"4}"]) for app in both)
    assert short == long
    assert b"[4," in short[2]


def test_what_is_simple_is_not_handed_on_and_the_rest_is() -> None:
    async def fastapi(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("handed on")(scope, receive, send)

    short = Shortcut(fastapi, [routes()], Workers())
    for line in ("POST /things/create", "POST /things/a/refuse", "DELETE /things/a/b"):
        assert ask(short, line)[2] != b"handed on"
    for line in ("GET /things/x", "PUT /things/x", "PATCH /things/create", "GET /nothing"):
        assert ask(short, line)[2] == b"handed on"


def test_an_error_that_nobody_foresaw_is_passed_on_for_the_frame_to_tell() -> None:
    router = APIRouter()

    @router.post("/broken")
    def broken() -> Response:
        raise RuntimeError("never foreseen")

    short = Shortcut(FastAPI(), [router], Workers())
    with pytest.raises(RuntimeError, match="never foreseen"):
        ask(short, "POST /broken")


def test_a_body_that_nobody_wants_is_not_read(both: tuple[FastAPI, FastAPI]) -> None:
    """Else a client could fill the memory with it, or be waited for."""

    async def receive() -> Message:
        raise AssertionError("it is read")

    async def send(message: Message) -> None:
        answered.append(message)

    for app in both:
        answered: list[Message] = []
        scope = {**ANYTHING, "method": "DELETE", "path": "/things/a", "raw_path": b"/things/a"}
        asyncio.run(serve(app, {**scope, "query_string": b"", "headers": []}, receive, send))
        assert answered[0]["status"] == 204


async def serve(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def test_a_client_that_left_before_its_body_had_come_starts_nothing() -> None:
    called: list[str] = []
    router = APIRouter()

    @router.post("/begin")
    def begin(body: Body | None = None) -> Response:
        called.append("begin")
        return Response()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError("nobody is there")

    scope = {**ANYTHING, "method": "POST", "path": "/begin", "query_string": b"", "headers": []}
    short = Shortcut(FastAPI(), [router], Workers())
    try:
        asyncio.run(short(scope, receive, send))
    except ClientDisconnect:
        pytest.fail("it is an ordinary thing to happen")
    assert called == []
