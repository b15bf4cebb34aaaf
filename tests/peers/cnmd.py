"""Our daemon beside dockerd, and for tests that kill, trace or measure it: verbs over one socket.

``LiveDaemon`` with a folder of its own, a connection that stays open (a command is a
process each time, which is much of what a measured verb would take), and the periodic
sweep out of the way, so that only the test's own calls happen.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from livedaemon import LiveDaemon, run
from peers.api import Api

NEVER_S = "86400"
_SUPERVISOR = "cnm.runtime.container.supervisor"


class Cnmd(LiveDaemon):
    """A daemon on a fresh host; ``with`` starts it and removes it all."""

    def __init__(self, *flags: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix="cnmt-"))
        super().__init__(folder, ("--sweep-interval", NEVER_S, *flags))
        self.api = Api(self.socket)
        self.containers: dict[str, str] = {}  # namespace by name
        run("ip", "-n", self.netns, "link", "set", "lo", "up")

    def __enter__(self) -> Cnmd:
        try:
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.api.close()
        try:
            super().__exit__(kind, error, trace)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def ours(self, method: str, path: str, body: object = None) -> Any:
        """A call beyond Docker's API."""
        return self.api.call(method, path, body, prefix="/cnm/v1")

    def adopt(self, name: str) -> str:
        """A fresh namespace as the container ``name``; the namespace's name."""
        namespace = self.containers[name] = self.namespace(name)
        self.ours("POST", "/adopt", {"Name": name, "Netns": f"/run/netns/{namespace}"})
        return namespace

    def release(self, name: str) -> None:
        """Give a container back."""
        self.ours("POST", f"/containers/{name}/release")

    def sweep(self) -> list[str]:
        """What a comparison of store and kernel repaired just now."""
        rows = self.ours("POST", "/sweep")["Repairs"]
        return [f"{row['Kind']} {row['Name']}: {row['Action']}" for row in rows]

    def create(self, name: str, **wish: object) -> str:
        """A network; its id."""
        return str(self.api.call("POST", "/networks/create", {"Name": name, **wish})["Id"])

    def remove(self, name: str) -> None:
        """Remove a network."""
        self.api.call("DELETE", f"/networks/{name}")

    def connect(self, network: str, container: str, **endpoint: object) -> None:
        """Connect a container."""
        body = {"Container": container, "EndpointConfig": endpoint}
        self.api.call("POST", f"/networks/{network}/connect", body)

    def disconnect(self, network: str, container: str) -> None:
        """Disconnect a container."""
        self.api.call("POST", f"/networks/{network}/disconnect", {"Container": container})

    def helpers(self) -> list[int]:
        """The processes that live beside this daemon, the containers' supervisor apart."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                words = (folder / "cmdline").read_bytes().decode().split("\0")
                if str(self.exec_root) in words and "-m" in words and _SUPERVISOR not in words:
                    found.append(int(folder.name))
        return found

    def helpers_named(self, module: str) -> list[int]:
        """Those that run one module."""
        return [
            pid
            for pid in self.helpers()
            if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        ]

    def prune(self) -> list[str]:
        """Remove all unused networks; their names."""
        return list(self.api.call("POST", "/networks/prune")["NetworksDeleted"] or [])
