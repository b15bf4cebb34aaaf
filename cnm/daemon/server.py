"""uvicorn on our sockets, with our signals."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from starlette.types import ASGIApp

from cnm.engine.hijack import HijackableProtocol

_KEEP_ALIVE_S = 75  # clients pool connections; one closed under a request in flight is an error
_FINISH_S = 5  # what a stopping daemon gives requests that are under way


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
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=HijackableProtocol,
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
        self._ready = ready
        self._reload = reload
        self._stop = stop

    def serve_on(self, sockets: Sequence[socket.socket]) -> None:
        """Blocks until the daemon is told to stop and requests have ended."""
        asyncio.run(self.serve(list(sockets)))

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
