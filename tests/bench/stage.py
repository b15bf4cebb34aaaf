"""Who stands on the stage of a run: our daemon, those peers that are installed, the floor."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from peers.api import Api
from peers.cni import Cni
from peers.cni import find as find_plugin
from peers.cnmd import Cnmd
from peers.dockerd import Dockerd, import_busybox
from peers.netavark import Netavark
from peers.netavark import find as find_netavark

import cnm
from bench.catalogue import BATCH
from bench.contenders import CniContender, Contender, Engine, NetavarkContender
from bench.floor import Floor

POOL = "base=10.128.0.0/9,size=24"  # room for hundreds of networks without naming subnets
IMAGE = "busybox"
_AS_EVER = ("--sweep-interval", "30")  # as people run it


class Peers:
    """Everybody, from ``with`` to its end; a peer that is not installed is None.

    Each has a host of its own; ``contenders`` are those that have containers ``c0`` to ``c29``
    (a daemon's) and can attach them. ``rounds``: how often a module repeats what is short.
    """

    cnm: Cnmd
    floor: Floor
    docker: Dockerd | None = None
    netavark: Netavark | None = None
    cni: Cni | None = None

    def __init__(self, rounds: int, *, with_docker: bool = True) -> None:
        self.rounds = rounds
        self.contenders: list[Contender] = []
        self._with_docker = with_docker
        self._stack = ExitStack()

    def engines(self) -> list[tuple[str, Api]]:
        """Those with Docker's API, by their names."""
        found = [("cnm", self.cnm.api)]
        return [*found, ("docker", self.docker.api)] if self.docker is not None else found

    def versions(self) -> dict[str, str]:
        """Of everybody that is here."""
        found = {"cnm": cnm.__version__}
        if self.docker is not None:
            found["docker"] = str(self.docker.api.call("GET", "/version")["Version"])
        if self.netavark is not None:
            found["netavark"] = _said(str(find_netavark("netavark")), "--version").split()[-1]
        if self.cni is not None:  # the plugins do not know theirs
            found["cni"] = _said("dpkg-query", "-Wf", "${Version}", "containernetworking-plugins")
        return found

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _begin(self) -> None:
        self.cnm = self._stack.enter_context(Cnmd("--default-address-pool", POOL, *_AS_EVER))
        self._engine("cnm", self.cnm.api, _adopted(self.cnm))
        import_busybox(self.cnm.api, IMAGE)
        if self._with_docker and shutil.which("dockerd"):
            self.docker = self._stack.enter_context(Dockerd())
            import_busybox(self.docker.api, IMAGE)
            self._engine("docker", self.docker.api, _asleep(self.docker))
        if find_netavark("netavark") and find_netavark("aardvark-dns"):
            self.netavark = self._stack.enter_context(Netavark(BATCH))
            self.contenders.append(NetavarkContender(self.netavark))
        if find_plugin("bridge"):
            self.cni = self._stack.enter_context(Cni(BATCH))
            self.contenders.append(CniContender(self.cni))
        self.floor = self._stack.enter_context(Floor())
        self.contenders.append(self.floor)

    def _engine(self, name: str, api: Api, containers: list[tuple[str, str]]) -> None:
        engine = Engine(name, api, containers)
        self._stack.callback(engine.close)
        self.contenders.append(engine)


def _adopted(daemon: Cnmd) -> list[tuple[str, str]]:
    return [
        (name, f"/run/netns/{daemon.adopt(name)}")
        for name in (f"c{number}" for number in range(BATCH))
    ]


def _asleep(daemon: Dockerd) -> list[tuple[str, str]]:
    found = []
    for name in (f"c{number}" for number in range(BATCH)):
        daemon.run(name, IMAGE)
        daemon.api.call("POST", "/networks/none/disconnect", {"Container": name})
        found.append((name, daemon.namespace(name)))
    return found


def _said(*command: str) -> str:
    """What a program says of a version; a question mark where it is not there to be asked."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "?"
    return done.stdout.strip() or "?"
