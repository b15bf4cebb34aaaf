"""What the daemon says of itself: ``/version`` and ``/info``."""

from __future__ import annotations

import datetime
import os
import platform
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cnm
from cnm.engine.versions import ANNOUNCED, OLDEST


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """Facts that the wiring knows and the API shows."""

    id: str
    root: str
    network_drivers: Sequence[str] = ()
    debug: bool = False
    labels: Sequence[str] = ()
    address_pools: Sequence[tuple[str, int]] = field(default_factory=tuple)
    remapped: bool = False


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def version() -> dict[str, Any]:
    """The document of ``GET /version``. What Go builds have and we have not is empty."""
    kernel = os.uname()
    facts = {
        "ApiVersion": str(ANNOUNCED),
        "MinAPIVersion": str(OLDEST),
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": _ARCHITECTURES.get(kernel.machine, kernel.machine),
        "KernelVersion": kernel.release,
        "BuildTime": "",
    }
    details = {**facts, "Experimental": "false", "Python": platform.python_version()}
    engine = {"Name": "Engine", "Version": cnm.__version__, "Details": details}
    return {
        "Platform": {"Name": "cnm"},
        "Components": [engine],
        "Version": cnm.__version__,
        **facts,
    }


def info(daemon: DaemonInfo, states: Mapping[str, int], images: int) -> dict[str, Any]:
    """The document of ``GET /info``. ``states``: number of containers by state."""
    running = states.get("running", 0) + states.get("restarting", 0)
    return {
        "ID": daemon.id,
        **_machine(),
        "Containers": sum(states.values()),
        "ContainersRunning": running,
        "ContainersPaused": 0,
        "ContainersStopped": sum(states.values()) - running,
        "Images": images,
        "ServerVersion": cnm.__version__,
        "DockerRootDir": daemon.root,
        "Debug": daemon.debug,
        "ExperimentalBuild": False,
        "Labels": list(daemon.labels),
        "Plugins": {
            "Volume": [],
            "Network": list(daemon.network_drivers),
            "Authorization": None,
            "Log": ["json-file", "none"],
        },
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "Error": ""},
        "DefaultAddressPools": [
            {"Base": base, "Size": size} for base, size in daemon.address_pools
        ],
        "FirewallBackend": {"Driver": "nftables"},
        "LiveRestoreEnabled": True,
        "SecurityOptions": _SECURITY + (["name=userns"] if daemon.remapped else []),
        **_process(),
        **_ABSENT,
    }


_SECURITY = ["name=seccomp,profile=builtin", "name=cgroupns"]

# clients read these
_ABSENT: Mapping[str, Any] = {
    "Driver": "overlay2",
    "DriverStatus": [],
    "LoggingDriver": "json-file",
    "CgroupDriver": "cgroupfs",
    "Runtimes": {"cnm": {"path": "cnm"}},
    "DefaultRuntime": "cnm",
    "RegistryConfig": None,
    "HttpProxy": "",
    "HttpsProxy": "",
    "NoProxy": "",
    "Warnings": [],
}


def _machine() -> dict[str, Any]:
    kernel = os.uname()
    return {
        "Name": kernel.nodename,
        "OperatingSystem": _operating_system(),
        "OSType": "linux",
        "Architecture": kernel.machine,
        "KernelVersion": kernel.release,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "IPv4Forwarding": _forwards(),
        "CgroupVersion": "2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1",
    }


def _process() -> dict[str, Any]:
    """What Docker tells of itself when debugging; our threads stand for its goroutines."""
    return {
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": threading.active_count(),
        "SystemTime": datetime.datetime.now().astimezone().isoformat(),
    }


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _forwards() -> bool:
    try:
        return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    except OSError:
        return False
