"""Runs against a plain set."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.ipam.runs import Runs

spans = st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda item: (item[0], sum(item)))
steps = st.lists(st.tuples(st.booleans(), spans), max_size=40)


def build(changes: list[tuple[bool, tuple[int, int]]]) -> tuple[Runs, set[int]]:
    runs, model = Runs(), set[int]()
    for adding, (first, last) in changes:
        if adding:
            runs.add(first, last)
            model |= set(range(first, last + 1))
        else:
            runs.remove(first, last)
            model -= set(range(first, last + 1))
    return runs, model


@given(steps)
def test_is_a_set(changes: list[tuple[bool, tuple[int, int]]]) -> None:
    runs, model = build(changes)
    assert list(runs) == sorted(model)
    assert runs.size == len(model)
    assert all((value in runs) == (value in model) for value in range(-1, 72))


@given(steps)
def test_runs_neither_overlap_nor_touch(changes: list[tuple[bool, tuple[int, int]]]) -> None:
    found = list(build(changes)[0].spans())
    assert all(first <= last for first, last in found)
    assert all(end + 1 < start for (_, end), (start, _) in pairwise(found))


@given(steps, spans)
def test_questions(changes: list[tuple[bool, tuple[int, int]]], span: tuple[int, int]) -> None:
    runs, model = build(changes)
    first, last = span
    inside = set(range(first, last + 1))
    assert runs.gap(first, last) == min(inside - model, default=None)
    assert runs.count(first, last) == len(inside & model)
    hit = runs.hit(first, last)
    assert (hit is None) == (not inside & model)
    if hit is not None:
        assert hit in model
        assert hit + 1 not in model
        assert not {value for value in inside & model if value > hit}


@pytest.mark.parametrize("base", [0, 10 << 24, 1 << 120], ids=["zero", "v4", "v6"])
def test_a_million_in_a_row_is_one_run(base: int) -> None:
    runs = Runs()
    for value in range(base, base + 1_000_000):
        runs.add(value, value)
    assert list(runs.spans()) == [(base, base + 999_999)]
    assert runs.size == 1_000_000


def test_a_hole_is_two_runs_and_closes_again() -> None:
    runs = Runs()
    runs.add(0, 100)
    runs.remove(50, 50)
    assert list(runs.spans()) == [(0, 49), (51, 100)]
    assert runs.gap(0, 100) == 50
    runs.add(50, 50)
    assert list(runs.spans()) == [(0, 100)]
