"""A specification checked and turned into a plan: everything that can be decided beforehand."""

from __future__ import annotations

import base64
import os

from cnm.errors import InvalidParameter, Unavailable
from cnm.runtime.container import capabilities, limits, mountinfo, mountoptions
from cnm.runtime.container.plan import Confinement, ContainerPlan, ExecPlan
from cnm.runtimeapi import Bind, ContainerSpec, ExecSpec, ProcessSpec, Propagation, Security

# Docker's name, then Debian's. Static: it runs in any image.
_INIT_PROGRAMS = ("/usr/bin/docker-init", "/usr/bin/tini-static")
_ID_DIGITS = frozenset("0123456789abcdef")


def container(spec: ContainerSpec) -> ContainerPlan:
    """:raises InvalidParameter: with Docker's text where it has one."""
    _check_id(spec.id)
    _check_process(spec.process)
    limits.check_limits(spec.limits, os.cpu_count() or 1)
    for bind in spec.binds:
        _check_bind(bind)
    for tmpfs in spec.tmpfs:
        mountoptions.tmpfs(tmpfs.options)
    if not spec.root.lower:
        raise InvalidParameter("a container needs at least one layer")
    own_network = spec.own_network and bool(spec.network_namespace)
    return ContainerPlan(
        spec,
        confinement(spec.security),
        limits.effective_sysctls(spec.sysctls, own_network=own_network),
        _init_program() if spec.init else "",
    )


def execution(spec: ExecSpec, held: Security) -> ExecPlan:
    """An exec is held like its container, unless it is privileged.

    :raises InvalidParameter: with Docker's text.
    """
    _check_id(spec.id)
    if not spec.process.arguments:
        raise InvalidParameter("No exec command specified")
    _check_process(spec.process)
    return ExecPlan(spec, confinement(Security(privileged=True) if spec.privileged else held))


def confinement(security: Security) -> Confinement:
    """Capabilities and filter of a process."""
    granted = capabilities.granted(security)
    if security.seccomp not in ("default", "unconfined"):
        raise InvalidParameter(
            f"opening seccomp profile ({security.seccomp}) failed: use default or unconfined"
        )
    free = security.privileged or security.seccomp == "unconfined"
    program = b"" if free else _filter(granted)
    return Confinement(granted, base64.b64encode(program).decode(), security.no_new_privileges)


def _filter(granted: int) -> bytes:
    # its library is looked for by two processes (ctypes.util), 10 ms that a daemon's start can save
    from cnm.runtime.container import seccomp

    return seccomp.program(granted)


def _check_id(text: str) -> None:
    if len(text) != 64 or not set(text) <= _ID_DIGITS:
        raise InvalidParameter(f"{text!r} is no id: it has 64 hexadecimal digits")


def _check_process(process: ProcessSpec) -> None:
    if not process.arguments or not process.arguments[0]:
        raise InvalidParameter("No command specified")
    if not process.working_directory.startswith("/"):
        raise InvalidParameter(
            f"the working directory '{process.working_directory}' is invalid,"
            " it needs to be an absolute path"
        )
    for text in (*process.arguments, *process.environment):
        if "\0" in text:
            raise InvalidParameter("arguments and environment cannot hold a NUL byte")


def _check_bind(bind: Bind) -> None:
    for path in (bind.source, bind.destination):
        if not path.startswith("/"):
            raise InvalidParameter(
                f"invalid mount config for type \"bind\": invalid mount path: '{path}'"
                " mount path must be absolute"
            )
    if os.path.normpath(bind.destination) == "/":
        raise InvalidParameter("invalid volume specification: destination can't be '/'")
    if not bind.make_source and not os.path.exists(bind.source):
        raise InvalidParameter(
            f'invalid mount config for type "bind": bind source path does not exist: {bind.source}'
        )
    if bind.propagation is Propagation.SLAVE:
        _check_followed(bind.source)


def _check_followed(source: str) -> None:
    """:raises InvalidParameter: nothing that is mounted there later would show."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        mountpoint, propagates = mountinfo.holder(file.read(), os.path.realpath(source))
    if not propagates:
        raise InvalidParameter(
            f"path {source} is mounted on {mountpoint} but it is not a shared or slave mount"
        )


def _init_program() -> str:
    for path in _INIT_PROGRAMS:
        if os.path.exists(path):
            return path
    raise Unavailable("--init needs the program tini-static: install the package tini")
