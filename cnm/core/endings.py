"""What follows the end of a run: cleaning, events, restart or removal."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from cnm.containerapi import LOST_EXIT_CODE, ContainerRecord, ContainerStatus
from cnm.core import restart
from cnm.core.containerfiles import ContainerFiles
from cnm.core.events import Events
from cnm.core.locks import Locks
from cnm.core.runs import Machinery, Runs
from cnm.core.sandboxes import Sandboxes
from cnm.core.state import State
from cnm.core.waits import Waits
from cnm.errors import NotFound
from cnm.runtimeapi import ContainerState, ProcessID
from cnm.runtimeapi import ContainerStatus as Seen
from cnm.types import Phase, SandboxID
from cnm.undo import Teardown

log = logging.getLogger(__name__)


class Restarts:
    """Starts that are due later, one timer each."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._timers: dict[SandboxID, threading.Timer] = {}
        self._delays: dict[SandboxID, float] = {}
        self._call: Callable[[SandboxID], None] | None = None
        self._waiting: dict[SandboxID, float] = {}

    def begin(self, call: Callable[[SandboxID], None]) -> None:
        """From now on timers run; what was scheduled before is due as if scheduled now."""
        with self._mutex:
            self._call = call
            waiting, self._waiting = self._waiting, {}
        for container_id, delay_s in waiting.items():
            self._arm(container_id, delay_s)

    def schedule(self, container_id: SandboxID, ran_for_s: float) -> None:
        """Start it again after a delay that grows from run to run."""
        with self._mutex:
            delay_s = restart.next_delay(self._delays.get(container_id, 0.0), ran_for_s)
            self._delays[container_id] = delay_s
        self._arm(container_id, delay_s)

    def soon(self, container_id: SandboxID) -> None:
        """Start it as soon as the daemon serves."""
        self._arm(container_id, 0.0)

    def _arm(self, container_id: SandboxID, delay_s: float) -> None:
        with self._mutex:
            if self._call is None:
                self._waiting[container_id] = delay_s
                return
            former = self._timers.pop(container_id, None)
            if former is not None:
                former.cancel()
            timer = threading.Timer(delay_s, self._fire, (container_id,))
            timer.daemon = True
            self._timers[container_id] = timer
            timer.start()

    def _fire(self, container_id: SandboxID) -> None:
        with self._mutex:
            self._timers.pop(container_id, None)
            call = self._call
        if call is not None:
            try:
                call(container_id)
            except Exception as error:  # a thread's end must not be the only trace
                log.error("restart of container %s: %s", container_id[:12], error)

    def cancel(self, container_id: SandboxID) -> None:
        """Not any more; the next delay is the first again."""
        with self._mutex:
            self._delays.pop(container_id, None)
            self._waiting.pop(container_id, None)
            timer = self._timers.pop(container_id, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """The daemon stops: the next one goes on."""
        with self._mutex:
            self._call = None
            timers, self._timers = list(self._timers.values()), {}
        for timer in timers:
            timer.cancel()


class Endings:
    """Ends of runs and of containers."""

    def __init__(
        self,
        state: State,
        locks: Locks,
        events: Events,
        sandboxes: Sandboxes,
        machinery: Machinery,
        runs: Runs,
        files: ContainerFiles,
        waits: Waits,
    ) -> None:
        self._state = state
        self._locks = locks
        self._events = events
        self._sandboxes = sandboxes
        self._runtime = machinery.runtime
        self._runs = runs
        self._files = files
        self._waits = waits
        self._kept: dict[SandboxID, int] = {}
        self._mutex = threading.Lock()  # for the counts of who keeps what
        self.restarts = Restarts()

    def tell(
        self, action: str, record: ContainerRecord, more: Mapping[str, str] | None = None
    ) -> None:
        """Publish an event of a container."""
        attributes = {
            **record.definition.labels,
            **(more or {}),
            "image": record.definition.image,
            "name": record.name,
        }
        self._events.publish("container", action, record.id, attributes)

    @contextlib.contextmanager
    def keeping(self, container_id: SandboxID) -> Iterator[None]:
        """Meanwhile an end neither removes the container nor starts it again."""
        with self._mutex:
            self._kept[container_id] = self._kept.get(container_id, 0) + 1
        try:
            yield
        finally:
            with self._mutex:
                self._kept[container_id] -= 1
                if not self._kept[container_id]:
                    del self._kept[container_id]

    def settle(self, container_id: SandboxID) -> None:
        """See whether a container that should run has ended, and do what follows.

        Compares states, so it may be called at any time and more than once.

        :raises TeardownError: not all of it could be taken down; the sweep tries again.
        """
        with self._locks.sandbox(container_id):
            record = self._state.container(container_id)
            if record is None or record.status is not ContainerStatus.RUNNING:
                return
            seen = self._seen(container_id)
            if seen is not None and (seen.state is ContainerState.RUNNING or seen.pending):
                return
            record, failures = self._ended(record, seen)
        self.tell("die", record, {"exitCode": str(record.exit_code)})
        if record.status is not ContainerStatus.RESTARTING:
            self._finally(record)
        self._waits.exited(record.id, record.exit_code)
        if failures is not None:
            raise failures

    def _ended(
        self, record: ContainerRecord, seen: Seen | None
    ) -> tuple[ContainerRecord, ExceptionGroup[Exception] | None]:
        failures: ExceptionGroup[Exception] | None = None
        try:
            record = self._runs.down(
                record,
                exit_code=seen.exit_code if seen else LOST_EXIT_CODE,
                oom_killed=seen.oom_killed if seen else False,
                finished_ns=seen.finished_ns if seen else 0,
            )
        except ExceptionGroup as error:
            failures = error
            record = self._state.container(record.id) or record
        wanted = restart.should_restart(
            record.definition.restart,
            record.exit_code,
            record.restart_count,
            stopped_by_user=record.stopped_by_user,
        )
        if wanted and record.id not in self._kept:
            record = self._will_restart(record)
        return record, failures

    def _will_restart(self, record: ContainerRecord) -> ContainerRecord:
        record = replace(
            record, status=ContainerStatus.RESTARTING, restart_count=record.restart_count + 1
        )
        self._state.write(put=[record])
        self.restarts.schedule(record.id, (record.finished_ns - record.started_ns) / 1e9)
        return record

    def _finally(self, record: ContainerRecord) -> None:
        if record.definition.auto_remove and record.id not in self._kept:
            with contextlib.suppress(NotFound):
                self.remove(record.id)

    def try_again(self, container_id: SandboxID) -> None:
        """After a restart that failed: by its policy, once more or no more."""
        with self._locks.sandbox(container_id):
            record = self._state.container(container_id)
            if record is None or record.status is not ContainerStatus.RESTARTING:
                return
            if restart.should_restart(
                record.definition.restart,
                record.exit_code,
                record.restart_count,
                stopped_by_user=record.stopped_by_user,
            ):
                self._will_restart(record)
            else:
                record = replace(record, status=ContainerStatus.EXITED)
                self._state.write(put=[record])

    def _seen(self, container_id: SandboxID) -> Seen | None:
        try:
            return self._runtime.status(ProcessID(container_id))
        except NotFound:
            return None

    # removal

    def remove(self, container_id: SandboxID) -> None:
        """Remove a container that does not run.

        :raises NotFound: it has gone meanwhile.
        :raises TeardownError: with all that failed; it can be tried again.
        """
        with self._locks.sandbox(container_id):
            record = self._state.container(container_id)
            if record is None:
                raise NotFound(f"No such container: {container_id}")
            self.discard(record)
        self.tell("destroy", record)
        self._waits.removed(record.id, record.exit_code)

    def discard(self, record: ContainerRecord) -> None:
        """Take away all of a container, whatever state it is in. Idempotent.

        The caller holds its lock, or nobody else can know it yet.

        :raises TeardownError: with all that failed; the record stays, marked for deletion.
        """
        record = replace(record, phase=Phase.DELETING, status=ContainerStatus.REMOVING)
        self._state.write(put=[record])
        self.restarts.cancel(record.id)
        teardown = Teardown(f"remove container {record.name}")
        with teardown.step():
            self._runs.forget(record)
        with teardown.step():
            self._runs.lower(record)
        stack = self._state.sandbox(record.id)
        if stack is not None:
            with teardown.step():
                self._sandboxes.detach_all(stack)
        with teardown.step():
            self._files.remove(record.id)
        teardown.finish()
        self._state.write(remove=[record] if stack is None else [record, stack], durable=True)
