"""The floor: the kernel asked by netlink, no daemon, no store, no rules. Nobody can be faster."""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from peers.host import Host

from bench.contenders import CONTAINERS
from cnm.runtime.kernel import pin
from cnm.runtime.kernel.netlink import Netlink
from cnm.runtime.kernel.netns import NetNS

_GATEWAY = IPv4Interface("10.9.0.1/16")
_FIRST = IPv4Address("10.9.1.1")


class Floor(Host):
    """A bridge and pairs, made in place, addressed, up, with a default route."""

    name = "floor"
    lacks: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__("floor", len(CONTAINERS))
        self._host = self._stack.enter_context(NetNS(self.path(self.netns)))
        self._inside = [
            self._stack.enter_context(NetNS(self.path(name))) for name in self.containers
        ]
        self._bridge = 0

    def create(self) -> None:
        host = self._host.netlink()
        host.batch().add_bridge("floor0", up=True).commit()
        self._bridge = host.index("floor0") or 0
        host.batch().add_address(self._bridge, _GATEWAY).commit()

    def remove(self) -> None:
        self._host.netlink().delete_links(["floor0"])

    def attach(self, number: int) -> None:
        inside = self._inside[number]
        self._pair(f"fl{number}", inside.fd)
        _configure(inside.netlink(), number)

    def detach(self, number: int) -> None:
        self._host.netlink().delete_links([f"fl{number}"])

    def attach_all(self) -> None:
        for number in CONTAINERS:
            self.attach(number)

    def detach_all(self) -> None:
        """The kernel takes all of a group in one operation."""
        self._host.netlink().delete_links([f"fl{number}" for number in CONTAINERS])

    def namespace(self, number: int) -> str:
        return self.path(self.containers[number])

    def address(self, number: int) -> str:
        return str(_FIRST + number)

    def run(self, fifo: Path) -> None:
        """A new namespace on the bridge, and in it a process that writes to ``fifo``.

        A container's namespaces and nothing else of it: no root of its own, no limits.
        """
        key = str(self.folder / "netns")
        pin.create(key, lambda: None)
        try:
            with NetNS(key) as inside:
                self._pair("flrun", inside.fd)
                _configure(inside.netlink(), len(CONTAINERS))
                command = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork"]
                command += ["busybox", "sh", "-c", f"echo >{fifo}"]
                inside.run(lambda: subprocess.run(command, check=True))
        finally:
            pin.remove(key)

    def _pair(self, name: str, peer_ns_fd: int) -> None:
        pair = self._host.netlink().batch()
        pair.add_veth(name, peer_name="eth0", peer_ns_fd=peer_ns_fd, master=self._bridge).commit()


def _configure(netlink: Netlink, number: int) -> None:
    index = netlink.index("eth0") or 0
    batch = netlink.batch().add_address(index, IPv4Interface((_FIRST + number, 16)))
    batch.set_link(index, up=True)
    batch.add_route(None, gateway=_GATEWAY.ip, device_index=index).commit()
