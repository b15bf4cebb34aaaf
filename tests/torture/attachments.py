"""CNI's ADD and DEL under torture: the executable, as a runtime calls it, over one daemon."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from livedaemon import PROGRAMS
from peers.api import ApiError
from peers.cnmd import Cnmd
from torture import judge
from torture.verbs import PORTS, Scene, Verb

POD = "pod"
PODS, MORE = "pods", "second"  # CNI's networks, and ours by the same names
SUBNETS = {PODS: ("10.79.0.0/24", "fd79::/64"), MORE: ("10.80.0.0/24", "fd80::/64")}
INTERFACES = {PODS: "eth0", MORE: "net1"}
MAPPED = [{"hostPort": 5005, "containerPort": 80}, {"hostPort": 5006, "containerPort": 81}]


class CniFailed(OSError):
    """The plugin answered with an error object."""


class PodScene(Scene):
    """A daemon with networks of its own, and a runtime with a pod."""

    def __init__(self, daemon: Cnmd) -> None:
        super().__init__(daemon)
        self.pod = daemon.namespace(POD)

    def call(self, command: str, network: str, *, ports: bool = False) -> Any:
        """One call of the executable. :raises CniFailed:"""
        wish = {"portMappings": MAPPED} if ports else {}
        # the judge of ports and names knows one way into a container
        conf = {
            **{"cniVersion": "1.1.0", "name": network, "type": "cnm-cni"},
            **{
                "subnets": [{"subnet": item} for item in SUBNETS[network]],
                "ipv6": True,
                "internal": network == MORE,
            },
            "runtimeConfig": wish,
        }
        done = subprocess.run(
            [PROGRAMS / "cnm-cni"],
            input=json.dumps(conf),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONSAFEPATH": "1",
                "CNM_HOST": self.daemon.host,
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": POD,
                "CNI_NETNS": f"/run/netns/{self.pod}",
                "CNI_IFNAME": INTERFACES[network],
                "CNI_PATH": str(PROGRAMS),
            },
        )
        if done.returncode:
            raise CniFailed(done.stdout)
        return json.loads(done.stdout) if done.stdout else None

    def attached(self) -> set[str]:
        """Names of the networks that the pod is on, by the API."""
        try:
            document = self.daemon.api.call("GET", f"/containers/{POD}/json")
        except ApiError:
            return set()
        return set(document["NetworkSettings"]["Networks"])

    def published(self) -> set[str]:
        """Ports of the host that lead to the pod."""
        try:
            document = self.daemon.api.call("GET", f"/containers/{POD}/json")
        except ApiError:
            return set()
        found = (document["NetworkSettings"]["Ports"] or {}).values()
        return {binding["HostPort"] for bindings in found for binding in bindings}

    def has(self, networks: set[str], ports: set[str]) -> bool:
        """Whether it is on exactly these networks, with these ports."""
        return (self.attached(), self.published()) == (networks, ports)

    def reset(self) -> None:
        """The runtime gives the pod up, and its user removes the networks."""
        for network in (MORE, PODS):
            self.call("DEL", network)
        for name in self.networks() - {"calm"}:
            self.daemon.remove(name)

    def assert_sound(self) -> None:
        """As the scene's; the pod too, while it is a container, and else nothing is in it."""
        if self.attached():
            self.daemon.containers[POD] = self.pod
        else:
            self.daemon.containers.pop(POD, None)
            facts = judge.actual_container(self.pod)
            assert facts == {"interfaces": [], "default route": False}
        super().assert_sound()


def _pod(scene: Scene) -> PodScene:
    assert isinstance(scene, PodScene)
    return scene


def _both(scene: Scene) -> None:
    _pod(scene).call("ADD", PODS, ports=True)
    _pod(scene).call("ADD", MORE)


ATTACHMENT_VERBS: dict[str, Verb] = {
    "ADD": Verb(
        ready=lambda scene: None,
        do=lambda scene: _pod(scene).call("ADD", PODS, ports=True),
        done=lambda scene: _pod(scene).has({PODS}, PORTS),
        untouched=lambda scene: _pod(scene).has(set(), set()),
    ),
    "ADD of another": Verb(
        ready=lambda scene: _pod(scene).call("ADD", PODS, ports=True),
        do=lambda scene: _pod(scene).call("ADD", MORE),
        done=lambda scene: _pod(scene).has({PODS, MORE}, PORTS),
        untouched=lambda scene: _pod(scene).has({PODS}, PORTS),
    ),
    # DEL has succeeded whatever became of the daemon: there is no state but done
    "DEL": Verb(
        ready=lambda scene: _pod(scene).call("ADD", PODS, ports=True),
        do=lambda scene: _pod(scene).call("DEL", PODS),
        done=lambda scene: _pod(scene).has(set(), set()),
        untouched=lambda scene: False,
        repeated=True,
    ),
    "DEL of one": Verb(
        ready=_both,
        do=lambda scene: _pod(scene).call("DEL", MORE),
        done=lambda scene: _pod(scene).has({PODS}, PORTS),
        untouched=lambda scene: False,
        repeated=True,
    ),
}
