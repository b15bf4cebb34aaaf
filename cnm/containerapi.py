"""Containers of the runtime as the store keeps them: what was asked for, and what became of it.

A container is a :class:`ContainerRecord` and, where it has a network stack of its own, a
``SandboxRecord`` of the same id and name with ``adopted=False``. Its networks are endpoints
of that sandbox: reserved while it is stopped, attached while it runs.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cnm.idmap import IdMap
from cnm.imageapi import ImageID
from cnm.runtimeapi import Bind, Limits, ResourceLimit, Security, Tmpfs
from cnm.types import EndpointRequest, IPAddress, Phase, PortBinding, SandboxID

HOST_MODE = "host"
NO_NETWORK = "none"
DEFAULT_NETWORK = "bridge"
SHARED_PREFIX = "container:"

STOP_TIMEOUT_S = 10.0  # Docker's, between the stop signal and SIGKILL
LOST_EXIT_CODE = 255  # Docker's, for a container that did not survive its host


class ContainerStatus(enum.StrEnum):
    """The words of the Engine API; ``paused`` and ``dead`` never occur here."""

    CREATED = "created"
    RUNNING = "running"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"


class UsernsMode(enum.StrEnum):
    """Whose users a container has. ``default``: what the daemon's settings say."""

    DEFAULT = ""
    HOST = "host"
    PRIVATE = "private"


class RestartMode(enum.StrEnum):
    """Docker's policies."""

    NO = "no"
    ALWAYS = "always"
    UNLESS_STOPPED = "unless-stopped"
    ON_FAILURE = "on-failure"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """``maximum_retries`` counts for on-failure only; 0: no limit."""

    mode: RestartMode = RestartMode.NO
    maximum_retries: int = 0


@dataclass(frozen=True, slots=True)
class HostEntry:
    """One ``--add-host``. Without an address: ``host-gateway``."""

    name: str
    address: IPAddress | None = None


@dataclass(frozen=True, slots=True)
class NameService:
    """What a container is told about names: resolv.conf and hosts."""

    servers: tuple[IPAddress, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    hosts: tuple[HostEntry, ...] = ()
    links: tuple[tuple[str, str], ...] = ()  # container as asked for, alias


@dataclass(frozen=True, slots=True)
class Command:
    """What runs. ``None``: not said, the image's counts."""

    entrypoint: tuple[str, ...] | None = None
    arguments: tuple[str, ...] | None = None
    environment: tuple[str, ...] = ()
    working_directory: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False


@dataclass(frozen=True, slots=True)
class LogLimits:
    """``--log-opt``. 0 bytes: no rotation."""

    max_size_bytes: int = 0
    max_files: int = 1
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class ContainerDefinition:
    """What the user asked of a container.

    ``network_mode`` is ``host``, ``none``, ``container:REFERENCE`` or a network. The keys of
    ``endpoints`` are networks as the user wrote them. ``config`` and ``host_config`` are
    the Engine API's objects, for inspect.
    """

    image: str
    command: Command = Command()
    hostname: str = ""
    domainname: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    network_mode: str = DEFAULT_NETWORK
    endpoints: Mapping[str, EndpointRequest] = field(default_factory=dict)
    names: NameService = NameService()
    exposed_ports: tuple[str, ...] = ()
    ports: tuple[PortBinding, ...] = ()  # at its creation; later its sandbox's ``publish`` counts
    publish_all: bool = False
    binds: tuple[Bind, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    security: Security = Security()
    userns: UsernsMode = UsernsMode.DEFAULT
    limits: Limits = Limits()
    resource_limits: tuple[ResourceLimit, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = False
    init: bool = False
    shm_size_bytes: int = 64 << 20
    oom_score_adj: int = 0
    log: LogLimits = LogLimits()
    restart: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    stop_signal: str = ""  # "": the image's, or SIGTERM
    stop_timeout_s: float | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    host_config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container as the store keeps it. Times are nanoseconds since the epoch, 0: never.

    ``definition`` has the image's part merged in. ``exit_code`` and the rest of the life
    are the last run's. ``stopped_by_user``: no policy starts it again but ``always``, and
    that only with the daemon. ``network_mode`` in it names another container by full id.
    """

    id: SandboxID
    name: str
    phase: Phase
    created_ns: int
    image_id: ImageID
    definition: ContainerDefinition
    status: ContainerStatus = ContainerStatus.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_ns: int = 0
    finished_ns: int = 0
    restart_count: int = 0
    stopped_by_user: bool = False
    ids: IdMap | None = None  # the last run's, where it had a user namespace
    left_none: bool = False  # made on the network none, and disconnected from it since

    @property
    def predefined(self) -> str | None:
        """The network without endpoints that it is on: ``host``, ``none``, or neither."""
        mode = self.definition.network_mode
        return mode if mode == HOST_MODE or (mode == NO_NETWORK and not self.left_none) else None

    @property
    def own_stack(self) -> bool:
        """Whether it has a network namespace of its own."""
        mode = self.definition.network_mode
        return mode != HOST_MODE and not mode.startswith(SHARED_PREFIX)

    @property
    def shares_with(self) -> SandboxID | None:
        """The container whose network namespace it uses."""
        mode = self.definition.network_mode
        if not mode.startswith(SHARED_PREFIX):
            return None
        return SandboxID(mode.removeprefix(SHARED_PREFIX))

    @property
    def alive(self) -> bool:
        """Whether Docker calls it running: also between two runs of a restarting one."""
        return self.status in (ContainerStatus.RUNNING, ContainerStatus.RESTARTING)


@dataclass(frozen=True, slots=True)
class ContainerSettings:
    """Where containers have their files, and the daemon's defaults for them.

    ``hidden_paths``: what a container on the image ``host`` must not see. ``ids``: of containers in
    user namespaces; ``remapped``: all are in one that do not say otherwise.
    """

    root: Path
    namespaces: Path
    hidden_paths: tuple[str, ...] = ()
    ids: IdMap | None = None
    remapped: bool = False
    dns: tuple[IPAddress, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    host_gateway: IPv4Address | None = None  # None: the default bridge's address
