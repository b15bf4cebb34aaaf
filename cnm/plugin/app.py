"""HTTP around a plugin's calls. Bare ASGI: eight kinds of requests need no framework.

An engine waits for an answer without any limit of its own, and a user's command with it: so
whatever happens it gets one, within :data:`DEADLINE_S`. Errors have both keys that the two
protocols know, with a status that says error too: an engine that looks at one of the three
only sees it. 404 is for calls that there are not: engines take it for "needs not be".
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from concurrent.futures import Executor, Future
from typing import Any

from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from cnm.engine.wire import Wire
from cnm.errors import CNMError, InvalidParameter, NotImplementedByDriver, TeardownError
from cnm.plugin.served import Method, Service
from cnm.plugin.values import Document
from cnm.plugin.wire import CONTENT_TYPE, Empty, fault

log = logging.getLogger(__name__)

DEADLINE_S = 25.0  # the slowest honest call takes half a second on a busy host
_BODY_MAX = 1 << 20  # bytes; a port map of all ports has half of it


class PluginApp:
    """One plugin as an ASGI application; calls run on ``workers``."""

    def __init__(self, service: Service, workers: Executor, deadline_s: float = DEADLINE_S) -> None:
        self._service = service
        self._workers = workers
        self._deadline_s = deadline_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, document = await self._answer(scope, receive)
        body = json.dumps(document).encode() + b"\n"
        headers = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, Document]:
        name = scope["path"].removeprefix("/")
        where = f"{self._service.name}: {ascii(name[:80])[1:-1]}"
        try:
            text = await _body(receive)
            if scope["method"] != "POST":
                return 404, _error(f"{scope['method']} is not a call of this plugin")
            if name in self._service.facts:
                return 200, self._service.facts[name]
            method = self._service.methods.get(name)
            if method is None:
                return 404, _error(f"{where}: there is no such call")
            log.debug("%s %s", where, text)
            return 200, await self._call(method, _read(method.body, text))
        except NotImplementedByDriver as error:
            log.info("%s: %s", where, error)
            return 404, _error(str(error))
        except InvalidParameter as error:
            return 400, _error(str(error))
        except (CNMError, TeardownError) as error:
            log.warning("%s: %s", where, error)
            return 500, _error(str(error))
        except Exception as error:  # an engine that gets no answer waits for ever
            log.error("%s: internal error: %s: %s", where, type(error).__name__, error)
            log.debug("%s", where, exc_info=error)
            return 500, _error(f"internal error: {error}")

    async def _call(self, method: Method, body: Wire) -> Document:
        work = self._workers.submit(method.call, body)
        waiting = asyncio.wrap_future(work)
        done, _ = await asyncio.wait({waiting}, timeout=self._deadline_s)
        if done:
            return waiting.result()
        begun = not work.cancel()  # one that waited for a free worker never begins
        waiting.cancel()
        if begun:
            work.add_done_callback(functools.partial(self._came_late, method, body))
        raise CNMError(f"it is not done after {self._deadline_s:g} seconds, and given up")

    def _came_late(self, method: Method, body: Wire, work: Future[Document]) -> None:
        """The engine believes that it failed, and so it has to be."""
        if work.exception() is not None or method.inverse is None:
            return
        log.warning("%s: a call ended too late and is undone", self._service.name)
        try:
            method.inverse(body, work.result())
        except (CNMError, TeardownError) as error:
            log.error("%s: a late call cannot be undone: %s", self._service.name, error)


async def _body(receive: Receive) -> bytes:
    """:raises InvalidParameter: it is too long, or was cut off."""
    parts, length, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidParameter("the body was cut off")
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if length > _BODY_MAX:
            raise InvalidParameter(f"the body is too long: at most {_BODY_MAX} bytes are read")
        more = message.get("more_body", False)
    return b"".join(parts)


def _read(kind: type[Wire], text: bytes) -> Wire:
    """:raises InvalidParameter: it is no JSON object, or not of this kind (the field is named)."""
    if not text.strip() and kind is not Empty:
        # dockerd's repeats of a call that was cut off have lost what it was about
        raise InvalidParameter("the request has no body (a call that was cut off?): try it again")
    try:
        document: Any = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InvalidParameter(f"invalid JSON: {reason}") from None
    if not isinstance(document, dict):
        raise InvalidParameter("invalid JSON: must be an object")
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise InvalidParameter(fault(error)) from None


def _error(text: str) -> Document:
    line = " ".join(text.split())
    return {"Err": line, "Error": line}
