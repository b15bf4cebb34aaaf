"""Threads that the event loop hands verbs to.

The pools of asyncio and anyio take 0.1 ms and more for each hand-over, of an attach that has six:
futures of two kinds, contexts, limiters. Here a call is put into a queue and its end
told to the loop.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from cnm.handoff import Handoff

T = TypeVar("T")

THREADS_MAX = 40  # as many verbs as are under way at once; more wait
_IDLE_S = 10.0  # then a thread ends


class Workers:
    """Threads that are started when all are busy, and end when there is nothing to do.

    Used from one event loop. They are daemons: a verb that hangs does not keep the process.
    """

    def __init__(self, most: int = THREADS_MAX) -> None:
        self._most = most
        self._calls: Handoff[Callable[[], None]] = Handoff()
        self._lock = threading.Lock()  # of the two numbers
        self._threads = 0
        self._free = 0  # threads that wait for a call, less those that one is queued for

    async def run(self, call: Callable[[], T]) -> T:
        """What ``call`` returns or raises, in a thread; if this is cancelled it goes on."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                result = call()
            except BaseException as error:
                _tell(loop, _fail, ended, error)
            else:
                _tell(loop, _succeed, ended, result)

        self._calls.put(work)
        self._claim_thread()
        return await ended

    def _claim_thread(self) -> None:
        with self._lock:
            self._free -= 1
            if self._free >= 0 or self._threads == self._most:
                return
            self._threads += 1
            self._free += 1
        threading.Thread(target=self._serve, name="verb", daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                work = self._calls.get(timeout=_IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._free <= 0:  # a call is queued for this thread just now
                        continue
                    self._free -= 1
                    self._threads -= 1
                return
            work()
            del work  # what it holds is not kept while nothing is to do
            with self._lock:
                self._free += 1


def _tell(loop: asyncio.AbstractEventLoop, how: Callable[..., None], *what: object) -> None:
    try:
        loop.call_soon_threadsafe(how, *what)
    except RuntimeError:  # the loop has ended meanwhile: nobody waits
        return


def _succeed(ended: asyncio.Future[T], result: T) -> None:
    if not ended.done():  # cancelled
        ended.set_result(result)


def _fail(ended: asyncio.Future[T], error: BaseException) -> None:
    if isinstance(error, StopIteration):  # a future takes any error but this
        error = RuntimeError("StopIteration was raised")
    if not ended.done():
        ended.set_exception(error)
