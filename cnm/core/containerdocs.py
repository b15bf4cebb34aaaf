"""What inspect and ps show of a container of the runtime, in the newest API's shape."""

from __future__ import annotations

import time
from typing import Any

from cnm.containerapi import ContainerRecord, ContainerStatus
from cnm.core import portdocs
from cnm.core.containerfiles import HOSTNAME, HOSTS, RESOLV_CONF, ContainerFiles
from cnm.core.etc import Etc
from cnm.core.execs import ExecProcesses
from cnm.core.inspect import Document, Inspector, human_duration, timestamp
from cnm.core.state import State
from cnm.runtimeapi import Bind, Tmpfs
from cnm.types import SandboxStatus

NEVER = "0001-01-01T00:00:00Z"
_DRIVER = "overlay2"


class ContainerDocuments:
    """Reads records, writes plain dictionaries."""

    def __init__(
        self,
        state: State,
        inspector: Inspector,
        files: ContainerFiles,
        etc: Etc,
        execs: ExecProcesses,
    ) -> None:
        self._state = state
        self._inspector = inspector
        self._files = files
        self._etc = etc
        self._execs = execs

    def container(self, record: ContainerRecord) -> Document:
        """What inspect shows."""
        command = _arguments(record)
        owner = self._etc.files_of(record)
        return {
            "Id": record.id,
            "Created": timestamp(record.created_ns),
            "Path": command[0] if command else "",
            "Args": command[1:],
            "State": self._state_of(record),
            "Image": record.image_id,
            "ResolvConfPath": str(self._files.path(owner, RESOLV_CONF)),
            "HostnamePath": str(self._files.path(owner, HOSTNAME)),
            "HostsPath": str(self._files.path(owner, HOSTS)),
            "LogPath": str(self._files.log(record.id)),
            "Name": f"/{record.name}",
            "RestartCount": record.restart_count,
            "Driver": _DRIVER,
            "Platform": "linux",
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "ExecIDs": self._execs.of_container(record.id) or None,
            "HostConfig": dict(record.definition.host_config),
            "GraphDriver": {"Data": None, "Name": _DRIVER},
            "Mounts": _mounts(record),
            "Config": self._config(record),
            "NetworkSettings": self._settings(record),
        }

    def _config(self, record: ContainerRecord) -> Document:
        return {
            **record.definition.config,
            "Hostname": self._etc.hostname(record),
            "Domainname": record.definition.domainname,
            "Image": record.definition.image,
        }

    def _state_of(self, record: ContainerRecord) -> Document:
        return {
            "Status": record.status.value,
            "Running": record.alive,
            "Paused": False,
            "Restarting": record.status is ContainerStatus.RESTARTING,
            "OOMKilled": record.oom_killed,
            "Dead": False,
            "Pid": record.pid,
            "ExitCode": record.exit_code,
            "Error": record.error,
            "StartedAt": timestamp(record.started_ns) if record.started_ns else NEVER,
            "FinishedAt": timestamp(record.finished_ns) if record.finished_ns else NEVER,
        }

    def summary(self, record: ContainerRecord) -> Document:
        """An item of the list."""
        wish = record.definition
        return {
            "Id": record.id,
            "Names": [f"/{record.name}"],
            "Image": wish.image,
            "ImageID": record.image_id,
            "Command": " ".join(
                f"'{word}'" if " " in word else word for word in _arguments(record)
            ),
            "Created": record.created_ns // 1_000_000_000,
            "Ports": self._listed_ports(record),
            "Labels": dict(wish.labels),
            "State": record.status.value,
            "Status": status_text(record, time.time_ns()),
            "HostConfig": {"NetworkMode": wish.network_mode},
            "NetworkSettings": {"Networks": self._networks(record)},
            "Mounts": _mounts(record),
        }

    # networks

    def _settings(self, record: ContainerRecord) -> Document:
        settings = self._inspector.settings(record.id)
        running = record.status is ContainerStatus.RUNNING
        exposed = record.definition.exposed_ports
        stack = self._state.sandbox(record.id)
        up = stack is not None and stack.status is SandboxStatus.RUNNING
        return {
            **settings,
            "SandboxID": record.id if up else "",
            "SandboxKey": stack.key if up and stack is not None else "",
            "Ports": portdocs.bound(exposed, self._published(record)) if running else {},
            "Networks": self._networks(record),
        }

    def _networks(self, record: ContainerRecord) -> Document:
        if record.predefined is not None:
            return self._inspector.predefined(record)
        return self._inspector.networks(record.id, self._etc.hostname(record))

    def _listed_ports(self, record: ContainerRecord) -> list[dict[str, Any]]:
        if record.status is not ContainerStatus.RUNNING:
            return []
        return portdocs.listed(record.definition.exposed_ports, self._published(record))

    def _published(self, record: ContainerRecord) -> portdocs.Ports:
        return portdocs.published(self._state, record.id)


def status_text(record: ContainerRecord, now_ns: int) -> str:
    """``Up 3 seconds``, ``Exited (0) 5 minutes ago``, …"""
    match record.status:
        case ContainerStatus.RUNNING:
            return f"Up {_ago(record.started_ns, now_ns)}"
        case ContainerStatus.RESTARTING:
            return f"Restarting ({record.exit_code}) {_ago(record.finished_ns, now_ns)} ago"
        case ContainerStatus.REMOVING:
            return "Removal In Progress"
        case ContainerStatus.EXITED:
            return f"Exited ({record.exit_code}) {_ago(record.finished_ns, now_ns)} ago"
        case _:
            return "Created"


def _ago(then_ns: int, now_ns: int) -> str:
    return human_duration(max(0, (now_ns - then_ns) // 1_000_000_000))


def _arguments(record: ContainerRecord) -> list[str]:
    command = record.definition.command
    return [*(command.entrypoint or ()), *(command.arguments or ())]


def _mounts(record: ContainerRecord) -> list[Document]:
    """As Docker: what ``--tmpfs`` made is in the configuration only."""
    host, wish = record.definition.host_config, record.definition
    modes = dict(text.split(":", 2)[1:] for text in host.get("Binds", ()) if text.count(":") == 2)
    short = host.get("Tmpfs", ())
    binds = [_bind(bind, modes.get(bind.destination, "")) for bind in wish.binds]
    return binds + [_tmpfs(item) for item in wish.tmpfs if item.destination not in short]


def _bind(bind: Bind, mode: str) -> Document:
    return {
        "Type": "bind",
        "Source": bind.source,
        "Destination": bind.destination,
        "Mode": mode,
        "RW": not bind.read_only,
        "Propagation": bind.propagation.value,
    }


def _tmpfs(item: Tmpfs) -> Document:
    return {
        "Type": "tmpfs",
        "Source": "",
        "Destination": item.destination,
        "Mode": "",
        "RW": "ro" not in item.options,
        "Propagation": "",
    }
