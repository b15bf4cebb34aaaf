"""A container in the supervisor: its runs, its state on disk, who waits for it."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cnm.errors import Conflict, StartFailed
from cnm.runtime.container import confine, launch
from cnm.runtime.container.cgroup import ControlGroups
from cnm.runtime.container.logfile import LogFile
from cnm.runtime.container.plan import ContainerPlan, ExecPlan, Saved
from cnm.runtime.container.process import Ended, Failure, Listener, Process
from cnm.runtime.container.standard import Pipes
from cnm.runtime.container.state import Places, boot_id, start_time
from cnm.runtime.container.streams import Streams
from cnm.runtime.kernel import packets
from cnm.runtime.kernel.loop import Loop
from cnm.runtimeapi import (
    UNKNOWN_EXIT_CODE,
    ContainerState,
    ContainerStatus,
    ExecStatus,
    ProcessSpec,
    RuntimeEvent,
    WaitCondition,
)

_REMOVE_AGAIN_S = 0.01
_GROUP_GONE_WITHIN = 500  # tries
_NOT_RUN = confine.NOT_RUNNABLE  # what Docker says of an exec that failed for any other reason
_EXEC_KEPT_S = 300.0  # an ended exec can be inspected this long, as with Docker

Answer = Callable[[Exception | None], None]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every container of a supervisor shares."""

    loop: Loop
    places: Places
    groups: ControlGroups
    publish: Callable[[RuntimeEvent], None]
    keep: Callable[[str, Sequence[int]], None]  # descriptors that must outlive the supervisor


class Waiters:
    """Who waits for the end of a process."""

    def __init__(self) -> None:
        self._waiting: list[tuple[WaitCondition, Callable[[int], None]]] = []

    def add(self, condition: WaitCondition, answer: Callable[[int], None]) -> Callable[[], None]:
        """Returns what takes it back."""
        entry = (condition, answer)
        self._waiting.append(entry)

        def take_back() -> None:
            if entry in self._waiting:
                self._waiting.remove(entry)

        return take_back

    def exited(self, code: int) -> None:
        self._answer(code, (WaitCondition.NOT_RUNNING, WaitCondition.NEXT_EXIT))

    def removed(self, code: int) -> None:
        self._answer(code, tuple(WaitCondition))

    def _answer(self, code: int, conditions: tuple[WaitCondition, ...]) -> None:
        due = [entry for entry in self._waiting if entry[0] in conditions]
        self._waiting = [entry for entry in self._waiting if entry[0] not in conditions]
        for _, answer in due:
            answer(code)


def new_streams(
    loop: Loop, process: ProcessSpec, changed: Callable[[Sequence[int]], None]
) -> Streams:
    return Streams(
        loop,
        changed,
        tty=process.tty,
        open_stdin=process.open_stdin,
        stdin_once=process.stdin_once,
    )


class Container:
    """One container: created, running, exited, and again."""

    def __init__(self, around: Surroundings, plan: ContainerPlan, saved: Saved | None) -> None:
        self._around = around
        self.plan = plan
        self.saved = saved or Saved(plan.spec.id, boot_id())
        self.streams = new_streams(
            around.loop, plan.spec.process, lambda ends: around.keep(self.id, ends)
        )
        self.waiters = Waiters()
        self.process: Process | None = None
        self.execs: dict[str, Exec] = {}
        self._starting: Answer | None = None
        self._destroying: list[Callable[[], None]] = []
        self._call_off_removal: Callable[[], None] = lambda: None

    @property
    def id(self) -> str:
        return self.plan.spec.id

    @property
    def running(self) -> bool:
        return self.saved.state is ContainerState.RUNNING

    @property
    def over(self) -> bool:
        """Whether its first process has ended, though we may not have heard of it yet."""
        return self.process is None or self.process.over

    @property
    def pipes(self) -> Pipes:
        return self._around.places.pipes(self.id, self.plan.spec.process)

    def status(self) -> ContainerStatus:
        saved = self.saved
        return ContainerStatus(
            saved.id,
            saved.state,
            saved.pid if self.running else 0,
            saved.exit_code,
            saved.exit_known,
            saved.oom_killed,
            saved.error,
            saved.started_ns,
            saved.finished_ns,
            self.streams.dropped,
            saved.starting,
        )

    # -- start

    def start(self, answer: Answer, network_namespace: str = "") -> None:
        """``network_namespace``: another path to it, instead of the plan's.

        :raises Conflict: it runs, or is about to.
        """
        if self.running or self._starting is not None:
            raise Conflict(f"container {self.id} is already running")
        spec = self.plan.spec
        self._starting = answer
        self._save(starting=True, pid=0, start_time=0, oom_killed=False, error="")
        try:
            self._clear_group()
            self.streams.begin(LogFile(spec.log) if spec.log else None, self.pipes)
            directory = self._around.places.container(self.id)
            found = network_namespace or spec.network_namespace
            plan = replace(self.plan, spec=replace(spec, network_namespace=found))
            child = launch.container(plan, directory, self.pipes, self._around.groups)
        except Exception as error:
            self._failed(Failure(str(error)))
            return
        self.process = self._new_process()
        self.process.follow(child)

    def _clear_group(self) -> None:
        """An earlier run's group would hold its counters, and perhaps a stray process."""
        self._call_off_removal()
        if self.id in self._around.groups.marked():
            self._around.groups.remove(self.id)

    def _new_process(self) -> Process:
        listener = Listener(self._has_pid, self._started, self._failed, self._ended)
        return Process(self._around.loop, self.streams, listener)

    def _has_pid(self, pid: int) -> None:
        """On disk before the command may run: no supervisor can lose it."""
        self._save(pid=pid, start_time=start_time(pid))

    def _started(self) -> None:
        self._save(
            state=ContainerState.RUNNING,
            starting=False,
            exit_code=0,
            exit_known=True,
            started_ns=time.time_ns(),
            finished_ns=0,
        )
        self._publish("start")
        self._answer_start(None)
        if self._destroying:
            self.send_signal(signal.SIGKILL)

    def _failed(self, failure: Failure) -> None:
        """Nothing runs; nothing may stay."""
        text, code = failure.worded("failed to create task for container"), failure.code
        self.process = None
        self._around.groups.kill(self.id)
        self._remove_group(_GROUP_GONE_WITHIN)
        self.streams.finish()
        self._save(starting=False, pid=0, exit_code=code, exit_known=True, error=text)
        self.waiters.exited(code)
        self._answer_start(StartFailed(text, code))
        if self._destroying:
            self._forget()

    def _answer_start(self, error: Exception | None) -> None:
        answer, self._starting = self._starting, None
        if answer is not None:
            answer(error)

    # -- end

    def _ended(self, ended: Ended) -> None:
        groups = self._around.groups
        oom_killed = groups.out_of_memory_kills(self.id) > 0
        groups.kill(self.id)
        self._remove_group(_GROUP_GONE_WITHIN)
        self.process = None
        for execution in list(self.execs.values()):
            execution.container_ended()
        self._save(
            state=ContainerState.EXITED,
            starting=False,
            pid=0,
            exit_code=ended.code,
            exit_known=ended.known,
            oom_killed=oom_killed,
            finished_ns=time.time_ns(),
        )
        if oom_killed:
            self._publish("oom")
        self._publish("exit")
        self.waiters.exited(ended.code)
        if self._destroying:
            self._forget()

    def _remove_group(self, tries: int) -> None:
        """At once, mostly; again while killed processes are still being taken apart."""
        if not self._around.groups.try_remove(self.id) and tries:
            self._call_off_removal = self._around.loop.after(
                _REMOVE_AGAIN_S, lambda: self._remove_group(tries - 1)
            )

    def send_signal(self, number: int) -> None:
        """:raises Conflict: it does not run."""
        try:
            if not self.running or self.process is None:
                raise ProcessLookupError
            self.process.send_signal(number)
        except ProcessLookupError:
            raise Conflict(f"container {self.id} is not running") from None

    def destroy(self, answer: Callable[[], None]) -> None:
        """Kill and forget; answers when nothing of it is left in the kernel."""
        self._destroying.append(answer)
        if self.process is None:
            self._forget()
        elif self.running:
            with contextlib.suppress(Conflict):  # it has just ended: that will be heard
                self.send_signal(signal.SIGKILL)

    def _forget(self) -> None:
        self._call_off_removal()
        self._around.groups.remove(self.id)
        for execution in list(self.execs.values()):
            execution.container_ended()
        self.streams.close()
        self._around.places.remove(self.id)
        self._publish("destroy")
        self.waiters.removed(self.saved.exit_code)
        for answer in self._destroying:
            answer()

    # -- after a supervisor was lost

    def recover(self, kept: Sequence[int]) -> None:
        """Compare what is on disk with what runs; ``kept`` are its terminal or input."""
        saved = self.saved
        if not (self.running or saved.starting):
            packets.close_all(kept)
            return
        alive = saved.pid and saved.boot == boot_id()
        if alive and saved.start_time and start_time(saved.pid) == saved.start_time:
            self._adopt(kept)
            return
        packets.close_all(kept)
        self._around.groups.remove(self.id)
        ran = self.running or saved.pid
        self._save(
            state=ContainerState.EXITED if ran else saved.state,
            starting=False,
            pid=0,
            boot=boot_id(),
            exit_code=UNKNOWN_EXIT_CODE,
            exit_known=False,
            finished_ns=time.time_ns(),
        )

    def _adopt(self, kept: Sequence[int]) -> None:
        self.process = self._new_process()
        try:
            self.process.adopt(self.saved.pid)
        except ProcessLookupError:
            packets.close_all(kept)
            self.process = None
            self._ended(Ended(UNKNOWN_EXIT_CODE, known=False))
            return
        log = self.plan.spec.log
        self.streams.resume(LogFile(log) if log else None, self.pipes, kept)
        if not self.running:
            self._started()

    def _save(self, **changes: object) -> None:
        self.saved = dataclasses.replace(self.saved, **changes)  # type: ignore[arg-type]
        self._around.places.write_state(self.saved)

    def _publish(self, kind: str) -> None:
        container_id = self.plan.spec.id
        code = self.saved.exit_code
        self._around.publish(RuntimeEvent(kind, container_id, container_id, code, time.time_ns()))


class Exec:
    """A further command in a container; gone with its supervisor."""

    def __init__(self, around: Surroundings, container: Container, plan: ExecPlan) -> None:
        self._around = around
        self._container = container
        self.plan = plan
        # Not kept: with nobody to read it, an exec's terminal had better hang up.
        self.streams = new_streams(around.loop, plan.spec.process, lambda _ends: None)
        self.waiters = Waiters()
        self.exit_code: int | None = None
        spec = plan.spec
        self._pipes = around.places.pipes(spec.container_id, spec.process, spec.id)
        self._process: Process | None = None
        self._starting: Answer | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._starting is None

    @property
    def finished(self) -> bool:
        return self.exit_code is not None

    def status(self) -> ExecStatus:
        pid = self._process.pid if self._process else 0
        spec = self.plan.spec
        return ExecStatus(spec.id, spec.container_id, pid, self.running, self.exit_code)

    def start(self, answer: Answer) -> None:
        """:raises Conflict: it was started before, or its container does not run."""
        spec, container = self.plan.spec, self._container
        if self._process is not None or self.finished:
            raise Conflict(f"exec {spec.id} has already been started")
        if not container.running or container.process is None:
            raise Conflict(f"container {container.id} is not running")
        self._starting = answer
        held = container.plan.spec
        self.streams.begin(None, self._pipes)
        child = launch.execution(
            self.plan,
            held,
            container.process.pidfd,
            self._pipes,
            self._around.groups,
        )
        listener = Listener(lambda _pid: None, self._started, self._failed, self._ended)
        self._process = Process(self._around.loop, self.streams, listener)
        self._process.follow(child)

    def _started(self) -> None:
        self._around.places.remove_pipes(self._pipes)  # both sides have them open
        self._publish("exec_start")
        self._answer_start(None)

    def _failed(self, failure: Failure) -> None:
        if self._container.over:
            failure = Failure(launch.STOPPED, failure.code)
        code = _NOT_RUN if failure.code == confine.NOT_STARTED else failure.code
        self._finish(code)
        text = failure.worded("OCI runtime exec failed: exec failed")
        self._answer_start(StartFailed(text, code))

    def _ended(self, ended: Ended) -> None:
        self._finish(ended.code)
        self._publish("exec_exit")

    def _finish(self, code: int) -> None:
        self._around.places.remove_pipes(self._pipes)
        self._process = None
        self.exit_code = code
        self.streams.finish()
        self.waiters.exited(code)
        self._around.loop.after(_EXEC_KEPT_S, self._forget)

    def _forget(self) -> None:
        self._container.execs.pop(self.plan.spec.id, None)

    def _answer_start(self, error: Exception | None) -> None:
        answer, self._starting = self._starting, None
        if answer is not None:
            answer(error)

    def send_signal(self, number: int) -> None:
        """:raises Conflict: it does not run."""
        try:
            if self._process is None or self._process.pidfd < 0:
                raise ProcessLookupError
            self._process.send_signal(number)
        except ProcessLookupError:
            raise Conflict(f"exec {self.plan.spec.id} is not running") from None

    def container_ended(self) -> None:
        """The kernel has killed it with the first process; whoever waits is told so."""
        if self._process is not None:
            self._process.close()
            self._failed(Failure(launch.STOPPED, 128 + signal.SIGKILL))
        self.streams.close()

    def _publish(self, kind: str) -> None:
        spec = self.plan.spec
        code = self.exit_code or 0
        self._around.publish(RuntimeEvent(kind, spec.id, spec.container_id, code, time.time_ns()))
