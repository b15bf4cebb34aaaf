"""Deletions by threads of the reaper's own, with a kernel that is a list."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from cnm.drivers.reaper import Reaper
from cnm.errors import KernelError

TIMEOUT_S = 20


class Kernel:
    """Remembers what it was asked to delete; ``held`` calls wait until they are let go."""

    def __init__(self, held: int = 0, refusal: BaseException | None = None) -> None:
        self.calls: list[list[int]] = []
        self.all_held = threading.Event()
        self.let_go = threading.Event()
        self._held = held
        self._refusal = refusal
        self._lock = threading.Lock()

    def delete_links(self, links: Sequence[int]) -> None:
        with self._lock:
            self.calls.append(list(links))
            number = len(self.calls)
        if number <= self._held:
            if number == self._held:
                self.all_held.set()
            assert self.let_go.wait(TIMEOUT_S)
        if self._refusal is not None and 2 in links:
            raise self._refusal

    def close(self) -> None: ...


class Words:
    """A watch that says what the test says."""

    def __init__(self) -> None:
        self.awaited: dict[int, Callable[[], None]] = {}

    @contextmanager
    def watching(self, index: int, gone: Callable[[], None]) -> Iterator[None]:
        self.awaited[index] = gone
        yield
        del self.awaited[index]

    def close(self) -> None: ...


def wait_until(condition: Callable[[], bool], what: str) -> None:
    poll = threading.Event()
    for _ in range(TIMEOUT_S * 1000):
        if condition():
            return
        poll.wait(0.001)
    raise AssertionError(what)


@pytest.fixture
def words() -> Words:
    return Words()


def test_without_a_word_the_answer_counts(words: Words) -> None:
    kernel = Kernel()
    reaper = Reaper([kernel], words)
    reaper.delete(7)
    assert kernel.calls == [[7]]
    assert words.awaited == {}
    reaper.close()
    reaper.close()


def test_the_caller_goes_on_when_the_link_is_gone(words: Words) -> None:
    kernel = Kernel(held=1)
    reaper = Reaper([kernel], words)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(reaper.delete, 7)
        assert kernel.all_held.wait(TIMEOUT_S)
        assert not call.done()
        words.awaited[7]()
        call.result(TIMEOUT_S)
    assert not kernel.let_go.is_set()
    kernel.let_go.set()
    reaper.close()


def test_others_do_not_wait_while_a_deleter_is_idle(words: Words) -> None:
    kernel = Kernel(held=1)
    reaper = Reaper([kernel, kernel], words)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reaper.delete, 1)
        assert kernel.all_held.wait(TIMEOUT_S)
        reaper.delete(5)
        assert not first.done()
        kernel.let_go.set()
    assert kernel.calls == [[1], [5]]
    reaper.close()


def test_those_who_come_while_all_are_busy_go_together(words: Words) -> None:
    kernel = Kernel(held=2)
    reaper = Reaper([kernel, kernel], words)
    with ThreadPoolExecutor(32) as pool:
        calls = []
        for index in (100, 101):  # not together: each is to have a deleter
            calls.append(pool.submit(reaper.delete, index))
            wait_until(lambda: len(kernel.calls) == len(calls), "it is being deleted")
        calls += [pool.submit(reaper.delete, index) for index in range(30)]
        wait_until(lambda: reaper._waiting.qsize() == 30, "thirty wait")
        kernel.let_go.set()
        for call in calls:
            call.result(TIMEOUT_S)
    reaper.close()
    assert sorted(kernel.calls[:2]) == [[100], [101]]
    assert sorted(index for call in kernel.calls[2:] for index in call) == list(range(30))
    assert len(kernel.calls[2:]) <= 2  # either of the two deleters may have taken some


def test_only_the_refused_one_fails(words: Words) -> None:
    kernel = Kernel(held=1, refusal=KernelError(errno.EPERM, "link delete"))
    reaper = Reaper([kernel], words)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(reaper.delete, 0)
        assert kernel.all_held.wait(TIMEOUT_S)
        others = {index: pool.submit(reaper.delete, index) for index in (1, 2, 3)}
        wait_until(lambda: reaper._waiting.qsize() == 3, "three wait")
        kernel.let_go.set()
        first.result(TIMEOUT_S)
        others[1].result(TIMEOUT_S)
        others[3].result(TIMEOUT_S)
        with pytest.raises(KernelError, match="Operation not permitted"):
            others[2].result(TIMEOUT_S)
    reaper.close()
    assert sorted(kernel.calls[1]) == [1, 2, 3]
    assert sorted(kernel.calls[2:]) == [[1], [2], [3]]


@pytest.mark.parametrize(
    "refusal", [KernelError(errno.EPERM, "link delete"), MemoryError("of no kernel's")], ids=repr
)
def test_it_works_on_after_a_refusal(words: Words, refusal: BaseException) -> None:
    kernel = Kernel(refusal=refusal)
    reaper = Reaper([kernel], words)
    with pytest.raises(type(refusal)):
        reaper.delete(2)
    reaper.delete(3)
    reaper.close()
    assert kernel.calls == [[2], [3]]


class Closing(Kernel):
    """Another namespace's, which is closed when the deletion is over."""

    def __init__(self, held: int = 0, refusal: BaseException | None = None) -> None:
        super().__init__(held, refusal)
        self.closed = False

    def close(self) -> None:
        self.closed = True


def test_elsewhere_the_caller_goes_on_as_well(words: Words) -> None:
    own, other, there = Kernel(), Closing(held=1), Words()
    reaper = Reaper([own], words)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(reaper.delete_elsewhere, 7, other, there)
        assert other.all_held.wait(TIMEOUT_S)
        there.awaited[7]()
        call.result(TIMEOUT_S)
    assert not other.closed
    other.let_go.set()
    reaper.close()  # waits for what is under way
    assert other.closed
    assert (own.calls, other.calls) == ([], [[7]])


def test_elsewhere_a_refusal_is_the_callers(words: Words) -> None:
    reaper = Reaper([Kernel()], words)
    other = Closing(refusal=KernelError(errno.EPERM, "link delete"))
    with pytest.raises(KernelError, match="Operation not permitted"):
        reaper.delete_elsewhere(2, other, Words())
    reaper.close()
    assert other.closed
