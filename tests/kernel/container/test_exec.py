"""Further commands in a running container."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from kernel.container.stage import Stage, new_id, until

from cnm.errors import Conflict, NotFound, StartFailed
from cnm.runtimeapi import ContainerSpec, ExecSpec, ProcessSpec, Security

pytestmark = pytest.mark.kernel


@pytest.fixture
def running(stage: Stage) -> ContainerSpec:
    return stage.start("sleep", "1d", hostname="box")


def test_it_enters_every_namespace_and_group(stage: Stage, running: ContainerSpec) -> None:
    script = (
        "hostname; ls -l /proc/self/ns | sed 's/.* //' | grep -v pid_for; cat /proc/self/cgroup"
    )
    code, inside = stage.execute(running, "sh", "-c", script)
    pid = stage.runtime.status(running.id).pid
    assert code == 0
    assert b"box\n" in inside
    for kind in ("mnt", "pid", "uts", "ipc", "net", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}").encode() in inside
    assert b"memory:/\n" in inside


def test_its_code_and_streams(stage: Stage, running: ContainerSpec) -> None:
    code, data = stage.execute(running, "sh", "-c", "echo out; echo err >&2; exit 9")
    assert (code, data) == (9, b"out\nerr\n")
    assert stage.output(running) == ""


def test_who_it_is(stage: Stage, running: ContainerSpec) -> None:
    script = 'id; pwd; echo $X $HOME $PATH; grep -E "^(Cap|NoNew|Seccomp:)" /proc/self/status'
    _, data = stage.execute(
        running, "sh", "-c", script, user="web", working_directory="/tmp", environment=("X=y",)
    )
    assert (
        b"uid=1000(web) gid=1001(www) groups=1001(www),1002(extra)\n/tmp\ny /home/web /usr/local"
        in data
    )
    assert b"CapEff:\t0000000000000000" in data
    assert b"CapBnd:\t00000000a80425fb" in data
    assert b"Seccomp:\t2" in data


def test_privileged(stage: Stage, running: ContainerSpec) -> None:
    _, data = stage.execute(running, "grep", "Seccomp:", "/proc/self/status", privileged=True)
    assert b"Seccomp:\t0" in data


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH: unknown'),
        ("/etc/plain", 126, 'exec: "/etc/plain": permission denied: unknown'),
    ],
)
def test_what_cannot_run(
    stage: Stage, running: ContainerSpec, command: str, code: int, text: str
) -> None:
    exec_id = new_id()
    stage.runtime.exec_create(ExecSpec(exec_id, running.id, ProcessSpec((command,))))
    with pytest.raises(StartFailed) as refused:
        stage.runtime.exec_start(exec_id)
    assert text in str(refused.value)
    assert refused.value.exit_code == code
    assert stage.runtime.exec_status(exec_id).exit_code == code


def test_a_missing_directory(stage: Stage, running: ContainerSpec) -> None:
    exec_id = new_id()
    spec = ProcessSpec(("true",), working_directory="/nowhere")
    stage.runtime.exec_create(ExecSpec(exec_id, running.id, spec))
    with pytest.raises(StartFailed, match='chdir to cwd \\("/nowhere"\\)') as refused:
        stage.runtime.exec_start(exec_id)
    assert refused.value.exit_code == 126


def test_with_a_terminal_and_input(stage: Stage, running: ContainerSpec) -> None:
    exec_id = new_id()
    process = ProcessSpec(("sh",), tty=True, open_stdin=True, rows=20, columns=70)
    stage.runtime.exec_create(ExecSpec(exec_id, running.id, process))
    with stage.runtime.attach(exec_id, stdin=True, stdout=True, stderr=True) as stream:
        stream.settimeout(20)
        stage.runtime.exec_start(exec_id)
        stage.runtime.resize(exec_id, 21, 71)
        stream.sendall(b"stty size; tty; exit 6\n")
        data = b"".join(iter(lambda: stream.recv(65536), b""))
    assert b"21 71\r\n/dev/pts/" in data
    assert stage.runtime.wait(exec_id) == 6


def test_it_is_killed_and_inspected(stage: Stage, running: ContainerSpec) -> None:
    exec_id = new_id()
    stage.runtime.exec_create(ExecSpec(exec_id, running.id, ProcessSpec(("sleep", "1d"))))
    status = stage.runtime.exec_start(exec_id)
    assert (status.running, status.exit_code) == (True, None)
    assert status.pid in stage.runtime.processes(running.id)
    stage.runtime.kill(exec_id, signal.SIGTERM)
    assert stage.runtime.wait(exec_id) == 143
    with pytest.raises(Conflict):
        stage.runtime.kill(exec_id, signal.SIGTERM)
    with pytest.raises(Conflict, match="already been started"):
        stage.runtime.exec_start(exec_id)


def test_it_ends_with_its_container(stage: Stage, running: ContainerSpec) -> None:
    exec_id = new_id()
    stage.runtime.exec_create(ExecSpec(exec_id, running.id, ProcessSpec(("sleep", "1d"))))
    stage.runtime.exec_start(exec_id)
    codes: list[int] = []
    waiter = threading.Thread(target=lambda: codes.append(stage.runtime.wait(exec_id)))
    waiter.start()
    stage.runtime.kill(running.id, signal.SIGKILL)
    assert stage.runtime.wait(running.id) == 137
    waiter.join(20)
    assert codes == [137]
    with pytest.raises(Conflict, match="is not running"):
        stage.runtime.exec_create(ExecSpec(new_id(), running.id, ProcessSpec(("true",))))


def test_what_it_leaves_running_does_not_hold_it_up(stage: Stage, running: ContainerSpec) -> None:
    code, data = stage.execute(running, "sh", "-c", "sleep 1d & echo up")
    assert (code, data) == (0, b"up\n")
    assert len(stage.runtime.processes(running.id)) == 2


def test_it_is_held_like_its_container(stage: Stage) -> None:
    spec = stage.start("sleep", "1d", security=Security(cap_drop=("ALL",), no_new_privileges=True))
    _, data = stage.execute(spec, "sh", "-c", "grep -E 'CapBnd|NoNew' /proc/self/status")
    assert b"CapBnd:\t0000000000000000\nNoNewPrivs:\t1\n" in data


def test_unknown_ones(stage: Stage, running: ContainerSpec) -> None:
    with pytest.raises(NotFound, match="No such exec instance"):
        stage.runtime.exec_start(new_id())
    with pytest.raises(NotFound, match="No such container"):
        stage.runtime.exec_create(ExecSpec(new_id(), new_id(), ProcessSpec(("true",))))
    until("it still runs", lambda: stage.runtime.status(running.id).pid)
