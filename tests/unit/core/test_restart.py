"""Restart policies: what is one, who starts again, and when."""

from __future__ import annotations

import pytest

from cnm.containerapi import RestartMode, RestartPolicy
from cnm.core import restart
from cnm.errors import InvalidParameter


@pytest.mark.parametrize(
    ("name", "count", "mode"),
    [
        ("", 0, RestartMode.NO),
        ("no", 0, RestartMode.NO),
        ("always", 0, RestartMode.ALWAYS),
        ("unless-stopped", 0, RestartMode.UNLESS_STOPPED),
        ("on-failure", 3, RestartMode.ON_FAILURE),
    ],
)
def test_policies(name: str, count: int, mode: RestartMode) -> None:
    assert restart.policy(name, count) == RestartPolicy(mode, count)


@pytest.mark.parametrize(
    ("name", "count"), [("sometimes", 0), ("always", 2), ("no", 1), ("on-failure", -1)]
)
def test_policies_that_are_none(name: str, count: int) -> None:
    with pytest.raises(InvalidParameter, match="invalid restart policy"):
        restart.policy(name, count)


@pytest.mark.parametrize(
    ("name", "most", "code", "restarts", "stopped", "again"),
    [
        ("no", 0, 1, 0, False, False),
        ("always", 0, 0, 99, False, True),
        ("always", 0, 0, 0, True, False),
        ("unless-stopped", 0, 0, 0, False, True),
        ("on-failure", 0, 0, 0, False, False),
        ("on-failure", 2, 1, 1, False, True),
        ("on-failure", 2, 1, 2, False, False),
    ],
)
def test_who_starts_again(
    name: str, most: int, code: int, restarts: int, stopped: bool, again: bool
) -> None:
    wanted = restart.policy(name, most)
    assert restart.should_restart(wanted, code, restarts, stopped_by_user=stopped) is again


def test_the_delay_doubles_up_to_a_minute_and_starts_anew() -> None:
    delays = [0.0]
    for _ in range(12):
        delays.append(restart.next_delay(delays[-1], 0.5))
    assert delays[1:5] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 60.0
    assert restart.next_delay(60.0, 10.0) == 0.1


@pytest.mark.parametrize(
    ("name", "stopped", "starts"),
    [("always", True, True), ("unless-stopped", True, False), ("unless-stopped", False, True)],
)
def test_who_starts_with_the_daemon(name: str, stopped: bool, starts: bool) -> None:
    wanted = restart.policy(name)
    assert restart.should_start_at_boot(wanted, 0, stopped_by_user=stopped) is starts
