"""A real Podman on a host of its own, its networks made by a CNI plugin.

Podman is no daemon: each command is a process in the host's namespace. What it keeps lies in
one folder; the namespaces of its containers are mounts below ``/run/netns``, which go with
the containers.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from livedaemon import Completed, run
from peers.dockerd import remove_control_groups

# conmon must not hold the ports that the plugin publishes; the machine may not raise limits
_CONFIGURATION = """\
[network]
network_backend = "cni"
cni_plugin_dirs = ["{plugins}"]
network_config_dir = "{networks}"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "none"
enable_port_reservation = false
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
"""
_APPLETS = ("sh", "sleep", "ping", "nslookup", "cat", "wget", "httpd", "ip")


class Podman:
    """``with`` it. ``host``: the daemon's socket.

    It stands in the networks' configuration and not in the environment, since conmon, which
    calls ``podman container cleanup`` for a container that ended, hands no variable on.
    """

    def __init__(self, netns: str, plugin: Path, host: str) -> None:
        self._netns = netns
        self._host = host
        self.folder = Path(tempfile.mkdtemp(prefix="cnmp-"))
        self._groups = self.folder.name
        self._environment = {
            **os.environ,
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
        }
        (self.folder / "plugins").mkdir()
        (self.folder / "networks").mkdir()
        (self.folder / "plugins" / plugin.name).symlink_to(plugin)
        text = _CONFIGURATION.format(
            plugins=self.folder / "plugins", networks=self.folder / "networks"
        )
        (self.folder / "containers.conf").write_text(text)

    def network(self, name: str, **conf: Any) -> None:
        """A network of one plugin, which is told all that Podman can tell."""
        capabilities = dict.fromkeys(("portMappings", "ips", "mac", "aliases"), True)
        plugin = {
            "type": "cnm-cni",
            "host": self._host,
            "capabilities": capabilities,
            **conf,
        }
        document = {"cniVersion": "1.0.0", "name": name, "plugins": [plugin]}
        (self.folder / "networks" / f"{name}.conflist").write_text(json.dumps(document))

    def import_image(self, name: str = "bb") -> None:
        """An image with one static busybox in it."""
        root = self.folder / "image"
        (root / "bin").mkdir(parents=True)
        shutil.copy(Path(shutil.which("busybox") or "/bin/busybox").resolve(), root / "bin/busybox")
        for applet in _APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        archive = self.folder / "image.tar"
        run("tar", "-C", str(root), "-cf", str(archive), ".")
        self("import", "--quiet", str(archive), name)

    def start(self, name: str, *flags: str, network: str) -> None:
        """A container that sleeps."""
        words = ("--name", name, "--network", network, "--cgroup-parent", self._groups)
        self("run", "-d", *words, *flags, "bb", "/bin/sleep", "600")

    def __call__(self, *arguments: str, check: bool = True) -> Completed:
        """``podman …``"""
        folder = self.folder
        places = ("--root", f"{folder}/root", "--runroot", f"{folder}/run")
        command = ("nsenter", f"--net=/run/netns/{self._netns}", "podman", *places)
        more = ("--tmpdir", f"{folder}/tmp", "--storage-driver", "vfs")
        return run(*command, *more, *arguments, check=check, environment=self._environment)

    def __enter__(self) -> Self:
        self.import_image()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(subprocess.SubprocessError, AssertionError):
            self("rm", "--all", "--force", "--time", "0", check=False)
        remove_control_groups(self._groups)
        shutil.rmtree(self.folder, ignore_errors=True)
