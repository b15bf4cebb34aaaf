"""The verbs on containers of the runtime."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Collection
from dataclasses import replace

from cnm.containerapi import (
    NO_NETWORK,
    STOP_TIMEOUT_S,
    ContainerDefinition,
    ContainerRecord,
    ContainerStatus,
)
from cnm.core import names, signals
from cnm.core.connect import Connections
from cnm.core.creation import Creation
from cnm.core.endings import Endings
from cnm.core.locks import Locks
from cnm.core.naming import Naming
from cnm.core.runs import Machinery, Runs
from cnm.core.state import State
from cnm.core.waits import Ended, Waits
from cnm.errors import CNMError, Conflict, InvalidParameter, NotFound, StartFailed
from cnm.imageapi import ImageID, ImageUser
from cnm.runtimeapi import ProcessID, WaitCondition
from cnm.types import EndpointRequest, Network, Phase, SandboxID, SandboxRecord

log = logging.getLogger(__name__)

_NOT_STARTED = 128  # Docker's exit code of a container that could not be started


class Containers:
    """Create, start, stop, remove, …"""

    def __init__(
        self,
        state: State,
        locks: Locks,
        connections: Connections,
        machinery: Machinery,
        creation: Creation,
        runs: Runs,
        waits: Waits,
        endings: Endings,
        naming: Naming,
    ) -> None:
        self._state = state
        self._locks = locks
        self._machinery = machinery
        self._runtime = machinery.runtime
        self._creation = creation
        self._runs = runs
        self._waits = waits
        self._endings = endings
        self._naming = naming
        connections.watch(self._networks_changed)

    # looking

    def find(self, reference: str) -> ContainerRecord:
        """By id, name or unique id prefix. :raises NotFound: :raises InvalidParameter:"""
        return self._state.find_container(reference)

    def find_any(self, reference: str) -> ContainerRecord | SandboxRecord:
        """Adopted namespaces, too. :raises NotFound: :raises InvalidParameter:"""
        return self._state.find_any(reference)

    def all(self) -> list[ContainerRecord]:
        """All that stand, oldest first."""
        return [item for item in self._state.containers() if item.phase is not Phase.CREATING]

    def everything(self) -> list[ContainerRecord | SandboxRecord]:
        """These, and adopted namespaces."""
        return self._state.everything()

    def alive(self, container_id: SandboxID) -> bool:
        """Whether it runs, or will run again by itself; one that is gone does not."""
        record = self._state.container(container_id)
        return record is not None and record.alive

    def log_path(self, record: ContainerRecord) -> str:
        """Where the runtime writes its log."""
        return str(self._runs.files.log(record.id))

    def users(self, image_id: ImageID) -> list[ImageUser]:
        """The containers of an image."""
        return [
            ImageUser(item.id, item.alive)
            for item in self._state.containers()
            if item.image_id == image_id
        ]

    def processes(self, reference: str) -> tuple[ContainerRecord, Collection[int]]:
        """Host pids of all that runs in it. :raises Conflict: it does not run."""
        record = self._running(reference)
        return record, self._machinery.watch.processes(ProcessID(record.id))

    def _running(self, reference: str) -> ContainerRecord:
        record = self.find(reference)
        if record.status is not ContainerStatus.RUNNING:
            raise Conflict(f"container {record.id} is not running")
        return record

    def create(self, name: str, definition: ContainerDefinition) -> ContainerRecord:
        """Make a container that does not run yet: see :meth:`Creation.create`."""
        record = self._creation.create(name, definition)
        self._endings.tell("create", record)
        return record

    # start

    def start(self, reference: str) -> bool:
        """Start it; false if it runs already.

        :raises StartFailed: the command cannot be run.
        :raises CNMError: nothing is left running.
        """
        record = self.find(reference)
        if record.status is ContainerStatus.RUNNING:
            return False
        self._endings.restarts.cancel(record.id)
        try:
            started = self._start(record.id, by_user=True)
        except (CNMError, ExceptionGroup, OSError) as error:
            self._start_failed(record.id, error)
            raise
        if started is None:
            return False
        self._endings.tell("start", started)
        self._refresh_linked(started)
        return True

    def _start(self, container_id: SandboxID, *, by_user: bool) -> ContainerRecord | None:
        record = self._state.container(container_id)
        if record is not None and record.status is not ContainerStatus.RUNNING and record.own_stack:
            self._reserve_networks(record)
        with self._locks.sandbox(container_id):
            record = self._present(container_id)
            if record.status is ContainerStatus.RUNNING:
                return None
            if by_user:
                record = replace(record, restart_count=0)
            elif record.status is not ContainerStatus.RESTARTING:
                return None  # stopped while its timer fired
            return self._runs.up(record)

    def _reserve_networks(self, record: ContainerRecord) -> None:
        """Without its lock, which each connect takes: another start, or a removal, may pass by."""
        try:
            self._creation.reserve_networks(record, all_exist=True)
        except CNMError:
            self._present(record.id)
            raise

    def start_again(self, container_id: SandboxID) -> None:
        """What a restart policy does; a failure counts as one more exit."""
        record = self._state.container(container_id)
        if record is None or record.status is not ContainerStatus.RESTARTING:
            return
        try:
            started = self._start(container_id, by_user=False)
        except (CNMError, ExceptionGroup, OSError) as error:
            log.warning("restart of container %s: %s", record.name, error)
            self._start_failed(container_id, error)
            self._endings.try_again(container_id)
            return
        if started is not None:
            self._endings.tell("start", started)
            self._refresh_linked(started)

    def _present(self, container_id: SandboxID, what: str = "started") -> ContainerRecord:
        record = self._state.container(container_id)
        if record is None:
            raise NotFound(f"No such container: {container_id}")
        if record.phase is not Phase.ACTIVE:
            raise Conflict(f"container is marked for removal and cannot be {what}")
        return record

    def _start_failed(self, container_id: SandboxID, error: BaseException) -> None:
        """Docker keeps the error and an exit code; one that removes itself is removed."""
        code = error.exit_code if isinstance(error, StartFailed) else _NOT_STARTED
        with self._locks.sandbox(container_id):
            record = self._state.container(container_id)
            if record is None or record.status is ContainerStatus.RUNNING:
                return
            record = replace(record, error=str(error), exit_code=code)
            self._state.write(put=[record])
        if record.definition.auto_remove and record.status is not ContainerStatus.RESTARTING:
            with contextlib.suppress(CNMError, ExceptionGroup):
                self._endings.remove(record.id)

    # stop

    def stop(self, reference: str, timeout_s: float | None = None, signal_name: str = "") -> bool:
        """Ask it to end, and make it end after ``timeout_s``; false if it does not run."""
        record = self.find(reference)
        number = signals.parse(signal_name) if signal_name else self._stop_signal(record)
        if not self._mark_stopped(record.id):
            return False
        self._end(record, number, timeout_s)
        self._endings.tell("stop", record)
        return True

    def _stop_signal(self, record: ContainerRecord) -> int:
        wanted = record.definition.stop_signal
        return signals.parse(wanted) if wanted else int(signal.SIGTERM)

    def _mark_stopped(self, container_id: SandboxID) -> bool:
        """From here on no policy starts it again; false if it does not run."""
        with self._locks.sandbox(container_id):
            record = self._state.container(container_id)
            if record is None or not record.alive:
                return False
            self._endings.restarts.cancel(container_id)
            record = replace(record, stopped_by_user=True)
            if record.status is ContainerStatus.RESTARTING:
                record = replace(record, status=ContainerStatus.EXITED)
            self._state.write(put=[record])
        return True

    def _end(self, record: ContainerRecord, number: int, timeout_s: float | None) -> None:
        """Without the lock: it may take long, and others may look and kill meanwhile."""
        if timeout_s is None:
            timeout_s = record.definition.stop_timeout_s
        self._endings.tell("kill", record, {"signal": str(number)})
        with contextlib.suppress(NotFound):  # it was removed meanwhile
            self._runtime.stop(
                ProcessID(record.id), number, STOP_TIMEOUT_S if timeout_s is None else timeout_s
            )
        self._endings.settle(record.id)

    def kill(self, reference: str, signal_name: str = "") -> None:
        """Send a signal, SIGKILL if none is named; after that one, wait for the end.

        :raises Conflict: it does not run.
        :raises InvalidParameter: there is no such signal.
        """
        number = signals.parse(signal_name) if signal_name else int(signal.SIGKILL)
        record = self._running(reference)
        if number in (signal.SIGKILL, self._stop_signal(record)):
            self._mark_stopped(record.id)
        if number == signal.SIGKILL:
            self._end(record, number, STOP_TIMEOUT_S)
            return
        try:
            self._runtime.kill(ProcessID(record.id), number)
        except NotFound:
            raise Conflict(f"container {record.id} is not running") from None
        self._endings.tell("kill", record, {"signal": str(number)})

    def restart(
        self, reference: str, timeout_s: float | None = None, signal_name: str = ""
    ) -> None:
        """Stop and start. One that removes itself stays."""
        record = self.find(reference)
        number = signals.parse(signal_name) if signal_name else self._stop_signal(record)
        with self._endings.keeping(record.id):
            if self._mark_stopped(record.id):
                self._end(record, number, timeout_s)
            self.start(record.id)
        self._endings.tell("restart", record)

    # remove, rename

    def remove(self, reference: str, *, force: bool = False) -> None:
        """:raises Conflict: it runs, and ``force`` was not said. :raises TeardownError:"""
        record = self.find(reference)
        if record.alive:
            if not force:
                what = "running" if record.status is ContainerStatus.RUNNING else "restarting"
                raise Conflict(
                    f'cannot remove container "{reference}": container is {what}: stop the '
                    "container before removing or force remove"
                )
            with self._endings.keeping(record.id):
                if self._mark_stopped(record.id):
                    self._end(record, int(signal.SIGKILL), STOP_TIMEOUT_S)
        self._endings.remove(record.id)

    def rename(self, reference: str, name: str) -> None:
        """:raises Conflict: the name is in use. :raises InvalidParameter: it is no name."""
        if not name:
            raise InvalidParameter("Neither old nor new names may be empty")
        found = self.find(reference)
        try:
            name = names.check(f"/{name.removeprefix('/')}")
        except InvalidParameter as error:
            raise InvalidParameter(f"Error when allocating new name: {error}") from error
        if name == found.name:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        with self._locks.name(f"container {name}"), self._locks.sandbox(found.id):
            holder = self._creation.holder(name)
            if holder is not None:
                raise Conflict(f"Error when allocating new name: {names.in_use(name, holder)}")
            record = replace(self._present(found.id, "renamed"), name=name)
            stack = self._state.sandbox(found.id)
            renamed = [replace(stack, name=name)] if stack is not None else []
            self._state.write(put=[record, *renamed], durable=True)
            for stack in renamed:
                self._rename_published(stack)
        self._endings.tell("rename", record, {"oldName": f"/{found.name}"})

    def _rename_published(self, stack: SandboxRecord) -> None:
        try:
            self._naming.rename(stack, self._locks)
        except CNMError as error:
            log.warning("names of container %s: %s; the next sweep mends it", stack.name, error)

    # waiting and streams

    def wait(self, reference: str, condition: WaitCondition, ended: Ended) -> Callable[[], None]:
        """Call ``ended`` when the condition holds (perhaps at once, perhaps twice).

        Returns what ends the wait. An exit after this call is not missed.
        """
        record = self.find(reference)
        removal = condition is WaitCondition.REMOVED
        cancel = self._waits.add(record.id, ended, removal=removal)
        now = self._state.container(record.id)
        if now is None:
            ended(record.exit_code)
        elif condition is WaitCondition.NOT_RUNNING and not now.alive:
            cancel()
            ended(now.exit_code)
        return cancel

    def attach(
        self, reference: str, *, stdin: bool, stdout: bool, stderr: bool
    ) -> tuple[ContainerRecord, socket.socket]:
        """A stream to its process, as ``cnm.runtimeapi.Streams``; good before the start, too."""
        record = self.find(reference)
        with self._locks.sandbox(record.id):
            record = self._present(record.id, "attached to")
            if record.status is not ContainerStatus.RUNNING:
                self._runs.register(record)
        stream = self._machinery.streams.attach(
            ProcessID(record.id),
            stdin=stdin and record.definition.command.open_stdin,
            stdout=stdout,
            stderr=stderr,
        )
        self._endings.tell("attach", record)
        return record, stream

    def detached(self, record: ContainerRecord) -> None:
        """Somebody typed the detach keys."""
        self._endings.tell("detach", record)

    def resize(self, reference: str, rows: int, columns: int) -> None:
        """Set its terminal's size. :raises Conflict: it does not run."""
        record = self._running(reference)
        self._machinery.streams.resize(ProcessID(record.id), rows, columns)
        size = {"height": str(rows), "width": str(columns)}
        self._endings.tell("resize", record, size)

    # networks that change beside us

    def _networks_changed(
        self, container_id: SandboxID, network: Network, request: EndpointRequest | None
    ) -> None:
        """Remember the wish for the next start, and tell the container its new addresses."""
        with self._locks.sandbox(container_id):
            record = self._state.container(container_id)
            if record is None or record.phase is not Phase.ACTIVE:
                return
            wishes = dict(record.definition.endpoints)
            if network.name == record.predefined == NO_NETWORK:
                record = replace(record, left_none=True)
                self._state.write(put=[record], durable=True)
            if request is None:
                wishes.pop(network.name, None)
            else:
                wishes[network.name] = request
            if wishes != record.definition.endpoints:
                definition = replace(record.definition, endpoints=wishes)
                record = replace(record, definition=definition)
                self._state.write(put=[record])
            self.readdressed(container_id)

    def readdressed(self, container_id: SandboxID) -> None:
        """Tell a container its new addresses and name servers. The caller holds its lock."""
        record = self._state.container(container_id)
        if record is not None and record.status is ContainerStatus.RUNNING:
            self._write_hosts(record)
            self._write_resolv_conf(record)

    def _refresh_linked(self, target: ContainerRecord) -> None:
        """Those that are linked with it see its new address."""
        for record in self._state.containers():
            linked = any(reference == target.id for reference, _ in record.definition.names.links)
            if linked and record.status is ContainerStatus.RUNNING:
                with self._locks.sandbox(record.id):
                    self._write_hosts(record)

    def _write_hosts(self, record: ContainerRecord) -> None:
        try:
            self._runs.etc.write_hosts(record)
        except (CNMError, OSError) as error:
            log.warning("hosts of container %s: %s", record.name, error)

    def _write_resolv_conf(self, record: ContainerRecord) -> None:
        try:
            self._runs.etc.refresh_resolv_conf(record)
        except OSError as error:
            log.warning("resolv.conf of container %s: %s", record.name, error)
