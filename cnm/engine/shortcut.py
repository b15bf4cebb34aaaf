"""The shorter way to a verb: what FastAPI does for most of our paths, and no more.

For one request FastAPI's routers, dependencies and hand-over to a thread are 700 calls of
functions, half of what the event loop does for it. Paths whose function takes parts of the path,
texts of the query, one body and the request, and runs in a thread, are therefore served from
here: found, checked and answered as FastAPI does, by the very routes that it has. All else
goes on to it.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from fastapi import APIRouter, HTTPException, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.params import Body
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.convertors import PathConvertor, StringConvertor
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cnm.engine import answers
from cnm.engine.workers import Workers
from cnm.errors import CNMError, TeardownError

_UNREADABLE = "There was an error parsing the body"


@dataclass(frozen=True, slots=True)
class _Verb:
    """How a function is called."""

    function: Callable[..., Response]
    request: str  # the parameter's name; "": there is none
    body: str
    body_type: TypeAdapter[Any] | None
    query: Mapping[str, str]  # parameters, and what they are if the client does not say

    def __call__(self, request: Request, parts: Mapping[str, str], text: bytes) -> Response:
        """:raises RequestValidationError: the body is not what it must be.
        :raises HTTPException: it cannot even be read.
        """
        arguments: dict[str, Any] = dict(parts)
        if self.request:
            arguments[self.request] = request
        if self.query:
            given = QueryParams(request.scope["query_string"])
            arguments |= {name: given.get(name, other) for name, other in self.query.items()}
        if self.body_type is not None:
            arguments[self.body] = _body(self.body_type, text)
        return self.function(**arguments)


_Route = tuple[re.Pattern[str], frozenset[str], _Verb | None]


class Shortcut:
    """A middleware before FastAPI's own: serves what is simple, hands on the rest."""

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter], workers: Workers) -> None:
        self._app = app
        self._routes = list(_routes(routers))
        self._workers = workers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        verb, parts = self._find(scope) if scope["type"] == "http" else (None, {})
        if verb is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            text = await request.body() if verb.body_type is not None else b""
            response = await self._workers.run(partial(verb, request, parts, text))
        except (CNMError, TeardownError, HTTPException, RequestValidationError) as error:
            response = answers.to(request, error)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[_Verb | None, Mapping[str, str]]:
        """By the first route that fits, as FastAPI does."""
        method, path = scope["method"], scope["path"]
        for pattern, methods, verb in self._routes:
            if method in methods and (found := pattern.match(path)):
                return verb, found.groupdict()
        return None, {}


def _routes(routers: Iterable[APIRouter]) -> Iterator[_Route]:
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                yield route.path_regex, frozenset(route.methods or ()), _verb(route)


def _verb(route: APIRoute) -> _Verb | None:
    """Nothing if FastAPI is to serve it."""
    wanted = route.dependant
    if wanted.call is None or not _is_simple(route, wanted):
        return None
    body = wanted.body_params[0] if wanted.body_params else None
    return _Verb(
        wanted.call,
        wanted.request_param_name or "",
        body.name if body else "",
        TypeAdapter(cast(Any, body.field_info.annotation)) if body else None,
        {item.name: item.default for item in wanted.query_params},
    )


def _is_simple(route: APIRoute, wanted: Dependant) -> bool:
    def waits(function: Any) -> bool:
        return inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function)

    others = (
        *(wanted.header_params, wanted.cookie_params, wanted.dependencies),
        *(wanted.response_param_name, wanted.background_tasks_param_name),
        *(wanted.http_connection_param_name, wanted.security_scopes_param_name),
    )
    texts = [*wanted.path_params, *wanted.query_params]
    return (
        not waits(wanted.call)
        and not any(others)
        and all(item.field_info.annotation is str for item in texts)
        and all(item.alias == item.name and not item.field_info.metadata for item in texts)
        and all(isinstance(item.default, str) for item in wanted.query_params)
        and all(
            isinstance(item, StringConvertor | PathConvertor)
            for item in route.param_convertors.values()
        )
        and len(wanted.body_params) <= 1
        and all(
            type(item.field_info) is Body and item.default is None for item in wanted.body_params
        )
    )


def _body(kind: TypeAdapter[Any], text: bytes) -> Any:
    """The errors are FastAPI's own, so that they are told as those are."""
    if not text:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        fault = {"type": "json_invalid", "loc": ("body", error.pos), "ctx": {"error": error.msg}}
        raise RequestValidationError([fault]) from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, _UNREADABLE) from error
    if value is None:
        return None
    try:
        return kind.validate_python(value, from_attributes=True)  # or the texts differ
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error
