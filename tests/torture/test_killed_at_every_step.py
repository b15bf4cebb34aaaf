"""SIGKILL at the Nth kernel step of every verb; the next start puts everything right.

After each kill: what the API shows, the kernel, the rules and the leases agree, a second
look repairs nothing, the verb happened either wholly or not at all, and can be done
(again). Containers that had nothing to do with it reach each other all the time.

A random sample in ``make test`` (``SEED=…`` repeats it), every N in ``make torture``.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import random
from collections.abc import Callable, Iterator

import pytest
from livedaemon import run
from peers.cnmd import Cnmd
from torture import judge
from torture.stepkiller import StepKiller
from torture.verbs import VERBS, Scene, Verb

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

Record = Callable[[str, object], None]  # pytest's record_property

NOBODY = "127.0.0.1"  # whom containers ask for other names: themselves, who refuse at once
SAMPLE = 2  # kills of each verb in `make test`
TRIES = 5  # on a busy machine a step may pass before the kill arrives: that N again


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Cnmd("--dns", NOBODY) as daemon:
        yield Scene(daemon)


@pytest.mark.parametrize("name", VERBS)
def test_sample(scene: Scene, name: str, record_property: Record) -> None:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    steps = count(scene, VERBS[name])
    chosen = random.Random(f"{seed} {name}").sample(range(1, steps + 1), SAMPLE)
    record_property(f"SEED={seed}", f"N {chosen} of 1 to {steps}")
    for when in chosen:
        kill_and_judge(scene, VERBS[name], when)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", VERBS)
def test_every_step(scene: Scene, name: str, record_property: Record) -> None:
    hit: set[int | None] = set()
    for when in itertools.count(1):
        for _ in range(TRIES):
            killed_at = kill_and_judge(scene, VERBS[name], when)
            hit.add(killed_at)
            if killed_at in (when, None):
                break
        if killed_at is None:
            break
    record_property("every N", f"from 1 to {when - 1}")
    assert hit >= set(range(1, when))


def count(scene: Scene, verb: Verb) -> int:
    """How many kernel steps the verb takes, undisturbed."""
    verb.ready(scene)
    with StepKiller(scene.daemon.pid, 0) as tracer:
        verb.do(scene)
    assert verb.done(scene)
    assert_sound(scene)
    scene.reset()
    return tracer.steps


def kill_and_judge(scene: Scene, verb: Verb, when: int) -> int | None:
    """The step at which it was killed, or None: the verb takes fewer than ``when`` steps."""
    verb.ready(scene)
    killed_at = kill(scene, verb, when)
    if killed_at is not None:
        scene.daemon.wait_for_exit()
        assert_calm_reaches(scene)
        scene.daemon.start()
    assert_sound(scene)
    assert verb.done(scene) or (killed_at is not None and verb.untouched(scene))
    if not verb.done(scene):
        verb.do(scene)
        assert verb.done(scene)
        assert_sound(scene)
    scene.reset()
    assert_sound(scene)
    return killed_at


def kill(scene: Scene, verb: Verb, when: int) -> int | None:
    with StepKiller(scene.daemon.pid, when) as tracer:
        with contextlib.suppress(OSError, http.client.HTTPException):
            verb.do(scene)
    return tracer.steps if tracer.killed else None


def assert_sound(scene: Scene) -> None:
    """Store and kernel agree, by the daemon's own word and by the machine's tools."""
    assert scene.daemon.sweep() == []
    assert judge.differences(scene.daemon) == []


def assert_calm_reaches(scene: Scene) -> None:
    """Traffic does not need the daemon."""
    namespace = scene.daemon.containers["left"]
    run("ip", "netns", "exec", namespace, "ping", "-c", "1", "-W", "5", "10.78.0.3")
