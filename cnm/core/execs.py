"""Further commands in running containers.

What was asked is kept in memory, as Docker keeps it: an exec does not outlive the run of
its container, and after a daemon's restart only those can be asked for that still run.
"""

from __future__ import annotations

import secrets
import socket
import threading
from dataclasses import dataclass, replace

from cnm.containerapi import Command, ContainerRecord, ContainerStatus
from cnm.core import merging
from cnm.core.endings import Endings
from cnm.core.runs import Machinery
from cnm.core.state import State
from cnm.errors import Conflict, InvalidParameter, NotFound, StartFailed
from cnm.runtimeapi import ExecSpec, ProcessID, RuntimeEvent
from cnm.types import SandboxID

_KEPT = 1024  # ended execs that can still be asked for their exit code


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """What the user asks of an exec. An empty user or directory is the container's."""

    command: Command
    privileged: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""


@dataclass(frozen=True, slots=True)
class Exec:
    """An exec as it is known here. ``exit_code`` is None until it ended."""

    id: ProcessID
    container_id: SandboxID
    request: ExecRequest
    started: bool = False
    exit_code: int | None = None


class ExecProcesses:
    """Create, start, attach, resize, inspect."""

    def __init__(self, state: State, machinery: Machinery, endings: Endings) -> None:
        self._state = state
        self._execs = machinery.execs
        self._streams = machinery.streams
        self._endings = endings
        self._mutex = threading.Lock()
        self._known: dict[str, Exec] = {}

    def create(self, reference: str, request: ExecRequest) -> Exec:
        """Register a command. :raises Conflict: the container does not run."""
        record = self._state.find_container(reference)
        if record.status is not ContainerStatus.RUNNING:
            raise Conflict(f"container {record.id} is not running")
        if not request.command.arguments:
            raise InvalidParameter("No exec command specified")
        made = Exec(ProcessID(secrets.token_hex(32)), record.id, request)
        own = record.definition.command
        asked = request.command
        process = merging.process(
            replace(
                asked,
                environment=(*own.environment, *asked.environment),
                working_directory=asked.working_directory or own.working_directory,
                user=asked.user or own.user,
                groups=() if asked.user else own.groups,
            )
        )
        self._execs.exec_create(
            ExecSpec(made.id, ProcessID(record.id), process, privileged=request.privileged)
        )
        self._keep(made)
        self._endings.tell(
            f"exec_create: {' '.join(asked.arguments or ())}", record, {"execID": made.id}
        )
        return made

    def _keep(self, item: Exec) -> None:
        with self._mutex:
            self._known[item.id] = item
            ended = [key for key, old in self._known.items() if old.exit_code is not None]
            for key in ended[: max(0, len(ended) - _KEPT)]:
                del self._known[key]

    def find(self, exec_id: str) -> Exec:
        """By full id, or an unambiguous beginning. :raises NotFound:"""
        with self._mutex:
            found = [item for key, item in self._known.items() if key.startswith(exec_id)]
        if len(found) != 1 or not exec_id:
            raise NotFound(f"No such exec instance: {exec_id}")
        return found[0]

    def container_of(self, item: Exec) -> ContainerRecord:
        """:raises NotFound: it has gone. :raises Conflict: it does not run any more."""
        record = self._state.container(item.container_id)
        if record is None:
            raise NotFound(f"No such exec instance: {item.id}")
        if record.status is not ContainerStatus.RUNNING:
            raise Conflict(f"container {record.id} is not running")
        return record

    def attach(self, exec_id: str) -> socket.socket:
        """The stream of an exec that is about to start. :raises Conflict: it was started."""
        item = self.find(exec_id)
        self.container_of(item)
        if item.started:
            raise Conflict(f"exec {item.id} has already started")
        request = item.request
        return self._streams.attach(
            item.id,
            stdin=request.attach_stdin,
            stdout=request.attach_stdout,
            stderr=request.attach_stderr,
        )

    def start(self, exec_id: str, rows: int = 0, columns: int = 0) -> None:
        """:raises StartFailed: Docker's text and exit code. :raises Conflict: it was started."""
        item = self.find(exec_id)
        record = self.container_of(item)
        if item.started:
            raise Conflict(f"exec {item.id} has already started")
        item = replace(item, started=True)
        self._keep(item)
        if rows and columns and item.request.command.tty:
            self._streams.resize(item.id, rows, columns)
        arguments = " ".join(item.request.command.arguments or ())
        self._endings.tell(f"exec_start: {arguments}", record, {"execID": item.id})
        try:
            self._execs.exec_start(item.id)
        except StartFailed as error:
            self._keep(replace(item, exit_code=error.exit_code))
            raise

    def resize(self, exec_id: str, rows: int, columns: int) -> None:
        """Set its terminal's size."""
        item = self.find(exec_id)
        self.container_of(item)
        self._streams.resize(item.id, rows, columns)

    def status(self, exec_id: str) -> tuple[Exec, int, bool]:
        """The exec, its pid (0: none) and whether it runs."""
        item = self.find(exec_id)
        try:
            seen = self._execs.exec_status(item.id)
        except NotFound:
            return item, 0, False
        if seen.exit_code is not None and item.exit_code is None and not seen.running:
            item = replace(item, exit_code=seen.exit_code)
            self._keep(item)
        return item, seen.pid, seen.running

    def of_container(self, container_id: SandboxID) -> list[str]:
        """Ids of execs that have not ended, for inspect."""
        with self._mutex:
            return [
                item.id
                for item in self._known.values()
                if item.container_id == container_id and item.exit_code is None
            ]

    def ended(self, event: RuntimeEvent) -> None:
        """The runtime tells of an exec that ended."""
        with self._mutex:
            item = self._known.get(event.id)
        if item is not None:
            self._keep(replace(item, exit_code=event.exit_code))
        record = self._state.container(SandboxID(event.container_id))
        if record is not None:
            more = {"execID": event.id, "exitCode": str(event.exit_code)}
            self._endings.tell("exec_die", record, more)
