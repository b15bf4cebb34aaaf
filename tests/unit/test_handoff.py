"""A queue that wakes one thread for each item, the one that waited least."""

from __future__ import annotations

import threading
import time
from collections import Counter
from queue import Empty

import pytest

from cnm.handoff import Handoff


def waiting(handoff: Handoff[int], got: list[tuple[str, int]], name: str) -> threading.Thread:
    """A thread that takes one, when it waits already."""

    def take() -> None:
        got.append((name, handoff.get()))

    thread = threading.Thread(target=take)
    before = len(handoff._seats)
    thread.start()
    while len(handoff._seats) == before:
        time.sleep(0.001)
    return thread


def test_in_order_when_nobody_waits() -> None:
    handoff: Handoff[int] = Handoff()
    for number in range(3):
        handoff.put(number)
    assert [handoff.get(), handoff.get_nowait(), handoff.get(0.1)] == [0, 1, 2]
    with pytest.raises(Empty):
        handoff.get_nowait()
    with pytest.raises(Empty):
        handoff.get(0.001)


def test_whoever_waited_least_is_next_and_the_others_sleep() -> None:
    handoff: Handoff[int] = Handoff()
    got: list[tuple[str, int]] = []
    threads = [waiting(handoff, got, name) for name in ("first", "second", "third")]
    for number, thread in enumerate(reversed(threads)):
        handoff.put(number)
        thread.join(10)
    assert got == [("third", 0), ("second", 1), ("first", 2)]


def test_what_comes_as_a_wait_ends_is_neither_lost_nor_given_twice() -> None:
    handoff: Handoff[int] = Handoff()
    total, got, lock, over = 4000, Counter[int](), threading.Lock(), threading.Event()

    def take() -> None:
        while not over.is_set():
            try:
                number = handoff.get(0.0002)
            except Empty:
                continue
            with lock:
                got[number] += 1

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(total):
        handoff.put(number)
        if number % 7 == 0:
            time.sleep(0.0002)
    deadline = time.monotonic() + 30
    while sum(got.values()) < total and time.monotonic() < deadline:
        time.sleep(0.005)
    over.set()
    for thread in threads:
        thread.join(10)
    assert got == Counter(range(total))
    assert handoff._seats == []
