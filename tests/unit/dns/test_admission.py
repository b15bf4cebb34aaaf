"""How many may be under way: of one, in all, in turn; and nothing is lost in the line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cnm.dns.admission import Admission, Limits


class Gate:
    """An admission, and what it has started."""

    def __init__(self, of_one: int, in_all: int) -> None:
        self.started: list[str] = []
        limits = Limits(under_way_of_sandbox=of_one, under_way=in_all)
        self.admission: Admission[str] = Admission(limits, self.started.append)

    def enter(self, *items: str) -> None:
        """An item's first letter is its sandbox."""
        for item in items:
            self.admission.enter(item[0], item)

    def leave(self, *items: str) -> None:
        for item in items:
            self.admission.leave(item[0], item)


def test_one_sandbox_may_not_take_all() -> None:
    gate = Gate(2, 10)
    gate.enter("a1", "a2", "a3", "b1")
    assert gate.started == ["a1", "a2", "b1"]
    gate.leave("a2")
    assert gate.started == ["a1", "a2", "b1", "a3"]


def test_room_goes_to_the_sandboxes_in_turn() -> None:
    gate = Gate(10, 1)
    gate.enter("a1", "a2", "a3", "b1", "b2", "c1")
    for _ in range(5):
        gate.leave(gate.started[-1])
    assert gate.started == ["a1", "a2", "b1", "c1", "a3", "b2"]


def test_who_waits_may_leave() -> None:
    gate = Gate(1, 1)
    gate.enter("a1", "a2", "b1")
    gate.leave("a2")
    gate.leave("a1")
    gate.leave("b1")
    assert gate.started == ["a1", "b1"]
    assert (gate.admission.under_way, gate.admission.waiting) == (0, 0)


def test_what_ends_as_soon_as_it_starts_does_not_pile_up() -> None:
    """A thousand in line that all fail at once: no recursion, in order."""
    started: list[int] = []

    def start(number: int) -> None:
        started.append(number)
        if number:
            admission.leave("a", number)

    admission: Admission[int] = Admission(Limits(under_way_of_sandbox=1), start)
    for number in range(5000):
        admission.enter("a", number)
    assert started == [0]
    admission.leave("a", 0)
    assert started == list(range(5000))


@given(
    st.integers(1, 3),
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60),
)
def test_whatever_happens_the_limits_hold_and_no_room_is_wasted(
    of_one: int, in_all: int, steps: list[tuple[str, bool]]
) -> None:
    gate = Gate(of_one, in_all)
    present: list[str] = []
    for number, (sandbox, enters) in enumerate(steps):
        mine = [item for item in present if item[0] == sandbox]
        if enters or not mine:
            item = f"{sandbox}{number}"
            present.append(item)
            gate.enter(item)
        else:
            item = mine[number % len(mine)]
            present.remove(item)
            gate.leave(item)
        running = [item for item in gate.started if item in present]
        each = {sandbox: sum(item[0] == sandbox for item in running) for sandbox in "abc"}
        assert len(running) == gate.admission.under_way <= in_all
        assert max(each.values()) <= of_one
        waiting = {item[0] for item in present if item not in gate.started}
        assert len(running) == in_all or all(each[sandbox] == of_one for sandbox in waiting)
        for sandbox in "abc":
            order = [item for item in gate.started if item[0] == sandbox]
            assert order == sorted(order, key=lambda item: int(item[1:]))
