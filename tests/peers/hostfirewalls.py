"""Real firewalld and ufw in a host of a test's own: nothing of the machine changes.

Each runs in the host's network namespace and in mount and process namespaces of its own, with
folders of its own over ``/run``, ``/var/log``, ``/etc/firewalld``, ``/etc/ufw`` and
``/etc/default/ufw``; firewalld has a private system bus there. When the first process of the
room is killed, all that runs in it goes, and so do the mounts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from patience import patient

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # they are Debian's, and so is their Python
_BUS = "unix:path=/run/dbus/system_bus_socket"
_TIMEOUT_S = patient(60.0)
# $1: a folder. Its first process ends when its standard input does, and with it all others.
_ROOM = """
set -e
cp -a /etc/firewalld "$1/firewalld"
cp -a /etc/ufw "$1/etc-ufw"
cp -a /etc/default/ufw "$1/default-ufw"
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus
mount -t tmpfs tmpfs /var/log
mount --bind "$1/firewalld" /etc/firewalld
mount --bind "$1/etc-ufw" /etc/ufw
mount --bind "$1/default-ufw" /etc/default/ufw
echo ready
read -r _ || true
"""


class HostFirewall(ABC):
    """A mount namespace with room for a firewall, in a network namespace that exists."""

    name: str

    def __init__(self, netns: str) -> None:
        self.netns = netns
        self.folder = Path(tempfile.mkdtemp(prefix="cnmt-fw-"))
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        command = ["nsenter", f"--net=/run/netns/{self.netns}", "unshare", "--mount", "--pid"]
        command += ["--fork", "--kill-child", "--propagation", "private", "--mount-proc"]
        self._process = subprocess.Popen(
            [*command, "sh", "-c", _ROOM, "sh", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment(),
        )
        try:
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "ready\n", "the room is not made"
            self.begin()
        except BaseException:
            self.close()
            raise
        return self

    @abstractmethod
    def begin(self) -> None:
        """Start the firewall itself."""

    @abstractmethod
    def reload(self) -> None:
        """As an administrator does who has changed something."""

    @abstractmethod
    def again(self) -> None:
        """After somebody flushed its rules."""

    @abstractmethod
    def allow(self, port: int) -> None:
        """A port of the host's own."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything in the room."""
        if self._process is not None:
            self._process.kill()  # unshare: its child, the first process of the room, goes with it
            self._process.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str) -> str:
        """What a command says, in the room."""
        done = subprocess.run(
            self._inside(*command),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env=self._environment(),
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def _inside(self, *command: str) -> list[str]:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        (first,) = children.read_text().split()
        return ["nsenter", "-t", first, "--mount", "--net", "--pid", *command]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": _PATH, "DBUS_SYSTEM_BUS_ADDRESS": _BUS}


class Firewalld(HostFirewall):
    """firewalld with its nftables backend and the default zone ``public``."""

    name = "firewalld"

    def begin(self) -> None:
        self.run("dbus-daemon", "--system", "--fork")
        self._start()

    def reload(self) -> None:
        self.run("firewall-cmd", "--reload")

    def again(self) -> None:
        # a reload does not do: it would delete a table that is not there
        self.run("sh", "-c", "kill $(pidof -x firewalld); while pidof -x firewalld; do :; done")
        self._start()

    def _start(self) -> None:
        self.run("firewalld", "--nopid")
        self.run("sh", "-c", "until firewall-cmd --state; do sleep 0.1; done")

    def allow(self, port: int) -> None:
        self.run("firewall-cmd", "--permanent", f"--add-port={port}/tcp")
        self.reload()


class Ufw(HostFirewall):
    """ufw as an administrator switches it on."""

    name = "ufw"

    def begin(self) -> None:
        self.run("ufw", "default", "deny", "incoming")
        self.run("ufw", "--force", "enable")

    def reload(self) -> None:
        self.run("ufw", "reload")

    def again(self) -> None:
        self.reload()

    def allow(self, port: int) -> None:
        self.run("ufw", "allow", f"{port}/tcp")
