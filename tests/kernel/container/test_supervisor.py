"""The supervisor is killed, replaced, told to end; containers and what they say live on."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pytest
from kernel.container.stage import Stage, groups_of, until

from cnm.errors import Conflict, Unavailable
from cnm.runtime.container.client import RuntimeClient
from cnm.runtimeapi import ContainerState, OrphanContainer, ProcessID, RuntimeEvent

pytestmark = pytest.mark.kernel


def kill_supervisor(stage: Stage) -> None:
    pid = stage.supervisor_pid()
    os.kill(pid, signal.SIGKILL)
    until("it is gone", lambda: not os.path.exists(f"/proc/{pid}"))


def kernel_tells_exit_codes() -> bool:
    release = os.uname().release.split(".")
    return (int(release[0]), int(release[1])) >= (6, 15)


def test_another_daemon_finds_everything(stage: Stage) -> None:
    spec = stage.start("sh", "-c", "echo up; sleep 1d")
    other = RuntimeClient(stage.exec_root)
    assert other.status(spec.id) == stage.runtime.status(spec.id)
    assert stage.supervisor_pid() == stage.supervisor_pid()


def test_containers_live_on_without_it_and_are_taken_over(stage: Stage) -> None:
    script = "n=0; while [ ! -e /stop ]; do n=$((n+1)); echo $n; sleep 0.01; done; exit 5"
    spec = stage.start("sh", "-c", script)
    until("it counts", lambda: "\n5\n" in stage.output(spec))
    before = stage.runtime.status(spec.id)
    kill_supervisor(stage)
    assert os.path.exists(f"/proc/{before.pid}")
    assert stage.runtime.status(spec.id) == before
    count = len(stage.output(spec).split())
    until("it counts on", lambda: len(stage.output(spec).split()) > count + 3)
    numbers = stage.output(spec).split()
    assert numbers == [str(n + 1) for n in range(len(numbers))]  # not a line was lost
    assert stage.execute(spec, "touch", "/stop") == (0, b"")
    known = kernel_tells_exit_codes()
    assert stage.runtime.wait(spec.id) == (5 if known else 137)
    status = stage.runtime.status(spec.id)
    assert (status.state, status.exit_known) == (ContainerState.EXITED, known)


def test_a_writer_is_not_hurt_while_there_is_none(stage: Stage) -> None:
    """100 KB without a reader: no SIGPIPE, nothing lost."""
    script = "while [ ! -e /go ]; do sleep 0.01; done; seq 20000; echo through > /marker; sleep 1d"
    spec = stage.start("sh", "-c", script)
    kill_supervisor(stage)
    Path(f"/proc/{_only_process(spec.id)}/root/go").touch()
    until("it is through", lambda: os.path.exists(os.path.join(spec.root.upper, "marker")))
    stage.runtime.status(spec.id)
    until("all is in the log", lambda: stage.output(spec).endswith("\n20000\n"))
    assert stage.output(spec).split() == [str(n) for n in range(1, 20001)]


def _only_process(container_id: ProcessID) -> str:
    group = groups_of(container_id)[0] / "cgroup.procs"
    return group.read_text().split()[0]


def test_terminals_and_input_outlive_it(stage: Stage) -> None:
    terminal = stage.start("sh", tty=True, open_stdin=True)
    piped = stage.start("sh", "-c", "cat; echo end", open_stdin=True)
    kill_supervisor(stage)
    with stage.runtime.attach(terminal.id, stdin=True, stdout=True, stderr=True) as stream:
        stream.settimeout(20)
        stream.sendall(b"echo $((6*7)); exit 3\n")
        data = b"".join(iter(lambda: stream.recv(65536), b""))
    assert b"42\r\n" in data
    with stage.runtime.attach(piped.id, stdin=True, stdout=True, stderr=True) as stream:
        stream.sendall(b"hello\n")
    stage.runtime.wait(piped.id)
    assert stage.output(piped) == "hello\nend\n"


def test_the_keeper_is_replaced(stage: Stage) -> None:
    """First the keeper dies, then the supervisor: the terminal is still there."""
    spec = stage.start("sh", tty=True, open_stdin=True)
    first = stage.keeper_pid()
    os.kill(first, signal.SIGKILL)
    until("another one is there", lambda: stage.keeper_pid() not in (0, first))
    stage.runtime.status(spec.id)
    kill_supervisor(stage)
    with stage.runtime.attach(spec.id, stdin=True, stdout=True, stderr=True) as stream:
        stream.settimeout(20)
        stream.sendall(b"exit 4\n")
        assert b"exit 4" in b"".join(iter(lambda: stream.recv(65536), b""))


def test_what_ended_without_it_is_known_to_have_ended(stage: Stage) -> None:
    spec = stage.start("sleep", "1d")
    pid = stage.runtime.status(spec.id).pid
    kill_supervisor(stage)
    os.kill(pid, signal.SIGKILL)
    until("it is gone", lambda: not os.path.exists(f"/proc/{pid}"))
    status = stage.runtime.status(spec.id)
    assert (status.state, status.exit_code, status.exit_known) == (
        ContainerState.EXITED,
        137,
        False,
    )
    stage.runtime.start(spec.id)
    assert stage.runtime.status(spec.id).state is ContainerState.RUNNING


def test_waiting_and_watching_over_its_death(stage: Stage) -> None:
    events: list[RuntimeEvent] = []
    stop = stage.runtime.watch(events.append)
    spec = stage.start("sleep", "1d")
    until("start", lambda: events)
    ready = threading.Event()
    lost: list[Exception] = []

    def wait() -> None:
        try:
            stage.runtime.wait(spec.id, established=ready.set)
        except Unavailable as error:
            lost.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert ready.wait(20)
    kill_supervisor(stage)
    waiter.join(20)
    assert "try again" in str(lost[0])
    until("sync", lambda: len(events) == 2)
    stage.runtime.kill(spec.id, signal.SIGKILL)
    until("exit", lambda: len(events) == 3)
    stop()
    assert [event.kind for event in events] == ["start", "sync", "exit"]


def test_killed_at_any_moment_of_a_start_nothing_runs_unknown(stage: Stage) -> None:
    """It dies somewhere in the launch: then the container runs and is known, or it is not there."""
    for delay_ms in (0, 5, 10, 15, 20, 25, 30, 40, 60):
        spec = stage.spec("sleep", "1d")
        stage.runtime.create(spec)
        pid = stage.supervisor_pid()
        timer = threading.Timer(delay_ms / 1000, os.kill, (pid, signal.SIGKILL))
        timer.start()
        try:
            stage.runtime.start(spec.id)
        except Unavailable:
            pass
        timer.join()
        until("the old one is gone", lambda pid=pid: not os.path.exists(f"/proc/{pid}"))  # type: ignore[misc]
        status = stage.runtime.status(spec.id)
        inside = list(stage.runtime.processes(spec.id))
        assert inside == ([status.pid] if status.state is ContainerState.RUNNING else [])
        stage.runtime.destroy(spec.id)
    assert stage.left() == []


def test_killed_before_it_took_the_call(stage: Stage) -> None:
    """Connected, and not accepted yet: the kernel resets it (ECONNRESET, where EPIPE is usual)."""
    spec = stage.start("sleep", "1d")
    kill_supervisor(stage)
    Path(stage.exec_root, "supervisor.sock").unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(os.path.join(stage.exec_root, "supervisor.sock"))
        listener.listen()

        class Late(RuntimeClient):
            def _open(self) -> socket.socket:
                link = super()._open()
                listener.close()
                return link

        with pytest.raises(Unavailable, match="try again"):
            Late(stage.exec_root).status(spec.id)
    assert stage.runtime.status(spec.id).state is ContainerState.RUNNING


def test_orphans_are_listed_and_removed(stage: Stage) -> None:
    spec = stage.start("sleep", "1d")
    assert stage.runtime.orphans() == []
    kill_supervisor(stage)
    directory = Path(stage.exec_root, "containers", spec.id)
    (directory / "state.json").unlink()
    orphans = list(stage.runtime.orphans())
    assert [orphan.id for orphan in orphans] == [spec.id]
    stage.runtime.remove_orphan(orphans[0])
    assert stage.left() == []
    stage.runtime.remove_orphan(OrphanContainer(spec.id, ()))


def test_others_containers_are_no_orphans_of_ours(stage: Stage, tmp_path: Path) -> None:
    stage.start("sleep", "1d")
    other = RuntimeClient(str(tmp_path / "x"))
    assert other.orphans() == []
    other.shutdown()


def test_it_does_not_end_while_something_runs(stage: Stage) -> None:
    spec = stage.start("sleep", "1d")
    with pytest.raises(Conflict, match="1 containers still run"):
        stage.runtime.shutdown()
    stage.runtime.destroy(spec.id)
    pid = stage.supervisor_pid()
    stage.runtime.shutdown()
    until("it is gone", lambda: not os.path.exists(f"/proc/{pid}"))
    stage.runtime.shutdown()  # none there: fine
    assert list(stage.runtime.containers()) == []


def test_what_a_hundred_containers_cost(stage: Stage) -> None:
    """All that minds them, memory shared with others in proportion: 3 MB each are allowed."""
    for number in range(100):
        stage.start("sleep", "1d", tty=number % 2 == 0)
    pids = (stage.supervisor_pid(), stage.keeper_pid())
    assert all(pids)
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    total_kb = sum(
        int(line.split()[1])
        for text in rollups
        for line in text.splitlines()
        if line.startswith("Pss:")
    )
    assert total_kb < 40_000, f"{total_kb} kB"  # 20 MB when this was written


def test_a_second_one_steps_back(stage: Stage) -> None:
    stage.runtime.containers()
    first = stage.supervisor_pid()
    barrier = threading.Barrier(4)
    clients = [RuntimeClient(stage.exec_root) for _ in range(4)]
    kill_supervisor(stage)
    found: list[object] = []

    def ask(client: RuntimeClient) -> None:
        barrier.wait()
        found.append(client.containers())

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [[], [], [], []]
    assert stage.supervisor_pid() not in (0, first)
