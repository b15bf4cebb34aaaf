"""The CNI plugins as a peer, from Debian's package: bridge with host-local, masquerading.

Called as a container runtime calls them: a process for each ADD and DEL (bridge starts
host-local by itself), the configuration on its standard input. CNI has no verb that makes
a network: the bridge comes with the first ADD and stays.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from peers.host import Host

_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
_VERSION = "0.4.0"


def find(name: str) -> Path | None:
    """A plugin, where distributions put it."""
    return next((folder / name for folder in _FOLDERS if (folder / name).exists()), None)


class Cni(Host):
    """One host with one network and ``containers`` namespaces."""

    def __init__(self, containers: int) -> None:
        bridge = find("bridge")
        if bridge is None:
            raise FileNotFoundError("bridge")
        super().__init__("cni", containers)
        self._bridge = bridge
        self._addresses: dict[int, str] = {}

    def add(self, number: int) -> dict[str, Any]:
        """Attach a container; the plugin's result."""
        result: dict[str, Any] = json.loads(self.plugin("ADD", number, self._bridge, self._wish()))
        self._addresses[number] = result["ips"][0]["address"].partition("/")[0]
        return result

    def delete(self, number: int) -> None:
        """Detach it."""
        self.plugin("DEL", number, self._bridge, self._wish())

    def address(self, number: int) -> str:
        """The one that it was given last."""
        return self._addresses[number]

    def plugin(self, verb: str, number: int, program: Path, wish: dict[str, Any]) -> str:
        """One call of a plugin for a container."""
        environment = {
            # bridge looks for iptables on the path, where an ordinary user's has none
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": f"c{number}",
            "CNI_NETNS": self.path(self.containers[number]),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(program.parent),
        }
        return self.program([str(program)], json.dumps(wish), environment, number)

    def _wish(self) -> dict[str, Any]:
        return {
            "cniVersion": _VERSION,
            "name": "bench",
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self.folder / "leases"),
                "ranges": [[{"subnet": "10.88.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
