"""The directory of each container: its writable layer, its log, its own files of /etc.

::

    <root>/containers/<id>/upper, work      the writable layer, for overlayfs
                           <id>-json.log    the log, written by the runtime
                           hostname hosts resolv.conf   bound over the files in /etc
                           resolv.conf.hash             tells whether it was edited since
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from cnm.runtimeapi import Bind, RootFS
from cnm.types import SandboxID

log = logging.getLogger(__name__)

HOSTNAME, HOSTS, RESOLV_CONF = "hostname", "hosts", "resolv.conf"
RESOLV_CONF_HASH = "resolv.conf.hash"  # of what we wrote last
_READABLE = 0o644  # every user of the container reads its /etc/hosts


class ContainerFiles:
    """All containers' directories. ``remove_tree`` deletes a directory whatever is in it."""

    def __init__(self, root: Path, remove_tree: Callable[[Path], None]) -> None:
        self._root = root / "containers"
        self._remove_tree = remove_tree

    def directory(self, container_id: SandboxID) -> Path:
        """Where everything of a container lies."""
        return self._root / container_id

    def log(self, container_id: SandboxID) -> Path:
        """The log; rotated ones have ``.1`` and so on behind."""
        return self.directory(container_id) / f"{container_id}-json.log"

    def path(self, container_id: SandboxID, name: str) -> Path:
        """One of the files of /etc."""
        return self.directory(container_id) / name

    def make(self, container_id: SandboxID) -> None:
        """:raises OSError: the disk is full, …"""
        directory = self.directory(container_id)
        directory.mkdir(mode=0o710, parents=True, exist_ok=True)
        # whoever runs in the container must be able to walk its root
        for name, mode in (("upper", 0o755), ("work", 0o700)):
            (directory / name).mkdir(mode=mode, exist_ok=True)
            (directory / name).chmod(mode)
        for name in (RESOLV_CONF, HOSTNAME, HOSTS):  # filled at each start
            (directory / name).touch(_READABLE)

    def remove(self, container_id: SandboxID) -> None:
        """Gone is success."""
        with contextlib.suppress(FileNotFoundError):
            self._remove_tree(self.directory(container_id))

    def known(self) -> list[SandboxID]:
        """Every container that has a directory."""
        if not self._root.is_dir():
            return []
        return [SandboxID(item.name) for item in self._root.iterdir()]

    def read(self, container_id: SandboxID, name: str) -> str:
        """One of the files of /etc; empty if it is not there."""
        try:
            return self.path(container_id, name).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def write(self, container_id: SandboxID, name: str, text: str) -> None:
        """Write one of the files of /etc in place: it is bound into the container as it is."""
        path = self.path(container_id, name)
        with contextlib.suppress(FileNotFoundError):
            if path.read_text() == text:
                return
        path.write_text(text)
        path.chmod(_READABLE)

    def binds(self, container_id: SandboxID) -> list[Bind]:
        """The files of /etc, where the container sees them."""
        return [
            Bind(str(self.path(container_id, name)), f"/etc/{name}", mapped=True)
            for name in (RESOLV_CONF, HOSTNAME, HOSTS)
        ]

    def root(self, container_id: SandboxID, lower: list[str], *, read_only: bool) -> RootFS:
        """The root file system over an image's directories."""
        directory = self.directory(container_id)
        return RootFS(
            tuple(lower), str(directory / "upper"), str(directory / "work"), read_only=read_only
        )
