"""``kill -9`` in the middle of up and down: down still leaves nothing, and up still goes on.

strace counts the steps of netlab itself and kills it at the Nth: requests to the kernel and
to others, files, mounts. ``make torture`` goes through every N, ``make test`` takes a sample
(the seed is printed; ``SEED=…`` repeats it). The processes that help netlab are killed with it
at moments of time instead.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.remains import remains

LAB = """\
hosts:
  one:
    links: [{{to: sw1, addresses: 10.0.0.1/24}}, {{to: two, addresses: 10.0.1.1/24}}]
    processes: {{waits: sleep {mark}}}
  two:
    links: [{{to: sw1, addresses: 10.0.0.2/24}}]
switches: {{sw1: }}
"""
WITH_DAEMON = """\
hosts:
  one:
    cnm:
    networks: {{localnet: }}
    containers: {{c: {{image: host, command: sleep {mark}, networks: [localnet], count: 3}}}}
"""
_STEPS = "sendto,sendmsg,mount,umount2,mkdir,rmdir,unlink,unlinkat,rename,pidfd_send_signal"
_SAMPLE = 5
_MAX_STEPS = 500  # of netlab itself, on such a small lab; more would be a loop
_WITHIN_S = 50

Netlab = Callable[..., "subprocess.CompletedProcess[str]"]


class Target:
    """A lab file of a name and command line of its own, and netlab on it."""

    def __init__(self, folder: Path, text: str) -> None:
        self.mark = f"9{secrets.randbelow(10**6):06}.5"
        self.name = f"killed-{secrets.token_hex(4)}"
        self.file = folder / f"{self.name}.yaml"
        self.file.write_text(text.format(mark=self.mark))

    def netlab(self, *words: str, prefix: tuple[str, ...] = ()) -> int:
        command = [*prefix, sys.executable, "-m", "cnm.netlab", *words]
        return subprocess.run(command, timeout=_WITHIN_S, capture_output=True).returncode

    def up(self, *prefix: str) -> int:
        return self.netlab("up", "-q", str(self.file), prefix=prefix)

    def down(self, *prefix: str) -> int:
        return self.netlab("down", "-q", self.name, prefix=prefix)

    def assert_gone(self) -> None:
        assert self.down() in (0, 1)  # 1: nothing had been made
        assert remains(self.name, self.mark) == []

    def assert_whole(self) -> None:
        assert self.up() == 0
        done = subprocess.run(
            [sys.executable, "-m", "cnm.netlab", "exec", self.name, "one", "--"]
            + ["pgrep", "-f", "-c", f"^sleep {self.mark}"],
            capture_output=True,
            text=True,
            timeout=_WITHIN_S,
        )
        assert int(done.stdout) == self.file.read_text().count("count: 3") * 2 + 1


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    made = Target(tmp_path, LAB)
    yield made
    made.down()


@pytest.fixture
def target_with_daemon(tmp_path: Path) -> Iterator[Target]:
    made = Target(tmp_path, WITH_DAEMON)
    yield made
    made.down()


def killed_at(step: int) -> tuple[str, ...]:
    return (
        *("strace", "-qqq", "-o", "/dev/null", "-e", f"trace={_STEPS}"),
        *("-e", f"inject={_STEPS}:signal=SIGKILL:when={step}"),
    )


def kill_up_at(target: Target, step: int) -> bool:
    """Whether up had so many steps; it was killed at this one then."""
    status = target.up(*killed_at(step))
    if status == 0:
        return False
    assert status == -signal.SIGKILL
    if step % 2:  # half of them go on, the others only go
        target.assert_whole()
    target.assert_gone()
    return True


def kill_down_at(target: Target, step: int) -> bool:
    """Whether down had so many steps; it was killed at this one then."""
    assert target.up() == 0
    status = target.down(*killed_at(step))
    assert status in (0, -signal.SIGKILL)
    if status and step % 2:
        target.assert_whole()
    target.assert_gone()
    return bool(status)


def last_step(attempt: Callable[[Target, int], bool], target: Target) -> int:
    """The number of steps, by halving: the attempts on the way are tests as well."""
    low, high = 1, 2
    while attempt(target, high):
        low, high = high, high * 2
        assert high < _MAX_STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if attempt(target, middle) else (low, middle)
    return low


@pytest.mark.timeout(300)
@pytest.mark.parametrize("attempt", [kill_up_at, kill_down_at])
def test_killed_at_some_steps(
    target: Target, attempt: Callable[[Target, int], bool], record_property: Callable[..., None]
) -> None:
    seed = int(os.environ.get("SEED", secrets.randbits(32)))
    steps = last_step(attempt, target)
    record_property("SEED", f"{seed}, {steps} steps")
    for step in random.Random(seed).sample(range(1, steps), min(_SAMPLE, steps - 1)):
        # threads share the steps: how many there are in all differs a little from run to run
        assert attempt(target, step) or step > steps // 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("attempt", [kill_up_at, kill_down_at])
def test_killed_at_every_step(
    target: Target, attempt: Callable[[Target, int], bool], record_property: Callable[..., None]
) -> None:
    step = 1
    while attempt(target, step):
        step += 1
        assert step < _MAX_STEPS
    assert step > 10
    record_property("steps", step - 1)


@pytest.mark.timeout(300)
def test_all_of_netlab_is_killed_while_hosts_daemons_and_containers_come_up(
    target_with_daemon: Target,
) -> None:
    target = target_with_daemon
    begun = time.monotonic()
    assert target.up() == 0
    took_s = time.monotonic() - begun
    target.assert_gone()
    command = [sys.executable, "-m", "cnm.netlab", "up", "-q", str(target.file)]
    for part in (0.2, 0.4, 0.6, 0.9):
        with subprocess.Popen(command, start_new_session=True) as up:
            try:
                up.wait(took_s * part)
            except subprocess.TimeoutExpired:
                os.killpg(up.pid, signal.SIGKILL)
        if part == 0.6:
            target.assert_whole()
        target.assert_gone()
