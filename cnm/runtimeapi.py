"""What the daemon asks of the runtime: processes in containers, their terminals and logs.

The runtime is handed a network namespace and a root; it knows neither networks nor
images. A *process id* here is either a container's id (its first process) or an exec's
id: ``wait``, ``kill``, ``attach`` and ``resize`` take both, so that whoever streams one can
stream the other.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NewType, Protocol

from cnm.idmap import IdMap

ProcessID = NewType("ProcessID", str)  # 64 hex digits: of a container or of an exec

UNKNOWN_EXIT_CODE = 137  # the supervisor died and the kernel could not tell the exit code


class ContainerState(enum.StrEnum):
    """Docker's words, as far as the runtime knows them."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


class WaitCondition(enum.StrEnum):
    """What ``wait`` waits for, as in the Engine API."""

    NOT_RUNNING = "not-running"
    NEXT_EXIT = "next-exit"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class RootFS:
    """Layers of the root, topmost first, and the writable layer's two directories.

    ``lower`` may be ``("/",)``: the machine's own root, without what is mounted in it.
    ``work`` must be empty and on the file system of ``upper``; ``upper`` may lie within
    ``lower``, the reverse the kernel refuses.
    """

    lower: tuple[str, ...]
    upper: str
    work: str
    read_only: bool = False


class Propagation(enum.StrEnum):
    """Whether a bind shows what is mounted in its source later. Never the other way round."""

    PRIVATE = "rprivate"
    SLAVE = "rslave"


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the host, shown in the container.

    A missing source is made as a directory where ``make_source`` says so (Docker's ``-v``).
    ``recursive``: with what is mounted in it. ``mapped``: in a user namespace its files belong to
    whom they belong to outside; otherwise to nobody, as with Docker.
    """

    source: str
    destination: str
    read_only: bool = False
    make_source: bool = False
    propagation: Propagation = Propagation.PRIVATE
    recursive: bool = True
    mapped: bool = False


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A file system in memory. ``options`` are mount(8)'s words, in order; a later one counts.

    ``noexec``, ``nosuid`` and ``nodev`` unless said otherwise, as Docker's.
    """

    destination: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Control group limits; 0 means none.

    ``memory_swap_bytes`` counts memory and swap together; 0 with a memory limit means
    twice that limit, -1 means no limit, as Docker has it.
    """

    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    cpus: float = 0.0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class ResourceLimit:
    """One ``setrlimit``, by Docker's name (``nofile``)."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Where the container's output goes. ``max_size_bytes`` 0: no rotation."""

    path: str
    max_size_bytes: int = 0
    max_files: int = 1


@dataclass(frozen=True, slots=True)
class Security:
    """What the processes of a container may do beyond, or less than, Docker's default.

    ``seccomp`` is ``default`` or ``unconfined``.
    """

    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    no_new_privileges: bool = False
    seccomp: str = "default"


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A command. ``environment`` holds ``NAME=value`` in order; the last of a name wins.

    ``user`` is ``name|uid[:group|gid]``, looked up in the container's own files.
    ``stdin_once`` closes standard input when the first one attached to it goes.
    """

    arguments: tuple[str, ...]
    environment: tuple[str, ...] = ()
    working_directory: str = "/"
    user: str = ""
    groups: tuple[str, ...] = ()
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = True
    rows: int = 0
    columns: int = 0


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """All that the runtime is told about a container.

    ``network_namespace`` is a path; empty means the daemon's own. ``own_network`` says
    that the namespace is this container's, so that sysctls of the network are its to set.
    ``ids``: it runs in the user namespace that the network namespace belongs to, which has these.
    ``hidden_paths`` are covered with an empty directory or file if they exist in the root
    (the daemon's own directories, for ``lower=("/",)``).
    """

    id: ProcessID
    process: ProcessSpec
    root: RootFS
    hostname: str = ""
    domainname: str = ""
    network_namespace: str = ""
    own_network: bool = True
    ids: IdMap | None = None
    binds: tuple[Bind, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    hidden_paths: tuple[str, ...] = ()
    security: Security = Security()
    limits: Limits = Limits()
    resource_limits: tuple[ResourceLimit, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    log: LogOptions | None = None
    init: bool = False
    shm_size_bytes: int = 64 << 20
    oom_score_adj: int = 0


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """A further command in a running container."""

    id: ProcessID
    container_id: ProcessID
    process: ProcessSpec
    privileged: bool = False


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """A container as its supervisor knows it; times are nanoseconds since the epoch, 0: never.

    ``exit_known`` is false where nobody was there to learn the code (see
    ``UNKNOWN_EXIT_CODE``). ``log_dropped`` counts bytes that could not be written.
    """

    id: ProcessID
    state: ContainerState = ContainerState.CREATED
    pid: int = 0
    exit_code: int = 0
    exit_known: bool = True
    oom_killed: bool = False
    error: str = ""
    started_ns: int = 0
    finished_ns: int = 0
    log_dropped: int = 0
    pending: bool = False  # start is under way


@dataclass(frozen=True, slots=True)
class ExecStatus:
    """An exec as its supervisor knows it; ``exit_code`` is None until it ended."""

    id: ProcessID
    container_id: ProcessID
    pid: int = 0
    running: bool = False
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """``kind`` is start, exit, oom, destroy, exec_start or exec_exit."""

    kind: str
    id: ProcessID
    container_id: ProcessID
    exit_code: int = 0
    time_ns: int = 0


@dataclass(frozen=True, slots=True)
class OrphanContainer:
    """Kernel objects that carry our mark and belong to no container that we know."""

    id: str
    paths: tuple[str, ...]  # control groups and directories


class ContainerRuntime(Protocol):
    """The life of containers. Every call may be made from any thread."""

    def create(self, spec: ContainerSpec) -> None:
        """Register a container; checks the whole spec, starts nothing.

        :raises InvalidParameter: a limit, capability, sysctl or bind makes no sense.
        :raises Conflict: the id is in use.
        """

    def start(self, container_id: ProcessID) -> ContainerStatus:
        """Start its first process; returns when the command itself runs.

        :raises StartFailed: with Docker's text and exit code; nothing is left running.
        :raises Conflict: it runs.
        """

    def kill(self, process_id: ProcessID, signal: int) -> None:
        """:raises Conflict: it does not run."""

    def stop(self, container_id: ProcessID, signal: int, timeout_s: float) -> ContainerStatus:
        """Send ``signal``, then after ``timeout_s`` SIGKILL (negative: never); waits for the end.

        Not running is success.
        """

    def wait(
        self,
        process_id: ProcessID,
        condition: WaitCondition = WaitCondition.NOT_RUNNING,
        timeout_s: float | None = None,
        established: Callable[[], None] | None = None,
    ) -> int:
        """The exit code, when the condition holds.

        ``established`` is called once an exit can no longer be missed.

        :raises Unavailable: not within ``timeout_s``.
        """

    def status(self, container_id: ProcessID) -> ContainerStatus:
        """:raises NotFound: no such container here."""

    def containers(self) -> Collection[ContainerStatus]:
        """Every container that is registered."""

    def destroy(self, container_id: ProcessID) -> None:
        """Kill what runs and forget it. Gone is success. Root, log and binds stay."""


class Streams(Protocol):
    """Terminals and standard streams."""

    def attach(
        self, process_id: ProcessID, *, stdin: bool, stdout: bool, stderr: bool
    ) -> socket.socket:
        """A stream to the process: what is written is its stdin, what is read its output.

        Output has Docker's 8-byte frames unless the process has a terminal. A shut-down
        of the writing half closes its stdin. Good before the start, too. Ends with the
        process. One who reads too slowly is cut off; the process never waits.
        """

    def resize(self, process_id: ProcessID, rows: int, columns: int) -> None:
        """Set a terminal's size; before the start it is kept for it."""


class Execs(Protocol):
    """Further commands in running containers."""

    def exec_create(self, spec: ExecSpec) -> None:
        """Register an exec, so that it can be attached to before it starts.

        :raises Conflict: the container does not run.
        """

    def exec_start(self, exec_id: ProcessID) -> ExecStatus:
        """:raises StartFailed: with Docker's text and exit code."""

    def exec_status(self, exec_id: ProcessID) -> ExecStatus:
        """:raises NotFound: no such exec, or its container was started anew."""


class RuntimeWatch(Protocol):
    """What a daemon needs to follow containers and to mend."""

    def processes(self, container_id: ProcessID) -> Collection[int]:
        """Host pids of everything that runs in it."""

    def watch(self, changed: Callable[[RuntimeEvent], None]) -> Callable[[], None]:
        """Call ``changed`` from a thread of its own for each event; returns the stop.

        After the supervisor was lost and found again, one ``sync`` event without ids says
        that events may have been missed.
        """

    def orphans(self) -> Collection[OrphanContainer]:
        """What carries the mark of this runtime's directory and no container accounts for."""

    def remove_orphan(self, orphan: OrphanContainer) -> None:
        """Kill its processes, remove its control groups and directories. Gone is success."""
