"""SIGKILL at the Nth kernel step of our daemon while a real dockerd runs and removes a container.

dockerd repeats a call that was cut off: one that had not begun as it was, one that we had read
without its body (20.10, and as its code is the newer ones). So a command is slow, or fails in
words that say so and is done again. What dockerd could not tell us is reclaimed, and is in nobody's
way until then. In ``make torture``: a sample (``SEED=…`` repeats it), and every N.
"""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import time
from collections.abc import Iterator

import pytest
from patience import patient
from peers.pair import HOST, Pair, plugged
from torture.killing import Record, chosen_seed
from torture.stepkiller import StepKiller

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.timeout(patient(300)),
    pytest.mark.xdist_group("dockerd"),
]

SAMPLE = 2  # kills of each command
RUN = ("run", "-d", "--name", "victim", "--network", "blue", "-p", "5005:80")
COMMANDS = {"run": (*RUN, "busybox", "sleep", "1d"), "rm": ("rm", "-f", "victim")}


@pytest.fixture
def pair() -> Iterator[Pair]:
    with plugged() as made:
        made.network("blue")
        made.sleeper("calm", "blue")
        yield made
        made.clear()
        made.nothing_left()


@pytest.mark.parametrize("name", COMMANDS)
def test_sample(pair: Pair, name: str, record_property: Record) -> None:
    make_ready(pair, name)
    with StepKiller(pair.ours.pid, 0) as tracer:
        pair.run(*COMMANDS[name])
    assert_done(pair, name)
    seed = chosen_seed()
    chosen = random.Random(f"{seed} {name}").sample(range(1, tracer.steps + 1), SAMPLE)
    record_property(f"SEED={seed} {name}", f"N {chosen} of 1 to {tracer.steps}")
    for when in chosen:
        killed(pair, name, when)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_step(pair: Pair, name: str, record_property: Record) -> None:
    for when in itertools.count(1):
        if not killed(pair, name, when):
            break
    record_property("every N", f"from 1 to {when - 1}")
    assert when > 1


def make_ready(pair: Pair, name: str) -> None:
    pair.run("rm", "-f", "victim", check=False)
    if name == "rm":
        pair.run(*COMMANDS["run"])


def killed(pair: Pair, name: str, when: int) -> bool:
    """Whether it came to that."""
    make_ready(pair, name)
    with StepKiller(pair.ours.pid, when) as tracer:
        command = subprocess.Popen(
            ["docker", "-H", f"unix://{pair.docker.socket}", *COMMANDS[name]],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        while command.poll() is None and not tracer.killed:
            time.sleep(0.02)
    if tracer.killed:
        pair.ours.wait_for_exit()
        assert pair.pings("calm", HOST)
        pair.ours.start()
    _, said = command.communicate(timeout=patient(90))
    if command.returncode:
        assert tracer.killed
        # the latter: killed between an answer's head and its body
        assert "the request has no body" in said or "unexpected EOF" in said
        make_ready(pair, name)
        pair.run(*COMMANDS[name])
    assert_done(pair, name)
    return tracer.killed


def assert_done(pair: Pair, name: str) -> None:
    pair.sweep()  # what no container has is seen
    pair.sweep()  # and removed
    assert pair.sweep() == []
    endpoints = [json.loads(document) for _, document in pair.rows("guest_endpoints")]
    # others were never joined, or left: they go after a minute (unit/core/test_guests.py)
    assert sum(item.get("joined", False) for item in endpoints) == {"run": 2, "rm": 1}[name]
    if name == "run":
        assert pair.pings("victim", pair.address("calm", "blue"))
        assert pair.pings("calm", "victim")
