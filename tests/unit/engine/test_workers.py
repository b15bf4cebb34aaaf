"""Threads for verbs: as many as are needed, never more, and gone again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial

import pytest

from cnm.engine import workers
from cnm.engine.workers import Workers


def raised(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


def test_what_a_call_returns_and_raises() -> None:
    async def main() -> None:
        pool = Workers()
        assert await pool.run(lambda: 7) == 7
        assert await pool.run(threading.current_thread) is not threading.current_thread()
        with pytest.raises(KeyError):
            await pool.run(raised(KeyError("x")))
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.run(raised(StopIteration()))

    asyncio.run(asyncio.wait_for(main(), 10))


def test_one_after_another_share_a_thread() -> None:
    async def main() -> set[int]:
        pool = Workers()
        found = set()
        for _ in range(20):
            found.add(await pool.run(threading.get_ident))
            await asyncio.sleep(0.005)  # its thread says that it is free after its answer
        return found

    assert len(asyncio.run(main())) == 1


def test_side_by_side_all_run_at_once_up_to_the_most() -> None:
    async def main(most: int, calls: int) -> int:
        pool, running, largest = Workers(most), 0, 0
        lock = threading.Lock()
        full = threading.Event()

        def call() -> None:
            nonlocal running, largest
            with lock:
                running += 1
                largest = max(largest, running)
                if running == min(most, calls):
                    full.set()
            assert full.wait(10)
            with lock:
                running -= 1

        await asyncio.gather(*(pool.run(call) for _ in range(calls)))
        await asyncio.gather(*(pool.run(lambda: None) for _ in range(calls)))
        return largest

    assert asyncio.run(main(4, 3)) == 3
    assert asyncio.run(main(4, 25)) == 4


def test_threads_end_when_there_is_nothing_to_do_and_new_ones_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_IDLE_S", 0.05)

    async def main() -> None:
        pool = Workers()
        threads: list[threading.Thread] = []
        for _ in range(3):
            barrier = threading.Barrier(3)

            def call(barrier: threading.Barrier = barrier) -> threading.Thread:
                barrier.wait(10)
                return threading.current_thread()

            threads += await asyncio.gather(*(pool.run(call) for _ in range(3)))
            for thread in threads:
                thread.join(10)
            assert not any(thread.is_alive() for thread in threads)
        assert len(set(threads)) == 9

    asyncio.run(asyncio.wait_for(main(), 60))


def test_calls_that_come_while_threads_end_are_never_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_IDLE_S", 0.0005)

    async def main() -> None:
        pool = Workers(3)
        for number in range(400):
            got = await asyncio.gather(*(pool.run(partial(int, n)) for n in range(number % 7)))
            assert got == list(range(number % 7))
            await asyncio.sleep(0.0005 * (number % 3))

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_call_whose_caller_was_cancelled_goes_on_and_harms_nobody() -> None:
    async def main() -> None:
        pool = Workers()
        begun, go, over = threading.Event(), threading.Event(), threading.Event()

        def call() -> None:
            begun.set()
            assert go.wait(10)
            over.set()

        task = asyncio.create_task(pool.run(call))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        assert await pool.run(lambda: over.wait(10))

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("others", [0, 1])
def test_a_thread_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, others: int) -> None:
    """Then those that there are do it; and if there is none, it is told, and nothing is done."""
    done: list[str] = []

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        pool, go = Workers(), threading.Event()
        busy = [asyncio.create_task(pool.run(partial(go.wait, 10))) for _ in range(others)]
        await asyncio.sleep(0.05)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refused)
            call = asyncio.create_task(pool.run(partial(done.append, "it")))
            await asyncio.sleep(0.05)
        assert done == []
        go.set()
        await asyncio.gather(*busy)
        if others:
            await call
        else:
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await call
        await pool.run(partial(done.append, "another"))
        assert done == (["it", "another"] if others else ["another"])
        pool.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_closed_it_waits_for_verbs_that_are_under_way_but_not_for_ever() -> None:
    ended: list[str] = []

    async def main() -> None:
        pool, never = Workers(), threading.Event()
        await pool.run(lambda: None)

        def short() -> None:
            never.wait(0.1)
            ended.append("soon")

        soon = asyncio.create_task(pool.run(short))
        hangs = asyncio.create_task(pool.run(partial(never.wait, 30)))
        await asyncio.sleep(0.02)
        pool.close(0.5)
        assert ended == ["soon"]
        assert len([item for item in pool._threads if item.is_alive()]) == 1
        never.set()
        await asyncio.gather(soon, hangs)

    asyncio.run(asyncio.wait_for(main(), 30))
