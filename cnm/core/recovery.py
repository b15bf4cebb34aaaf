"""Containers at the daemon's start, and what the runtime tells while it runs.

A record says what should be, the runtime what is; both are compared, never events alone, so
that nothing is lost while no daemon runs. A run that the record does not know was a start
that was not settled: it is undone. One that the record knows and the runtime does not
has ended, by itself or with its host.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from cnm.containerapi import LOST_EXIT_CODE, ContainerRecord, ContainerStatus, RestartMode
from cnm.core import restart
from cnm.core.containerfiles import ContainerFiles
from cnm.core.endings import Endings
from cnm.core.locks import Locks
from cnm.core.runs import Machinery, Runs
from cnm.core.sandboxes import Sandboxes
from cnm.core.state import State
from cnm.errors import CNMError
from cnm.runtimeapi import ContainerState, ProcessID, RuntimeEvent
from cnm.runtimeapi import ContainerStatus as Seen
from cnm.types import Phase, Repair, SandboxID

log = logging.getLogger(__name__)

_WORKERS = 8  # ends that are cleaned up side by side: most of each is waiting for the kernel


class Recovery:
    """Keeps records and runtime in step."""

    def __init__(
        self,
        state: State,
        locks: Locks,
        sandboxes: Sandboxes,
        machinery: Machinery,
        runs: Runs,
        files: ContainerFiles,
        endings: Endings,
        exec_ended: Callable[[RuntimeEvent], None],
    ) -> None:
        self._state = state
        self._locks = locks
        self._sandboxes = sandboxes
        self._machinery = machinery
        self._runtime = machinery.runtime
        self._runs = runs
        self._files = files
        self._endings = endings
        self._exec_ended = exec_ended
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="container end")
        self._mutex = threading.Lock()  # only one may begin to listen
        self._stop_watching: Callable[[], None] | None = None

    # at the start

    def start(self) -> list[Repair]:
        """Before anybody is served. Restarts that are due wait for :meth:`begin`."""
        repairs: list[Repair] = []
        seen: dict[str, Seen] = {}
        if self._state.containers():
            seen = {status.id: status for status in self._runtime.containers()}
        for record in self._state.containers():
            repairs += self._guarded(record.name, self._compare, record, seen.get(record.id))
        for container_id in seen.keys() - {record.id for record in self._state.containers()}:
            repairs += self._guarded(container_id[:12], self._forget, container_id)
        if seen:
            repairs += self._remove_orphans()
        return repairs + self._remove_files() + self._remove_namespaces()

    def _guarded(self, what: str, step: Callable[..., list[Repair]], *args: object) -> list[Repair]:
        """One container that cannot be repaired must not keep the others from it."""
        try:
            return step(*args)
        except (CNMError, ExceptionGroup, OSError) as error:
            log.error("cannot repair container %s: %s", what, error)
            return [Repair("failure", f"container {what}", str(error))]

    def _compare(self, record: ContainerRecord, seen: Seen | None) -> list[Repair]:
        running = seen is not None and (seen.state is ContainerState.RUNNING or seen.pending)
        if record.phase is not Phase.ACTIVE:
            self._endings.discard(record)
            undone = record.phase is Phase.CREATING
            return [
                Repair(
                    "container", record.name, "creation undone" if undone else "removal finished"
                )
            ]
        if running and record.status is ContainerStatus.RUNNING:
            return self._take_over(record, seen)
        was_alive = record.alive
        repairs: list[Repair] = []
        if running:
            self._runs.forget(record)
            repairs.append(Repair("container", record.name, "start undone"))
        if record.status is ContainerStatus.RUNNING:
            record = self._ended_meanwhile(record, seen)
            repairs.append(Repair("container", record.name, "it ended: marked as exited"))
        else:
            self._runs.lower(record)
        self._restart_policy(record, was_alive)
        return repairs

    def _take_over(self, record: ContainerRecord, seen: Seen | None) -> list[Repair]:
        if seen is not None and seen.pid != record.pid:
            self._state.write(put=[replace(record, pid=seen.pid)])
        self._runs.etc.refresh_resolv_conf(record)
        if seen is not None and self._sandboxes.keep(record.id, seen.pid):
            return [Repair("namespace", record.name, "found again by its process")]
        return []

    def _ended_meanwhile(self, record: ContainerRecord, seen: Seen | None) -> ContainerRecord:
        known = seen is not None and seen.exit_known
        record = self._runs.down(
            record,
            exit_code=seen.exit_code if seen is not None and known else LOST_EXIT_CODE,
            oom_killed=seen.oom_killed if seen is not None else False,
            finished_ns=seen.finished_ns if seen is not None else 0,
        )
        self._endings.tell("die", record, {"exitCode": str(record.exit_code)})
        return record

    def _restart_policy(self, record: ContainerRecord, was_alive: bool) -> None:
        """Docker's rule for a daemon that starts: ``always`` counts for stopped ones, too.

        A failure that was dealt with in an earlier life is none of this one's.
        """
        wish = record.definition
        if wish.auto_remove and record.started_ns:
            self._endings.remove(record.id)
            return
        wanted = restart.should_start_at_boot(
            wish.restart, record.exit_code, stopped_by_user=record.stopped_by_user
        )
        if wish.restart.mode is RestartMode.ON_FAILURE:
            wanted = wanted and was_alive
        if not (wanted and record.started_ns):
            if record.status is ContainerStatus.RESTARTING:
                self._state.write(put=[replace(record, status=ContainerStatus.EXITED)])
            return
        self._state.write(put=[replace(record, status=ContainerStatus.RESTARTING)])
        self._endings.restarts.soon(record.id)

    def _forget(self, container_id: str) -> list[Repair]:
        self._runtime.destroy(ProcessID(container_id))
        return [Repair("container", container_id[:12], "removed: nothing in the store owns it")]

    def _remove_orphans(self) -> list[Repair]:
        repairs = []
        for orphan in self._machinery.watch.orphans():
            self._machinery.watch.remove_orphan(orphan)
            repairs.append(Repair("container", orphan.id[:12], "its remains were removed"))
        return repairs

    def _remove_files(self) -> list[Repair]:
        repairs: list[Repair] = []
        for container_id in self._files.known():
            if self._state.container(container_id) is None:
                self._files.remove(container_id)
                repairs.append(Repair("files", container_id[:12], "removed: no container has them"))
        return repairs

    def _remove_namespaces(self) -> list[Repair]:
        repairs = []
        for key in self._sandboxes.strays(str(self._machinery.settings.namespaces)):
            self._sandboxes.remove_stray(key)
            repairs.append(Repair("namespace", key, "removed: no container runs in it"))
        return repairs

    # while the daemon runs

    def begin(self, start_again: Callable[[SandboxID], None]) -> None:
        """Follow the runtime, and start what is due to start."""
        self._endings.restarts.begin(start_again)
        if self._state.containers():
            self.follow()

    def follow(self) -> None:
        """Listen to the runtime, once. Before the first container there is no need of one."""
        with self._mutex:
            if self._stop_watching is None:
                self._stop_watching = self._machinery.watch.watch(self._happened)

    def close(self) -> None:
        """The daemon stops; containers live on."""
        self._endings.restarts.close()
        if self._stop_watching is not None:
            self._stop_watching()
            self._stop_watching = None
        self._workers.shutdown(cancel_futures=True)

    def _happened(self, event: RuntimeEvent) -> None:
        """In the runtime's own thread, which must not be kept."""
        match event.kind:
            case "exit":
                self._later(SandboxID(event.id))
            case "oom":
                record = self._state.container(SandboxID(event.id))
                if record is not None:
                    self._endings.tell("oom", record)
            case "exec_exit":
                self._exec_ended(event)
            case "sync":
                for record in self._state.containers():
                    self._later(record.id)

    def _later(self, container_id: SandboxID) -> None:
        try:
            self._workers.submit(self._settle, container_id)
        except RuntimeError:
            log.debug("the daemon stops: the next one sees that %s ended", container_id[:12])

    def _settle(self, container_id: SandboxID) -> None:
        try:
            self._endings.settle(container_id)
        except Exception as error:  # the sweep tries again
            log.error("end of container %s: %s", container_id[:12], error)

    def sweep(self) -> list[Repair]:
        """What an end could not take down, and ends that were missed."""
        repairs: list[Repair] = []
        for record in self._state.containers():
            if record.status is ContainerStatus.RUNNING:
                self._settle(record.id)
            else:
                repairs += self._guarded(record.name, self._lower_again, record)
        return repairs

    def _lower_again(self, record: ContainerRecord) -> list[Repair]:
        with self._locks.sandbox(record.id):
            now = self._state.container(record.id)
            if now is None or now.status is ContainerStatus.RUNNING:
                return []
            if not self._runs.lowered(now):
                self._runs.lower(now)
                return [Repair("container", now.name, "its network stack was removed")]
        return []
