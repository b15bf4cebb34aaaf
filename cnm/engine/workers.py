"""Threads that the event loop hands verbs to.

The pools of asyncio and anyio take 0.1 ms and more for each hand-over, of an attach that has six:
futures of two kinds, contexts, limiters. Here a call is put into a queue and its end
told to the loop.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from cnm.handoff import Handoff

T = TypeVar("T")

THREADS_MAX = 40  # as many verbs as are under way at once; more wait
CLOSES_WITHIN_S = 10.0
_IDLE_S = 10.0  # then a thread ends


class Workers:
    """Threads that are started when all are busy, and end when there is nothing to do.

    Used from one event loop. A verb that hangs does not keep the process: they are daemons.
    """

    def __init__(self, most: int = THREADS_MAX) -> None:
        self._most = most
        self._calls: Handoff[Callable[[], None] | None] = Handoff()  # None: the end of a thread
        self._lock = threading.Lock()  # keeps a thread's end and a new call apart
        self._threads: set[threading.Thread] = set()

    async def run(self, call: Callable[[], T]) -> T:
        """What ``call`` returns or raises, in a thread; if this is cancelled it goes on.

        :raises RuntimeError: no thread can be had, not even one; nothing was called.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                result = call()
            except BaseException as error:
                _tell(loop, _fail, ended, error)
            else:
                _tell(loop, _succeed, ended, result)

        self._hand_over(work)
        return await ended

    def close(self, patience_s: float = CLOSES_WITHIN_S) -> None:
        """End the threads; verbs that are under way are waited for, so long in all.

        A verb that fails now still undoes what it did, with all that it needs for it.
        """
        with self._lock:
            threads = list(self._threads)
        for _ in threads:
            self._calls.put(None)
        deadline = time.monotonic() + patience_s
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _hand_over(self, work: Callable[[], None]) -> None:
        with self._lock:
            if self._calls.put(work) or len(self._threads) == self._most:
                return
            thread = threading.Thread(target=self._serve, name="verb", daemon=True)
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                self._threads.discard(thread)
                if self._threads:
                    return  # one of those that there are will have it
                self._calls.get_nowait()
            raise

    def _serve(self) -> None:
        while True:
            try:
                work = self._calls.get(timeout=_IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._calls.qsize():
                        continue
                    self._threads.discard(threading.current_thread())
                return
            if work is None:
                return
            work()
            del work  # what it holds is not kept while nothing is to do


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
