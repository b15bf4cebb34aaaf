"""The plugin directory: a socket for each of our drivers, served by a thread of its own.

An engine that finds a file believes that somebody answers: so a socket is made under a
hidden name, and gets its own once it is served. Files of a killed daemon are replaced.
A thread and an event loop apart from the Engine API's, so that a busy client there
does not keep an engine waiting here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import uvicorn

from cnm.daemon import sockets
from cnm.errors import Unavailable
from cnm.plugin.app import DEADLINE_S, PluginApp
from cnm.plugin.served import Service

log = logging.getLogger(__name__)

_MODE = 0o600  # whoever may speak here can make networks
_BACKLOG = 128
_KEEP_ALIVE_S = 75  # engines keep connections
_FINISH_S = 5  # what a stopping daemon gives calls that are under way
_WORKERS = 16  # calls at once; most of each is waiting for the kernel
_START_S = 10.0


def paths(folder: Path, services: Sequence[Service]) -> list[str]:
    """Where the sockets are."""
    return [str(folder / f"{service.name}.sock") for service in services]


@contextlib.contextmanager
def served(
    folder: Path, services: Sequence[Service], deadline_s: float = DEADLINE_S
) -> Iterator[None]:
    """Serve while the block runs; ``deadline_s``: what a call may take.

    :raises Unavailable: somebody answers there already (says who).
    :raises OSError: a socket cannot be made.
    """
    sockets.refuse_served(paths(folder, services))
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        workers = stack.enter_context(
            ThreadPoolExecutor(_WORKERS, thread_name_prefix="engine's call")
        )
        bound = [(service, stack.enter_context(_bound(folder, service))) for service in services]
        stack.enter_context(_running([_server(*item, workers, deadline_s) for item in bound]))
        for service, _ in bound:
            stack.enter_context(_shown(folder, service))
        log.info("plugins in %s: %s", folder, ", ".join(service.name for service in services))
        yield


def _hidden(folder: Path, service: Service) -> Path:
    return folder / f".{service.name}.new"


@contextlib.contextmanager
def _bound(folder: Path, service: Service) -> Iterator[socket.socket]:
    path = _hidden(folder, service)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o777 & ~_MODE)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _shown(folder: Path, service: Service) -> Iterator[None]:
    path = folder / f"{service.name}.sock"
    hidden = _hidden(folder, service)
    inode = hidden.stat().st_ino
    hidden.rename(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path.lstat().st_ino == inode:  # not the file of whoever came after us
                path.unlink()


class _Server(uvicorn.Server):
    """Serves one socket until it is told to end."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self.listener = listener
        self.end = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the main thread's."""
        yield

    async def main_loop(self) -> None:
        """uvicorn would wake up ten times a second."""
        await self.end.wait()


def _server(
    service: Service, listener: socket.socket, workers: Executor, deadline_s: float
) -> _Server:
    config = uvicorn.Config(
        PluginApp(service, workers, deadline_s),
        loop="asyncio",
        http="h11",
        backlog=_BACKLOG,
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
    return _Server(config, listener)


@contextlib.contextmanager
def _running(servers: Sequence[_Server]) -> Iterator[None]:
    """All of them on one loop, in a thread. :raises Unavailable: they do not start."""
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def serve() -> None:
        work = [asyncio.create_task(server.serve([server.listener])) for server in servers]
        while not all(server.started for server in servers):
            await asyncio.sleep(0)
            if any(task.done() for task in work):
                break
        started.set()
        await asyncio.gather(*work)

    thread = threading.Thread(
        target=loop.run_until_complete, args=(serve(),), name="plugins", daemon=True
    )
    thread.start()
    try:
        if not started.wait(_START_S) or not all(server.started for server in servers):
            raise Unavailable("the plugin sockets cannot be served")
        yield
    finally:
        for server in servers:
            loop.call_soon_threadsafe(server.end.set)
        thread.join(_FINISH_S + 1)
        if not thread.is_alive():
            loop.close()
