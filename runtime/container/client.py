"""The daemon's side of the runtime: checks, resolves, and asks the supervisor.

One connection a call, so that calls may be made from any thread and a long wait stands in
nobody's way. A supervisor that is not there is started; one that was killed is replaced,
and the next one takes the running containers over.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator

from cnm import codec, errors
from cnm.errors import Conflict, StartFailed, Unavailable
from cnm.runtime.container import resolve
from cnm.runtime.container.cgroup import ControlGroups, own_groups
from cnm.runtime.container.state import Places
from cnm.runtime.kernel import packets, resident
from cnm.runtimeapi import (
    ContainerSpec,
    ContainerStatus,
    ExecSpec,
    ExecStatus,
    OrphanContainer,
    ProcessID,
    RuntimeEvent,
    Security,
    WaitCondition,
)

_START_WITHIN_S = 20.0
_RECONNECT_S = 0.2

Answer = tuple[packets.Message, list[int]]


class RuntimeClient:
    """Implements the four protocols of ``cnm.runtimeapi`` for one exec root."""

    def __init__(self, exec_root: str, *, cgroup_parent: str = "cnm") -> None:
        self._places = Places(exec_root)
        self._parent = cgroup_parent
        self._starting = threading.Lock()

    # -- ContainerRuntime

    def create(self, spec: ContainerSpec) -> None:
        """See :class:`cnm.runtimeapi.ContainerRuntime`, here and below."""
        plan = resolve.container(spec)
        self._ask("create", plan=codec.dumps(plan))

    def start(self, container_id: ProcessID) -> ContainerStatus:
        with self._namespace_of(container_id) as path:
            answer = self._ask("start", id=container_id, network_namespace=path)
        return codec.loads(ContainerStatus, str(answer))

    @contextlib.contextmanager
    def _namespace_of(self, container_id: ProcessID) -> Iterator[str]:
        """The namespace by a descriptor of ours: the supervisor may not see where it is pinned.

        A daemon that was started anew by ip-netns(8) has other mounts than its supervisor.
        """
        plan = self._places.read_plan(container_id)
        if plan is None or not plan.spec.network_namespace:
            yield ""
            return
        try:
            descriptor = os.open(plan.spec.network_namespace, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            yield ""  # the supervisor tells what is wrong with it
            return
        try:
            yield f"/proc/{os.getpid()}/fd/{descriptor}"
        finally:
            os.close(descriptor)

    def kill(self, process_id: ProcessID, signal: int) -> None:
        self._ask("kill", id=process_id, signal=int(signal))

    def stop(self, container_id: ProcessID, signal: int, timeout_s: float) -> ContainerStatus:
        try:
            self.kill(container_id, signal)
            self.wait(container_id, timeout_s=timeout_s if timeout_s >= 0 else None)
        except Conflict:
            pass  # it does not run
        except Unavailable:
            self._kill_now(container_id)
        return self.status(container_id)

    def _kill_now(self, container_id: ProcessID) -> None:
        with contextlib.suppress(Conflict):
            self.kill(container_id, signal.SIGKILL)
        self.wait(container_id)

    def wait(
        self,
        process_id: ProcessID,
        condition: WaitCondition = WaitCondition.NOT_RUNNING,
        timeout_s: float | None = None,
        established: Callable[[], None] | None = None,
    ) -> int:
        with self._connect() as link:
            _call(link, "wait", id=process_id, condition=condition.value)
            if established is not None:
                established()
            link.settimeout(timeout_s)
            try:
                code: int = _answer(link)[0]["done"]
            except (TimeoutError, BlockingIOError):  # the latter for a time-out of 0
                raise Unavailable(f"{process_id} did not end within {timeout_s} s") from None
            return code

    def status(self, container_id: ProcessID) -> ContainerStatus:
        return codec.loads(ContainerStatus, str(self._ask("status", id=container_id)))

    def containers(self) -> Collection[ContainerStatus]:
        found = self._ask("list")
        assert isinstance(found, list)
        return [codec.loads(ContainerStatus, text) for text in found]

    def destroy(self, container_id: ProcessID) -> None:
        self._ask("destroy", id=container_id)

    # -- Streams

    def attach(
        self, process_id: ProcessID, *, stdin: bool, stdout: bool, stderr: bool
    ) -> socket.socket:
        with self._connect() as link:
            _, descriptors = _call(
                link, "attach", id=process_id, stdin=stdin, stdout=stdout, stderr=stderr
            )
        return socket.socket(fileno=descriptors[0])

    def resize(self, process_id: ProcessID, rows: int, columns: int) -> None:
        self._ask("resize", id=process_id, rows=rows, columns=columns)

    # -- Execs

    def exec_create(self, spec: ExecSpec) -> None:
        plan = resolve.execution(spec, self._security_of(spec.container_id))
        self._ask("exec_create", plan=codec.dumps(plan))

    def _security_of(self, container_id: ProcessID) -> Security:
        plan = self._places.read_plan(container_id)
        if plan is None:
            raise errors.NotFound(f"No such container: {container_id}")
        return plan.spec.security

    def exec_start(self, exec_id: ProcessID) -> ExecStatus:
        return codec.loads(ExecStatus, str(self._ask("exec_start", id=exec_id)))

    def exec_status(self, exec_id: ProcessID) -> ExecStatus:
        return codec.loads(ExecStatus, str(self._ask("exec_status", id=exec_id)))

    # -- RuntimeWatch

    def processes(self, container_id: ProcessID) -> Collection[int]:
        return self._groups().processes(container_id)

    def watch(self, changed: Callable[[RuntimeEvent], None]) -> Callable[[], None]:
        watcher = _Watcher(self._connect, changed)
        watcher.start()
        return watcher.stop

    def orphans(self) -> Collection[OrphanContainer]:
        known = {status.id for status in self.containers()}
        found = {key: list(paths) for key, paths in self._groups().marked().items()}
        for container_id in self._places.ids():
            found.setdefault(container_id, []).append(self._places.container(container_id))
        return [
            OrphanContainer(container_id, tuple(paths))
            for container_id, paths in sorted(found.items())
            if container_id not in known
        ]

    def remove_orphan(self, orphan: OrphanContainer) -> None:
        self._groups().remove(orphan.id)
        self._places.remove(orphan.id)

    def shutdown(self) -> None:
        """End the supervisor. :raises Conflict: containers run."""
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            link = self._open()
            with link:
                _call(link, "shutdown")
                link.settimeout(_START_WITHIN_S)
                with contextlib.suppress(OSError):
                    link.recv(1)  # the end of its process closes the connection

    def _groups(self) -> ControlGroups:
        return own_groups(self._parent, self._places.exec_root)

    # -- the supervisor

    def _ask(self, name: str, **arguments: object) -> object:
        with self._connect() as link:
            return _call(link, name, **arguments)[0]["done"]

    def _connect(self) -> socket.socket:
        """A connection to the supervisor, which is started if there is none."""
        try:
            return self._open()
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        with self._starting:
            self._places.make()
            place, parent = self._places.resident, ["--cgroup-parent", self._parent]
            return resident.connect_or_start(place, "cnm.runtime.container.protect", parent)

    def _open(self) -> socket.socket:
        return resident.connect(self._places.resident)


class _Watcher(threading.Thread):
    """Follows events; after a lost supervisor it connects anew and says ``sync``."""

    def __init__(
        self, connect: Callable[[], socket.socket], changed: Callable[[RuntimeEvent], None]
    ) -> None:
        super().__init__(name="container events", daemon=True)
        self._connect = connect
        self._changed = changed
        self._stopping = threading.Event()
        self._link: socket.socket | None = None
        self._guard = threading.Lock()
        self._open()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except (OSError, EOFError, errors.CNMError):
                if self._stopping.wait(_RECONNECT_S):
                    break
                self._again()

    def stop(self) -> None:
        """No call comes after this returns, unless it is made from ``changed`` itself."""
        self._stopping.set()
        with self._guard:
            if self._link is not None:
                self._link.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self:
            self.join()
        with self._guard:
            if self._link is not None:
                self._link.close()
                self._link = None

    def _open(self) -> None:
        link = self._connect()
        _call(link, "watch")
        with self._guard:
            if self._link is not None:
                self._link.close()
            self._link = link

    def _again(self) -> None:
        try:
            self._open()
        except (OSError, EOFError, errors.CNMError):
            return
        none = ProcessID("")
        self._changed(RuntimeEvent("sync", none, none, time_ns=time.time_ns()))

    def _follow(self) -> None:
        link = self._link
        assert link is not None
        while not self._stopping.is_set():
            message, _ = packets.receive(link)
            self._changed(codec.loads(RuntimeEvent, message["event"]))


def _call(link: socket.socket, name: str, **arguments: object) -> Answer:
    """One question and its answer."""
    try:
        packets.send(link, {"ask": name, **arguments})
    except (BrokenPipeError, ConnectionResetError) as error:  # the latter if it never accepted us
        raise Unavailable("the container supervisor has ended: try again") from error
    return _answer(link)


def _answer(link: socket.socket) -> Answer:
    try:
        message, descriptors = packets.receive(link)
    except (EOFError, ConnectionResetError) as error:
        raise Unavailable("the container supervisor was lost: try again") from error
    if "failed" in message:
        packets.close_all(descriptors)
        raise _error(message)
    return message, descriptors


def _error(message: packets.Message) -> Exception:
    """The supervisor's exception as one of ours."""
    kind, text = message["failed"], message["text"]
    if kind == StartFailed.__name__:
        return StartFailed(text, message["code"])
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, errors.CNMError):
        with contextlib.suppress(TypeError):
            return found(text)
    return errors.CNMError(text)
