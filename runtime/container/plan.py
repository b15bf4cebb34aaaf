"""What the supervisor is handed: a specification, and what was resolved of it beforehand.

All choices (which capabilities, which filter, which sysctls) are made by the client, in the
daemon; the supervisor and its children only carry them out. Both sides and the disk speak
these values as JSON (``cnm.codec``).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from cnm.runtimeapi import ContainerSpec, ContainerState, ExecSpec, ProcessID

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Confinement:
    """How a process is held: capability mask, BPF program in base64 (empty: none)."""

    capabilities: int
    filter: str = ""
    no_new_privileges: bool = False

    @property
    def program(self) -> bytes:
        return base64.b64decode(self.filter)


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """A container ready to be launched. ``init_path`` is the host's init, empty: none."""

    spec: ContainerSpec
    confinement: Confinement
    sysctls: Mapping[str, str] = field(default_factory=dict)
    init_path: str = ""


@dataclass(frozen=True, slots=True)
class ExecPlan:
    """An exec ready to be launched."""

    spec: ExecSpec
    confinement: Confinement


@dataclass(frozen=True, slots=True)
class Saved:
    """A container's state on disk. ``start_time`` (ticks since boot) tells a reused pid.

    ``starting`` with a pid: the command may or may not run yet; without one: it does not.
    """

    id: ProcessID
    boot: str
    state: ContainerState = ContainerState.CREATED
    starting: bool = False
    pid: int = 0
    start_time: int = 0
    exit_code: int = 0
    exit_known: bool = True
    oom_killed: bool = False
    error: str = ""
    started_ns: int = 0
    finished_ns: int = 0


def environment(
    process_environment: tuple[str, ...], hostname: str, *, tty: bool
) -> dict[str, str]:
    """PATH, HOSTNAME and TERM as Docker sets them, then what was asked; a bare name removes."""
    found = {"PATH": DEFAULT_PATH}
    if hostname:
        found["HOSTNAME"] = hostname
    if tty:
        found["TERM"] = "xterm"
    for item in process_environment:
        name, equals, value = item.partition("=")
        if equals:
            found[name] = value
        else:
            found.pop(name, None)
    return found
