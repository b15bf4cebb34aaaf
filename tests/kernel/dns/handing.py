"""A daemon's side of the resolver, with namespaces that stand for containers."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import dnslib
from kernel.namespaces import Namespace, entered, poll, record_of

from cnm.discovery import NamedEndpoint, NetworkNames, SandboxView
from cnm.dns.handover import Handover
from cnm.runtime.kernel.netns import NetNS
from cnm.types import EndpointID, NetworkID, Repair, SandboxID, SandboxRecord

BLUE = NetworkID("b" * 64)
PATIENCE_S = 20.0


class Daemon:
    """One handover after the other on the same exec root; what it was told."""

    def __init__(self, exec_root: Path) -> None:
        self.exec_root = exec_root
        self.gone: list[SandboxID] = []
        self.mended: list[Repair] = []
        self.handover = self._handover()

    def _handover(self) -> Handover:
        made = Handover(str(self.exec_root), patience_s=2.0)
        made.watch(self.gone.append, self.mended.append)
        return made

    def again(self) -> Handover:
        """A daemon that ends, as if killed, and the next one."""
        self.handover.close()
        self.handover = self._handover()
        return self.handover

    @property
    def pid(self) -> int:
        """The process that answers, as the listening socket's owner in the process list."""
        found = [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if _command(path)[-1:] == [os.fsencode(self.exec_root)]
        ]
        assert len(found) == 1, found
        return found[0]

    def ended(self, pid: int) -> bool:
        return not Path(f"/proc/{pid}").exists()

    def kill(self) -> int:
        """The process, by SIGKILL; its pid."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        poll(lambda: self.ended(pid), "the end of the resolver")
        return pid


def _command(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return []


class Box:
    """A container's namespace, and its record."""

    def __init__(self, box: Namespace, *, adopted: bool = True) -> None:
        self.box = box
        with NetNS(box.path) as opened:
            self.record: SandboxRecord = record_of(box, opened.cookie(), adopted=adopted)

    @property
    def id(self) -> SandboxID:
        return self.record.id

    def dig(self, *question: str) -> list[str]:
        asked = ("dig", "+short", "+tries=1", "+timeout=10", "@127.0.0.11", *question)
        return self.box.run(*asked, check=False).split()

    def rules(self) -> str:
        return self.box.run("nft", "list", "ruleset")

    def sockets(self) -> str:
        return self.box.run("ss", "-Hlntu")


def view(*networks: NetworkID) -> SandboxView:
    """These networks and nobody else to ask."""
    return SandboxView(networks, forward=False)


def endpoint(name: str, address: str) -> NamedEndpoint:
    return NamedEndpoint(EndpointID(name * 8), (name,), (ipaddress.ip_address(address),))


def names(*endpoints: NamedEndpoint) -> NetworkNames:
    return NetworkNames(BLUE, "blue", endpoints)


class Clients:
    """Datagrams from inside a namespace: sent now, read later."""

    def __init__(self, box: Namespace, number: int) -> None:
        with ExitStack() as stack, entered(box):
            self._sockets = [
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                for _ in range(number)
            ]
            for each in self._sockets:
                each.settimeout(PATIENCE_S)
                each.connect(("127.0.0.11", 53))
            self._stack = stack.pop_all()

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def send(self, name: str) -> None:
        """Everybody asks."""
        for number, each in enumerate(self._sockets):
            query = dnslib.DNSRecord.question(name)
            query.header.id = number
            each.send(query.pack())

    def answers(self) -> Sequence[str]:
        """What everybody was told; a time-out if somebody was not."""
        found = []
        for number, each in enumerate(self._sockets):
            data = each.recv(4096)
            assert struct.unpack(">H", data[:2]) == (number,)
            found.append(str(dnslib.DNSRecord.parse(data).short()))
        return found
