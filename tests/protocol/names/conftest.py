"""A host whose only way out leads to a name server; containers that ask."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dnslib
import pytest
from kernel.dns.upstreams import Seen, Server
from kernel.namespaces import Namespace
from livedaemon import LiveDaemon, run

OUTSIDE = "198.18.0.53"
WORLD = "www.example.com"
WORLD_ADDRESS = "198.51.100.7"
MUSL = Path(__file__).with_name("lookup.c")


class Host(LiveDaemon):
    """A daemon with an outside: one name server, which knows one name."""

    def __init__(self, folder: Path, *flags: str) -> None:
        super().__init__(folder, ("--dns", OUTSIDE, *flags))
        self.outside = self.namespace("outside")
        run("ip", "-n", self.netns, "link", "set", "lo", "up")
        self._ip("link add up0 type veth peer name eth0 netns " + self.outside)
        self._ip("address add 198.18.0.1/24 dev up0; link set up0 up")
        self._ip("route add default via 198.18.0.53")
        self._ip(
            "link set lo up; address add 198.18.0.53/24 dev eth0; link set eth0 up", outer=True
        )
        self._ip("address add 198.18.0.54/24 dev eth0", outer=True)

    def _ip(self, commands: str, *, outer: bool = False) -> None:
        Namespace(self.outside if outer else self.netns).sh(commands)

    def end_containers(self) -> None:
        """All of the runtime's; adopted ones stay."""
        names = self.cnm("ps", "-aq").stdout.split()
        if names:
            self.cnm("rm", "-f", *names, check=False)

    def run(self, name: str, network: str, *flags: str) -> None:
        """A container that waits."""
        self.cnm(*("run", "-d", "--name", name, "--network", network, *flags), *WAITING)

    def at(self, container: str, command: str, *, check: bool = True) -> str:
        """What a command says in a container."""
        return self.cnm("exec", container, *shlex.split(command), check=check).stdout

    def dig(self, container: str, *question: str) -> list[str]:
        """The answers to a question, sorted."""
        command = f"dig +short +time=5 +tries=1 {' '.join(question)}"
        return sorted(self.at(container, command, check=False).split())

    def status(self, container: str, *question: str) -> str:
        """``NOERROR``, ``NXDOMAIN`` …"""
        text = self.at(container, f"dig +time=5 +tries=1 {' '.join(question)}", check=False)
        return text.partition("status: ")[2].partition(",")[0]

    def address(self, container: str, network: str) -> str:
        """A container's IPv4 address, as the API tells it."""
        path = f"/containers/{container}/json"
        networks = self.http("GET", path).document["NetworkSettings"]["Networks"]
        return str(networks[network]["IPAddress"])

    def resolv_conf(self, container: str) -> str:
        return self.at(container, "cat /etc/resolv.conf")


WAITING = ("host", "sleep", "1000000")


def one_name(seen: Seen) -> list[bytes]:
    """``www.example.com`` has an address; nothing else is there."""
    reply = seen.parsed.reply()
    if str(reply.q.qname).lower() != f"{WORLD}.":
        reply.header.rcode = dnslib.RCODE.NXDOMAIN
    elif reply.q.qtype == dnslib.QTYPE.A:
        reply.add_answer(dnslib.RR(reply.q.qname, rdata=dnslib.A(WORLD_ADDRESS), ttl=60))
    return [bytes(reply.pack())]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """For all tests of a file; each makes networks and containers with names of its own."""
    with Host(tmp_path_factory.mktemp("n")) as daemon:
        daemon.start()
        yield daemon
        daemon.end_containers()


@pytest.fixture(scope="module")
def world(host: Host) -> Iterator[Server]:
    """The name server outside, and what it was asked."""
    with Server(Namespace(host.outside), OUTSIDE, one_name) as server:
        yield server


@pytest.fixture(scope="session")
def musl(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that looks names up by musl's resolver, as Alpine's programs do."""
    program = tmp_path_factory.mktemp("musl") / "lookup"
    subprocess.run(["musl-gcc", "-static", "-O1", "-o", program, MUSL], check=True)
    return str(program)
