"""What is left of a lab, found without netlab: by ip, /proc and the control groups."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path


def remains(name: str, commands: str = "") -> list[str]:
    """Whatever tells of a lab of that name; also processes with ``commands`` in their words."""
    return [
        *(f"netns {word}" for word in _namespaces() if word.startswith(f"{name}.")),
        *(f"link {word}" for word in _links_of_the_machine(name)),
        *(f"mount {line}" for line in _mounts() if f"{name}." in line or f"netlab:{name}:" in line),
        *_processes(name, commands),
        *_control_groups(name),
        *(f"file {path}" for path in Path("/run/netlab").glob(f"{name}*")),
    ]


def _namespaces() -> list[str]:
    done = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in done.stdout.splitlines()]


def _links_of_the_machine(name: str) -> list[str]:
    done = subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True)
    links = json.loads(done.stdout)
    return [link["ifname"] for link in links if f"netlab:{name}:" in link.get("ifalias", "")]


def _control_groups(name: str) -> list[str]:
    """By os.walk, which does not mind that the groups of others go away meanwhile."""
    return [
        f"cgroup {path}/{name}"
        for path, folders, _ in os.walk("/sys/fs/cgroup")
        if path.endswith("/netlab") and name in folders
    ]


def _mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text().splitlines()


def _processes(name: str, commands: str) -> list[str]:
    """By environment (hosts), by mounts (what runs on them), by command line."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        folder = Path("/proc", pid)
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environment = (folder / "environ").read_bytes().decode(errors="replace")
            mounts = (folder / "mounts").read_text()
        except OSError:  # it has ended
            continue
        if (
            f"NETLAB={name}:" in environment
            or f"netlab:{name}:" in mounts
            or (commands and commands in words and "pytest" not in words)
        ):
            found.append(f"process {pid} {words}")
    return found
