"""Create, start, wait, kill, stop, destroy: codes, texts, and nothing left."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from kernel.container.stage import Stage, until
from patience import patient

from cnm.errors import Conflict, InvalidParameter, NotFound, StartFailed, Unavailable
from cnm.runtimeapi import (
    Bind,
    ContainerState,
    Limits,
    ProcessID,
    RuntimeEvent,
    Security,
    WaitCondition,
)

pytestmark = pytest.mark.kernel


def test_a_command_runs_and_its_code_is_told(stage: Stage) -> None:
    code, output = stage.run("/bin/sh", "-c", "echo out; echo err >&2; exit 7")
    assert (code, sorted(output.split())) == (7, ["err", "out"])


def test_host_is_the_machines_own_root_read_only_below(stage: Stage) -> None:
    probe = f"/etc/cnm-{os.getpid()}"
    code, output = stage.run("sh", "-c", f"cat /etc/os-release; echo x > {probe}", lower=("/",))
    assert code == 0
    assert output == Path("/etc/os-release").read_text()
    assert not os.path.exists(probe)


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH: unknown'),
        ("/bin/nosuch", 127, 'exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory'),
        ("/etc", 126, 'exec: "/etc": is a directory: unknown'),
        ("/etc/plain", 126, 'exec: "/etc/plain": permission denied: unknown'),
    ],
)
def test_a_command_that_cannot_run(stage: Stage, command: str, code: int, text: str) -> None:
    spec = stage.spec(command)
    stage.runtime.create(spec)
    with pytest.raises(StartFailed) as refused:
        stage.runtime.start(spec.id)
    assert refused.value.exit_code == code
    assert text in str(refused.value)
    status = stage.runtime.status(spec.id)
    assert (status.state, status.exit_code) == (ContainerState.CREATED, code)
    until("its groups are gone", lambda: not stage.runtime.processes(spec.id))


def test_a_file_of_no_format_cannot_run(stage: Stage, tmp_path: Path) -> None:
    program = tmp_path / "odd"
    program.write_bytes(b"\x00\x01\x02")
    program.chmod(0o755)
    spec = stage.spec("/odd", binds=(Bind(str(program), "/odd"),))
    stage.runtime.create(spec)
    with pytest.raises(StartFailed, match="exec format error") as refused:
        stage.runtime.start(spec.id)
    assert refused.value.exit_code == 126


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"user": "nobody-such"}, "unable to find user nobody-such: no matching entries in passwd"),
        ({"user": "0:nogroup-such"}, "unable to find group nogroup-such"),
        ({"network_namespace": "/nonexistent/ns"}, "/nonexistent/ns"),
    ],
)
def test_what_goes_wrong_on_the_way_is_said(
    stage: Stage, options: dict[str, str], text: str
) -> None:
    spec = stage.spec("true", **options)
    stage.runtime.create(spec)
    with pytest.raises(StartFailed, match=text) as refused:
        stage.runtime.start(spec.id)
    assert refused.value.exit_code == 128


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"limits": Limits(memory_bytes=1 << 20)}, "Minimum memory limit allowed is 6MB"),
        ({"limits": Limits(cpus=1000)}, "range of CPUs is from 0.01 to"),
        ({"security": Security(cap_add=("NOSUCH",))}, "CAP_NOSUCH"),
        ({"sysctls": {"kernel.panic": "1"}}, "is not allowed"),
        ({"sysctls": {"net.ipv4.ip_forward": "1"}}, "not allowed in host network namespace"),
        ({"working_directory": "here"}, "needs to be an absolute path"),
        ({"binds": (Bind("/nonexistent", "/x"),)}, "bind source path does not exist"),
        ({"binds": (Bind("/tmp", "/"),)}, "destination can't be '/'"),
    ],
)
def test_what_makes_no_sense_is_refused_at_creation(
    stage: Stage, options: dict[str, object], text: str
) -> None:
    with pytest.raises(InvalidParameter, match=text):
        stage.runtime.create(stage.spec("true", **options))


def test_it_starts_again_with_what_it_has_written(stage: Stage) -> None:
    spec = stage.start("sh", "-c", "echo . >> /count; wc -l < /count")
    assert stage.runtime.wait(spec.id) == 0
    stage.runtime.start(spec.id)
    stage.runtime.wait(spec.id)
    assert stage.output(spec).split() == ["1", "2"]


def test_states_and_conflicts(stage: Stage) -> None:
    spec = stage.spec("sleep", "1d")
    stage.runtime.create(spec)
    assert stage.runtime.status(spec.id).state is ContainerState.CREATED
    with pytest.raises(Conflict, match="is not running"):
        stage.runtime.kill(spec.id, signal.SIGTERM)
    with pytest.raises(Conflict, match="exists already"):
        stage.runtime.create(spec)
    stage.runtime.start(spec.id)
    status = stage.runtime.status(spec.id)
    assert status.state is ContainerState.RUNNING
    assert Path(f"/proc/{status.pid}/comm").read_text() == "sleep\n"
    with pytest.raises(Conflict, match="already running"):
        stage.runtime.start(spec.id)
    with pytest.raises(NotFound):
        stage.runtime.status(ProcessID("0" * 64))


def test_pid_1_gets_what_it_handles_and_sigkill(stage: Stage) -> None:
    spec = stage.start("sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done")
    until("it is up", lambda: "up" in stage.output(spec))
    stage.runtime.kill(spec.id, signal.SIGUSR1)  # not handled: pid 1 does not get it
    stage.runtime.kill(spec.id, signal.SIGTERM)
    assert stage.runtime.wait(spec.id) == 3
    spec = stage.start("sleep", "1d")
    stage.runtime.kill(spec.id, signal.SIGKILL)
    assert stage.runtime.wait(spec.id) == 137


def test_stop_waits_and_then_kills_all_of_it(stage: Stage) -> None:
    spec = stage.start("sh", "-c", "trap '' TERM; sleep 1d & sleep 1d & echo up; wait")
    until("it is up", lambda: "up" in stage.output(spec))
    inside = stage.runtime.processes(spec.id)
    assert len(inside) == 3
    status = stage.runtime.stop(spec.id, signal.SIGTERM, 0.05)
    assert (status.state, status.exit_code) == (ContainerState.EXITED, 137)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in inside)
    assert stage.runtime.stop(spec.id, signal.SIGTERM, 0.05) == status


def test_init_reaps_and_passes_signals_on(stage: Stage) -> None:
    spec = stage.start(
        "sh", "-c", "trap 'exit 5' TERM; (sleep 0.01 &); echo up; while :; do sleep 0.01; done",
        init=True,
    )  # fmt: skip
    until("it is up", lambda: "up" in stage.output(spec))
    pid = stage.runtime.status(spec.id).pid
    assert Path(f"/proc/{pid}/comm").read_text().startswith("docker-init")
    stage.runtime.kill(spec.id, signal.SIGTERM)
    assert stage.runtime.wait(spec.id) == 5


def test_several_wait_for_different_things(stage: Stage) -> None:
    spec = stage.spec("sh", "-c", "read line; exit 4", open_stdin=True)
    stage.runtime.create(spec)
    assert stage.runtime.wait(spec.id) == 0  # it does not run
    codes: dict[WaitCondition, int] = {}
    ready = threading.Semaphore(0)

    def wait(condition: WaitCondition) -> None:
        codes[condition] = stage.runtime.wait(spec.id, condition, established=ready.release)

    kinds = (WaitCondition.NEXT_EXIT, WaitCondition.REMOVED)
    threads = [threading.Thread(target=wait, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
        assert ready.acquire(timeout=patient(20))
    stage.runtime.start(spec.id)
    with pytest.raises(Unavailable):
        stage.runtime.wait(spec.id, timeout_s=0.02)
    with stage.runtime.attach(spec.id, stdin=True, stdout=False, stderr=False) as stream:
        stream.sendall(b"go\n")
        threads[0].join(20)
    assert codes == {WaitCondition.NEXT_EXIT: 4}
    stage.runtime.destroy(spec.id)
    threads[1].join(20)
    assert codes[WaitCondition.REMOVED] == 4


def test_destroy_ends_what_runs_and_is_idempotent(stage: Stage) -> None:
    spec = stage.start("sh", "-c", "sleep 1d & sleep 1d")
    pid = stage.runtime.status(spec.id).pid
    stage.runtime.destroy(spec.id)
    assert not os.path.exists(f"/proc/{pid}")
    assert stage.left() == []
    stage.runtime.destroy(spec.id)
    assert stage.runtime.containers() == []


def test_events_are_told_in_order(stage: Stage) -> None:
    events: list[RuntimeEvent] = []
    stop = stage.runtime.watch(events.append)
    spec = stage.start("sh", "-c", "exit 9")
    stage.runtime.wait(spec.id)
    stage.runtime.destroy(spec.id)
    until("three events", lambda: len(events) == 3)
    stop()
    assert [(event.kind, event.id) for event in events] == [
        ("start", spec.id),
        ("exit", spec.id),
        ("destroy", spec.id),
    ]
    assert events[1].exit_code == 9


def test_nothing_of_a_container_shows_on_the_host(stage: Stage) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    spec = stage.start("sleep", "1d")
    assert str(stage.folder) not in Path("/proc/self/mountinfo").read_text()
    pid = stage.runtime.status(spec.id).pid
    for kind in ("mnt", "pid", "uts", "ipc", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    descriptors = os.listdir(f"/proc/{pid}/fd")
    assert sorted(descriptors) == ["0", "1", "2"]
    assert len(before) > 0
