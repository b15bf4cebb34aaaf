"""The verbs under torture: how each is made ready, done, and whether it happened.

Every verb starts from the same place (:class:`Scene`) and is brought back to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from livedaemon import run
from peers.api import ApiError
from peers.cnmd import Cnmd
from torture import judge

DUAL: dict[str, Any] = {
    "EnableIPv6": True,
    "IPAM": {
        "Config": [
            {"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.1"},
            {"Subnet": "fd77::/64", "Gateway": "fd77::1"},
        ]
    },
}
PORTS = {"5005", "5006"}
CALM = {"IPAM": {"Config": [{"Subnet": "10.78.0.0/24", "Gateway": "10.78.0.1"}]}}


class Scene:
    """A daemon, two containers on a network that nobody touches, and one that is free."""

    beside = "10.78.0.3"  # whom the first of the two reaches all the time

    def __init__(self, daemon: Cnmd) -> None:
        self.daemon = daemon
        for name in ("left", "right", "free"):
            daemon.adopt(name)
        daemon.create("calm", **CALM)
        daemon.connect("calm", "left")
        daemon.connect("calm", "right")

    def victim(self) -> None:
        """Make the network under torture."""
        self.daemon.create("victim", **DUAL)

    def assert_sound(self) -> None:
        """Store and kernel agree, by the daemon's own word and by the machine's tools."""
        assert self.daemon.sweep() == []
        assert judge.differences(self.daemon) == []

    def assert_others_go_on(self) -> None:
        """Whoever has nothing to do with it needs no daemon."""
        calm = self.daemon.containers["left"]
        run("ip", "netns", "exec", calm, "ping", "-c", "1", "-W", "5", self.beside)

    def networks(self) -> set[str]:
        """Names of the networks that a user made."""
        rows = self.daemon.api.call("GET", "/networks")
        return {row["Name"] for row in rows} - {"bridge", "host", "none"}

    def connected(self) -> bool:
        """Whether the free container is on ``victim``."""
        if "victim" not in self.networks():
            return False
        rows = self.daemon.api.call("GET", "/networks/victim")["Containers"].values()
        return any(row["Name"] == "free" for row in rows)

    def ports(self) -> set[str]:
        """Ports of the host that lead to the free container."""
        document = self.daemon.api.call("GET", "/containers/free/json")
        found = (document["NetworkSettings"]["Ports"] or {}).values()
        return {binding["HostPort"] for bindings in found for binding in bindings}

    def change(self, verb: str, bindings: object = None) -> None:
        """``net publish`` or ``unpublish`` of the free container."""
        path = f"/cnm/v1/containers/free/{verb}"
        self.daemon.api.call("POST", path, {"PortBindings": bindings})

    def reset(self) -> None:
        """Only ``calm`` is left."""
        self.change("unpublish")
        with contextlib.suppress(ApiError):
            self.daemon.disconnect("victim", "free")
        for name in self.networks() - {"calm"}:
            self.daemon.remove(name)


@dataclass(frozen=True)
class Verb:
    """``done`` tells by the API whether ``do`` happened; it must be all or nothing.

    ``repeated``: who calls does it again after a cut, whatever became of it.
    """

    ready: Callable[[Scene], object]
    do: Callable[[Scene], object]
    done: Callable[[Scene], bool]
    untouched: Callable[[Scene], bool]
    repeated: bool = False


def _victim_connected(scene: Scene) -> None:
    scene.victim()
    scene.daemon.connect("victim", "free")


def _publish(scene: Scene) -> None:
    ports = {"80/tcp": [{"HostPort": "5005"}], "81/tcp": [{"HostPort": "5006"}]}
    scene.change("publish", ports)


def _published(scene: Scene) -> None:
    _victim_connected(scene)
    _publish(scene)


def _published_later(scene: Scene) -> None:
    scene.victim()
    _publish(scene)


def _two_victims(scene: Scene) -> None:
    scene.victim()
    scene.daemon.create("second")


# of the other verbs some publish, which not every network can
NETWORK_VERBS: dict[str, Verb] = {
    "create": Verb(
        ready=lambda scene: None,
        do=lambda scene: scene.victim(),
        done=lambda scene: "victim" in scene.networks(),
        untouched=lambda scene: "victim" not in scene.networks(),
    ),
    "connect": Verb(
        ready=lambda scene: scene.victim(),
        do=lambda scene: scene.daemon.connect("victim", "free"),
        done=lambda scene: scene.connected(),
        untouched=lambda scene: not scene.connected(),
    ),
    "disconnect": Verb(
        ready=_victim_connected,
        do=lambda scene: scene.daemon.disconnect("victim", "free"),
        done=lambda scene: not scene.connected(),
        untouched=lambda scene: scene.connected(),
    ),
    "rm": Verb(
        ready=lambda scene: scene.victim(),
        do=lambda scene: scene.daemon.remove("victim"),
        done=lambda scene: "victim" not in scene.networks(),
        untouched=lambda scene: "victim" in scene.networks(),
    ),
}
VERBS: dict[str, Verb] = {
    **NETWORK_VERBS,
    "publish": Verb(
        ready=_victim_connected,
        do=_publish,
        done=lambda scene: scene.ports() == PORTS,
        untouched=lambda scene: scene.ports() == set(),
    ),
    "unpublish": Verb(
        ready=_published,
        do=lambda scene: scene.change("unpublish"),
        done=lambda scene: scene.ports() == set(),
        untouched=lambda scene: scene.ports() == PORTS,
    ),
    "connect with ports": Verb(
        ready=_published_later,
        do=lambda scene: scene.daemon.connect("victim", "free"),
        done=lambda scene: scene.connected() and scene.ports() == PORTS,
        untouched=lambda scene: not scene.connected() and scene.ports() == set(),
    ),
    "disconnect with ports": Verb(
        ready=_published,
        do=lambda scene: scene.daemon.disconnect("victim", "free"),
        done=lambda scene: not scene.connected() and scene.ports() == set(),
        untouched=lambda scene: scene.connected() and scene.ports() == PORTS,
    ),
    "prune": Verb(
        ready=_two_victims,
        do=lambda scene: scene.daemon.prune(),
        done=lambda scene: scene.networks() == {"calm"},
        # network by network: between two of them is a place to die as well
        untouched=lambda scene: {"calm"} < scene.networks() <= {"calm", "victim", "second"},
    ),
}
