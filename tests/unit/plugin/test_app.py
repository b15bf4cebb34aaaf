"""A plugin of ours answers in time, whatever its driver does: real sockets, slow calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from peers.engine import Engine, Said

from cnm.daemon import plugindir
from cnm.engine.wire import Wire
from cnm.errors import KernelError
from cnm.plugin.served import Method, Service
from cnm.plugin.values import Document
from cnm.plugin.wire import Empty

DEADLINE_S = 0.3
CALLS_AT_ONCE = 16  # what the daemon has workers for
GIVEN_UP = "it is not done after 0.3 seconds, and given up"
PATIENCE_S = 30.0


class Slow:
    """A plugin whose call ends when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.end = threading.Event()
        self.undone = threading.Event()
        self.begun = 0
        self._mutex = threading.Lock()

    def service(self) -> Service:
        methods = {
            "T.Slow": Method(Empty, self.slow, self.undo),
            "T.Fails": Method(Empty, self.fails, self.undo),
            "T.Quick": Method(Empty, lambda _body: {}),
        }
        return Service("slow", {"Plugin.Activate": {"Implements": ["T"]}}, methods)

    def slow(self, _body: Wire) -> Document:
        with self._mutex:
            self.begun += 1
        assert self.end.wait(PATIENCE_S)
        return {"Done": True}

    def fails(self, _body: Wire) -> Document:
        assert self.end.wait(PATIENCE_S)
        raise KernelError(1, "no")

    def undo(self, _body: Wire, answer: Document) -> None:
        assert answer == {"Done": True}
        self.undone.set()

    def say(self, method: str) -> Said:
        """On a connection of its own."""
        engine = Engine(self.folder / "slow.sock", "T")
        try:
            return engine.say(method, {})
        finally:
            engine.close()


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    one = Slow(tmp_path)
    with plugindir.served(tmp_path, [one.service()], DEADLINE_S):
        yield one
        one.end.set()


def test_a_call_that_takes_too_long_is_an_error_in_time_and_undone_when_it_ends(slow: Slow) -> None:
    said = slow.say("T.Slow")
    assert (said.status, said.document) == (500, {"Err": GIVEN_UP, "Error": GIVEN_UP})
    assert not slow.undone.is_set()
    slow.end.set()
    assert slow.undone.wait(PATIENCE_S)


def test_one_that_fails_late_needs_no_undoing(slow: Slow) -> None:
    assert slow.say("T.Fails").document["Err"] == GIVEN_UP
    slow.end.set()
    assert slow.say("T.Quick").status == 200
    assert not slow.undone.is_set()


def test_with_every_worker_stuck_all_are_answered_and_what_waited_never_begins(slow: Slow) -> None:
    more = 4
    with ThreadPoolExecutor(CALLS_AT_ONCE + more) as engines:
        calls = [engines.submit(slow.say, "T.Slow") for _ in range(CALLS_AT_ONCE + more)]
        activated = slow.say("Plugin.Activate")  # engines give a plugin up that does not
        answers = {call.result(PATIENCE_S).document["Err"] for call in calls}
    assert activated == (200, {"Implements": ["T"]})
    assert answers == {GIVEN_UP}
    slow.end.set()
    assert slow.say("T.Quick").status == 200
    assert slow.begun == CALLS_AT_ONCE
