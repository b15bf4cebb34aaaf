"""uvicorn on our sockets, with our signals."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from cnm.daemon import descriptors
from cnm.daemon.sockets import BACKLOG
from cnm.engine.hijack import HijackableProtocol

_KEEP_ALIVE_S = 75  # clients pool connections; one closed under a request in flight is an error
_FINISH_S = 5  # what a stopping daemon gives requests that are under way
# asyncio accepts so many in one go, before any of them can be turned away; and when there
# are no descriptors it complains as often
_ACCEPTS_AT_ONCE = 32
_BUSY = b'{"message":"too many clients are connected to the cnm daemon: close some"}\n'
_TURNED_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_BUSY), _BUSY)
)


class _Connection(HijackableProtocol):
    """A client, unless there are too many already."""

    complaints: descriptors.Complaints

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        number = transport.get_extra_info("socket").fileno()
        if len(self.connections) > descriptors.CLIENTS_MAX or descriptors.scarce(number):
            self.complaints.tell(f"clients are turned away: {len(self.connections)} are connected")
            transport.write(_TURNED_AWAY)
            transport.close()


class Server(uvicorn.Server):
    """Serves until SIGTERM or SIGINT, where it calls ``stop`` and lets requests end.

    ``ready`` is called once it answers, ``reload`` on SIGHUP.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        ready: Callable[[], None],
        reload: Callable[[], None],
        stop: Callable[[], None],
    ) -> None:
        complaints = descriptors.Complaints()
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=type("Connection", (_Connection,), {"complaints": complaints}),
                backlog=_ACCEPTS_AT_ONCE,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_FINISH_S,
            )
        )
        self._complaints = complaints
        self._ready = ready
        self._reload = reload
        self._stop = stop

    def serve_on(self, sockets: Sequence[socket.socket]) -> None:
        """Blocks until the daemon is told to stop and requests have ended."""
        asyncio.run(self.serve(list(sockets)))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As ever, but clients may queue while few are accepted at once."""
        asyncio.get_running_loop().set_exception_handler(self._complained)
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)

    def _complained(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self._complaints.accept_failed(context):
            loop.default_exception_handler(context)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own handling would raise the signal again at the end."""
        yield

    async def main_loop(self) -> None:
        """Wait for a signal; uvicorn would wake up ten times a second."""
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._ready()
        await told.wait()
        self._stop()
