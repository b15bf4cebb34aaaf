"""netavark and aardvark-dns (Podman's network stack) as a peer, from Debian's packages.

Called as Podman calls it: a process for each set-up and tear-down, the network's definition
and the container's addresses on its standard input. netavark has no verb that makes a
network: its bridge comes with the first container and goes with the last one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from types import TracebackType

from peers.host import Host

_FOLDERS = (Path("/usr/lib/podman"), Path("/usr/libexec/podman"))  # Debian, Fedora
_SUBNET, _GATEWAY = "10.89.0.0/16", "10.89.0.1"


def find(name: str) -> str | None:
    """The program, where distributions put it."""
    for folder in _FOLDERS:
        if (folder / name).exists():
            return str(folder / name)
    return shutil.which(name)


class Netavark(Host):
    """One host with one network, ``containers`` namespaces and one more that keeps the bridge."""

    def __init__(self, containers: int) -> None:
        program, resolver = find("netavark"), find("aardvark-dns")
        if program is None or resolver is None:
            raise FileNotFoundError("netavark, aardvark-dns")
        super().__init__("netavark", containers + 1)
        self._command = [program, "--config", str(self.folder), "--aardvark-binary", resolver]
        # it looks for iptables on the path, where an ordinary user's has none
        self._environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}

    def setup(self, number: int) -> None:
        """Attach a container."""
        self._call("setup", number)

    def teardown(self, number: int) -> None:
        """Detach it."""
        self._call("teardown", number)

    def address(self, number: int) -> str:
        """The address that Podman would have chosen."""
        return f"10.89.1.{number + 1}"

    def helpers(self) -> list[int]:
        """What stays: the resolver."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return [int((self.folder / "aardvark-dns/aardvark.pid").read_text())]
        return []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pid in self.helpers():  # where a container was left attached
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.close()

    def _call(self, verb: str, number: int) -> None:
        command = [*self._command, verb, self.path(self.containers[number])]
        self.program(command, json.dumps(self._wish(number)), self._environment, number)

    def _wish(self, number: int) -> dict[str, object]:
        name, identity = f"c{number}", hashlib.sha256(f"c{number}".encode()).hexdigest()
        return {
            "container_id": identity,
            "container_name": name,
            "networks": {
                "bench": {
                    "interface_name": "eth0",
                    "static_ips": [self.address(number)],
                    "aliases": [name],
                }
            },
            "network_info": {
                "bench": {
                    "name": "bench",
                    "id": hashlib.sha256(b"bench").hexdigest(),
                    "driver": "bridge",
                    "network_interface": "podman1",
                    "subnets": [{"subnet": _SUBNET, "gateway": _GATEWAY}],
                    "ipv6_enabled": False,
                    "internal": False,
                    "dns_enabled": True,
                    "ipam_options": {"driver": "host-local"},
                }
            },
        }
