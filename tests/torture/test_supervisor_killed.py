"""SIGKILL at the Nth step of the supervisor, while it starts, stops and forgets a container.

After each the next supervisor knows a container that runs, or one that does not: no process
that nobody knows, no control group without a container, and the container can be started.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kernel.container.stage import Stage, make_root, until
from torture.stepkiller import StepKiller

from cnm.errors import CNMError
from cnm.runtimeapi import ContainerSpec, ContainerState

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

Record = Callable[[str, object], None]

SAMPLE = 2
VERBS = ("start", "stop", "destroy")
# What changes something outside of it: files, processes, answers.
STEPS = (
    "write,sendmsg,rename,mkdir,rmdir,unlink,mknodat,setxattr,clone,clone3,fork,vfork,"
    "pidfd_open,pidfd_send_signal,kill,wait4,waitid"
)


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("c"), make_root(tmp_path_factory.mktemp("root")))
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("verb", VERBS)
def test_sample(stage: Stage, verb: str, record_property: Record) -> None:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    spec = ready(stage, verb)
    with StepKiller(stage.supervisor_pid(), 0, STEPS, follow=False) as counted:
        do(stage, spec, verb)
    stage.runtime.destroy(spec.id)
    chosen = random.Random(f"{seed} {verb}").sample(range(1, counted.steps + 1), SAMPLE)
    record_property(f"SEED={seed}", f"N {chosen} of 1 to {counted.steps}")
    for when in chosen:
        kill_and_judge(stage, verb, when)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("verb", VERBS)
def test_every_step(stage: Stage, verb: str, record_property: Record) -> None:
    last = next(when for when in itertools.count(1) if not kill_and_judge(stage, verb, when))
    record_property("every N", f"from 1 to {last - 1}")


def ready(stage: Stage, verb: str) -> ContainerSpec:
    spec = stage.spec("sleep", "1d", tty=True)
    stage.runtime.create(spec)
    if verb != "start":
        stage.runtime.start(spec.id)
    return spec


def do(stage: Stage, spec: ContainerSpec, verb: str) -> None:
    match verb:
        case "start":
            stage.runtime.start(spec.id)
        case "stop":
            stage.runtime.stop(spec.id, signal.SIGKILL, 5)
        case _:
            stage.runtime.destroy(spec.id)


def kill_and_judge(stage: Stage, verb: str, when: int) -> bool:
    """Whether the supervisor was killed: the verb may take fewer steps than ``when``."""
    spec = ready(stage, verb)
    pid = stage.supervisor_pid()
    with StepKiller(pid, when, STEPS, follow=False) as tracer:
        with contextlib.suppress(CNMError, OSError, EOFError):
            do(stage, spec, verb)
    if tracer.killed:
        until("it is gone", lambda: not os.path.exists(f"/proc/{pid}"))
    judge(stage, spec)
    stage.runtime.destroy(spec.id)
    assert stage.left() == []
    return tracer.killed


def judge(stage: Stage, spec: ContainerSpec) -> None:
    """As the next supervisor has it; then it is started, if it does not run."""
    until("nothing is half-way", lambda: settled(stage, spec))
    known = {status.id: status for status in stage.runtime.containers()}
    assert {orphan.id for orphan in stage.runtime.orphans()} == set()
    status = known.get(spec.id)
    if status is None:
        assert processes(stage, spec) == []
        return
    if status.state is not ContainerState.RUNNING:
        assert processes(stage, spec) == []
        status = stage.runtime.start(spec.id)
    stage.pids.add(status.pid)
    assert processes(stage, spec) == [status.pid]
    assert Path(f"/proc/{status.pid}/comm").read_text() == "sleep\n"


def settled(stage: Stage, spec: ContainerSpec) -> bool:
    """Those who were to carry out a start have done so, or given it up with their supervisor."""
    known = [item for item in stage.runtime.containers() if item.id == spec.id]
    return not any(item.pending for item in known) and launching(stage) == []


def launching(stage: Stage) -> list[int]:
    """Processes of ours beside the supervisor and its keeper: forked to start something."""
    ours = {stage.supervisor_pid(), stage.keeper_pid()}
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if stage.exec_root.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parts[2]))
    return [pid for pid in found if pid not in ours]


def processes(stage: Stage, spec: ContainerSpec) -> list[int]:
    return list(stage.runtime.processes(spec.id))
