"""Daemons on a host: their command lines, what they need, and when they are ready."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from cnm.netlab import model, preloaded, processes
from cnm.netlab.errors import LabError
from cnm.netlab.host import SOCKETS, Host
from cnm.netlab.spawning import Spawner
from cnm.runtime.kernel.netns import NetNS

# A daemon takes 1 s of a processor, under emulation 80 s; twenty share two with others' work.
READY_WITHIN_S = 300.0
_POLL_S = 0.02
_CLIENT_PORT, _PEER_PORT = 2379, 2380  # etcd's
_LOG_LINES = 3


@dataclass(frozen=True, slots=True)
class Launch:
    """How a daemon is started: its command line, and files that are written first."""

    command: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)


def launch(spec: model.Daemon, host: str, addresses: tuple[str, ...]) -> Launch:
    """How a daemon of the lab file is started on a host with these addresses."""
    if spec.kind == "cnm":
        return Launch(
            (preloaded.PROGRAM, "daemon", *spec.flags), {"/etc/cnm/daemon.json": spec.config}
        )
    if spec.kind == "docker":
        # With no containerd of the machine's in sight (/run is the host's) it starts its own.
        return Launch(("dockerd", *spec.flags), {"/etc/docker/daemon.json": spec.config})
    here = addresses[0] if addresses else "127.0.0.1"
    here = f"[{here}]" if ":" in here else here
    own = (
        *("--name", host, "--data-dir", "/var/lib/etcd"),
        *("--listen-client-urls", f"http://0.0.0.0:{_CLIENT_PORT}"),
        *("--advertise-client-urls", f"http://{here}:{_CLIENT_PORT}"),
        *("--listen-peer-urls", f"http://0.0.0.0:{_PEER_PORT}"),
        *("--initial-advertise-peer-urls", f"http://{here}:{_PEER_PORT}"),
        *("--initial-cluster", f"{host}=http://{here}:{_PEER_PORT}"),
    )
    return Launch(("etcd", *own, *spec.flags))


def start(
    host: Host, spec: model.Daemon, spawner: Spawner, addresses: tuple[str, ...] = ()
) -> bool:
    """Start a daemon that does not run; whether it had to be. It is not ready yet.

    :raises LabError: it cannot be run.
    """
    if processes.running(host.root, spec.kind) is not None:
        return False
    how = launch(spec, host.name, addresses)
    for path, text in how.files.items():
        file = host.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    ours = how.command[0] == preloaded.PROGRAM
    spawner.process(host, spec.kind, how.command, processes.environment(), ours=ours)
    return True


def wait_until_ready(host: Host, spec: model.Daemon) -> None:
    """Wait until a daemon answers.

    :raises LabError: it ended, or does not answer in time; with the end of its log.
    """
    ready = _etcd_answers if spec.kind == "etcd" else _engine_answers
    deadline = time.monotonic() + READY_WITHIN_S
    while not ready(host, spec.kind):
        if processes.running(host.root, spec.kind) is None:
            raise _failed(host, spec.kind, "ended")
        if time.monotonic() > deadline:
            raise _failed(host, spec.kind, f"does not answer after {READY_WITHIN_S:g} s")
        time.sleep(_POLL_S)


def _failed(host: Host, kind: str, what: str) -> LabError:
    lines = host.log(kind).strip().splitlines()[-_LOG_LINES:]
    said = " | ".join(lines) or "its log is empty"
    return LabError(f"{host.name}: {kind} {what}: {said} (log: {host.log_file(kind)})")


def _engine_answers(host: Host, kind: str) -> bool:
    if not Path(f"{host.root}{SOCKETS[kind]}").exists():
        return False
    with host.api(kind) as api:
        return api.answers()


def _etcd_answers(host: Host, kind: str) -> bool:
    with NetNS(f"/proc/{host.pid}/ns/net") as space:
        return space.run(_is_listened_to)


def _is_listened_to() -> bool:
    try:
        socket.create_connection(("127.0.0.1", _CLIENT_PORT), timeout=1).close()
    except OSError:
        return False
    return True
