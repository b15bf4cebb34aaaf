"""Timers of the loop: order, calling off, and what is kept of those that were called off."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator

import pytest

from cnm.runtime.kernel.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    failures: list[Exception] = []
    made = Loop(failures.append)
    yield made
    made.close()
    assert failures == []


def test_timers_fire_in_the_order_of_their_times_and_then_of_their_making(loop: Loop) -> None:
    fired: list[str] = []
    loop.after(0.02, lambda: fired.append("late"))
    loop.after(0.0, lambda: fired.append("first"))
    loop.after(0.0, lambda: fired.append("second"))
    loop.after(0.02, loop.stop)
    loop.run()
    assert fired == ["first", "second", "late"]


def test_what_is_called_off_never_fires_and_others_do(loop: Loop) -> None:
    fired: set[int] = set()
    order = list(range(1000))
    call_off = {number: loop.after(0.01, lambda n=number: fired.add(n)) for number in order}  # type: ignore[misc]
    random.Random(7).shuffle(order)
    for number in order[:900]:
        call_off[number]()
        call_off[number]()  # twice is fine
    loop.after(0.01, loop.stop)
    loop.run()
    assert fired == set(order[900:])
    for number in order:
        call_off[number]()  # late is fine


def test_called_off_timers_do_not_pile_up(loop: Loop) -> None:
    def churn(times: int) -> None:
        for _ in range(times):
            loop.after(1000, loop.stop)()

    churn(1000)
    tracemalloc.start()
    try:
        churn(10_000)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 50_000  # bytes; 10,000 entries would be two million


def test_a_timer_may_call_off_another_that_is_due_as_well(loop: Loop) -> None:
    fired: list[str] = []
    others: list[object] = []

    def first() -> None:
        fired.append("first")
        second()

    loop.after(0.0, first)
    second = loop.after(0.0, lambda: others.append("second"))
    loop.after(0.0, loop.stop)
    loop.run()
    assert (fired, others) == (["first"], [])


def test_a_turn_returns_though_nothing_happens(loop: Loop) -> None:
    loop.after(1000, loop.stop)
    loop.turn(0.0)
    loop.turn(0.001)
