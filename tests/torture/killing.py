"""Kills a daemon at a kernel step of a verb, starts it again, and judges what it finds.

After each kill: a second look repairs nothing, the scene is sound by its own judge, the verb
happened either wholly or not at all, and can be done (again). Containers that had nothing to do
with it reach each other all the time.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import random
from collections.abc import Callable

from torture.stepkiller import StepKiller
from torture.verbs import Scene, Verb

Record = Callable[[str, object], None]  # pytest's record_property

NOBODY = "127.0.0.1"  # whom containers ask for other names: themselves, who refuse at once
TRIES = 5  # on a busy machine a step may pass before the kill arrives: that N again


def chosen_seed() -> int:
    """``SEED=…`` repeats a sample."""
    return int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))


def sample(scene: Scene, verb: Verb, size: int, seed: int, label: str, record: Record) -> None:
    """Kills at some steps of a verb; which, is by seed and label."""
    steps = count(scene, verb)
    chosen = random.Random(f"{seed} {label}").sample(range(1, steps + 1), size)
    record(f"SEED={seed} {label}", f"N {chosen} of 1 to {steps}")
    for when in chosen:
        kill_and_judge(scene, verb, when)


def every_step(scene: Scene, verb: Verb, record: Record) -> None:
    """Kills at each step, until the verb gets through."""
    hit: set[int | None] = set()
    for when in itertools.count(1):
        for _ in range(TRIES):
            killed_at = kill_and_judge(scene, verb, when)
            hit.add(killed_at)
            if killed_at in (when, None):
                break
        if killed_at is None:
            break
    record("every N", f"from 1 to {when - 1}")
    assert hit >= set(range(1, when))


def count(scene: Scene, verb: Verb) -> int:
    """How many kernel steps the verb takes, undisturbed."""
    verb.ready(scene)
    with StepKiller(scene.daemon.pid, 0) as tracer:
        verb.do(scene)
    assert verb.done(scene)
    scene.assert_sound()
    scene.reset()
    return tracer.steps


def kill_and_judge(scene: Scene, verb: Verb, when: int) -> int | None:
    """The step at which it was killed, or None: the verb takes fewer than ``when`` steps."""
    verb.ready(scene)
    killed_at = kill(scene, verb, when)
    if killed_at is not None:
        scene.daemon.wait_for_exit()
        scene.assert_others_go_on()
        scene.daemon.start()
    scene.assert_sound()
    assert verb.done(scene) or (killed_at is not None and verb.untouched(scene))
    if (verb.repeated and killed_at is not None) or not verb.done(scene):
        verb.do(scene)
        assert verb.done(scene)
        scene.assert_sound()
    scene.reset()
    scene.assert_sound()
    return killed_at


def kill(scene: Scene, verb: Verb, when: int) -> int | None:
    """Do the verb under the tracer; the step at which the daemon was killed, or None."""
    with StepKiller(scene.daemon.pid, when) as tracer:
        with contextlib.suppress(OSError, http.client.HTTPException):
            verb.do(scene)
    return tracer.steps if tracer.killed else None
