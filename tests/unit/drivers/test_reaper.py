"""Group commit of link deletions, with a kernel that is a list."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from cnm.drivers.bridge.reaper import Reaper
from cnm.errors import KernelError

TIMEOUT_S = 20


class Kernel:
    """Remembers what it was asked to delete; the first call waits until it is let go."""

    def __init__(self, refused: int = -1) -> None:
        self.calls: list[list[int]] = []
        self.entered = threading.Event()
        self.let_go = threading.Event()
        self._refused = refused

    def delete_links(self, indexes: Sequence[int]) -> None:
        self.calls.append(list(indexes))
        if len(self.calls) == 1:
            self.entered.set()
            assert self.let_go.wait(TIMEOUT_S)
        if self._refused in indexes:
            raise KernelError(errno.EPERM, "link delete")


def queued(reaper: Reaper) -> int:
    return len(reaper._waiting.indexes)


def wait_for_queue(reaper: Reaper, length: int) -> None:
    poll = threading.Event()
    for _ in range(TIMEOUT_S * 1000):
        if queued(reaper) == length:
            return
        poll.wait(0.001)
    raise AssertionError(f"{queued(reaper)} of {length} callers are waiting")


def test_one_goes_alone() -> None:
    kernel = Kernel()
    kernel.let_go.set()
    Reaper(kernel.delete_links).delete(7)
    assert kernel.calls == [[7]]


def test_those_who_come_meanwhile_go_together() -> None:
    kernel = Kernel()
    reaper = Reaper(kernel.delete_links)
    with ThreadPoolExecutor(31) as pool:
        first = pool.submit(reaper.delete, 0)
        assert kernel.entered.wait(TIMEOUT_S)
        others = [pool.submit(reaper.delete, index) for index in range(1, 31)]
        wait_for_queue(reaper, 30)
        kernel.let_go.set()
        for future in (first, *others):
            future.result(TIMEOUT_S)
    assert [sorted(call) for call in kernel.calls] == [[0], list(range(1, 31))]


def test_only_the_refused_one_fails() -> None:
    kernel = Kernel(refused=2)
    reaper = Reaper(kernel.delete_links)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(reaper.delete, 0)
        assert kernel.entered.wait(TIMEOUT_S)
        others = {index: pool.submit(reaper.delete, index) for index in (1, 2, 3)}
        wait_for_queue(reaper, 3)
        kernel.let_go.set()
        first.result(TIMEOUT_S)
        others[1].result(TIMEOUT_S)
        others[3].result(TIMEOUT_S)
        with pytest.raises(KernelError, match="Operation not permitted"):
            others[2].result(TIMEOUT_S)
    assert sorted(kernel.calls[1]) == [1, 2, 3]
    assert sorted(kernel.calls[2:]) == [[1], [2], [3]]


def test_it_works_on_after_a_refusal() -> None:
    kernel = Kernel(refused=2)
    kernel.let_go.set()
    reaper = Reaper(kernel.delete_links)
    with pytest.raises(KernelError):
        reaper.delete(2)
    reaper.delete(3)
    assert kernel.calls == [[2], [3]]
