"""Two hosts and a router between them, made with ``ip``: what probes are tried on."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from ipaddress import ip_interface
from pathlib import Path

from kernel.namespaces import Namespace, NamespaceFactory

from cnm.netlab.check import Checker, Result
from cnm.netlab.impair import Wire
from cnm.netlab.model import Check, End, Lab, Link, Place, Probe
from cnm.netlab.vantage import Ended
from cnm.types import IPInterface

NEAR, FAR = Place("near"), Place("far")
LINK = Link("near:eth0", (End("near", "eth0"), End("middle", "eth1")))


class HereVantage:
    """A vantage on a bare namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self.netns = namespace.path

    def addresses(self) -> Sequence[IPInterface]:
        return [
            ip_interface(f"{item['local']}/{item['prefixlen']}")
            for link in self._namespace.ip("address")
            for item in link["addr_info"]
            if item["scope"] == "global"
        ]

    def text(self, path: str) -> str:
        return {"/etc/hosts": "10.9.1.1\tfar other # a comment\nfd00:1::1 far\n"}.get(path, "")

    def run(self, command: Sequence[str], timeout_s: float) -> Ended:
        words = ["ip", "netns", "exec", self._namespace.name, *command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
        return Ended(done.returncode, done.stdout + done.stderr)


class Stage:
    """near (10.9.0.1) - middle - far (10.9.1.1), in both families."""

    def __init__(self, make_ns: NamespaceFactory) -> None:
        self.near, self.middle, self.far = (make_ns(name) for name in ("near", "middle", "far"))
        for number, host in enumerate((self.near, self.far)):
            port = f"eth{number + 1}"
            host.sh(
                f"link add eth0 type veth peer name {port} netns {self.middle.name}; "
                f"addr add 10.9.{number}.1/24 dev eth0; "
                f"addr add fd00:{number}::1/64 dev eth0 nodad; link set eth0 up"
            )
            self.middle.sh(
                f"addr add 10.9.{number}.254/24 dev {port}; "
                f"addr add fd00:{number}::fe/64 dev {port} nodad; link set {port} up"
            )
            host.sh(f"route add default via 10.9.{number}.254")
            host.sh(f"route add ::/0 via fd00:{number}::fe")
        for family in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            self.middle.run("sysctl", "-qw", f"net.{family}=1")
        self._namespaces = {"near": self.near, "middle": self.middle, "far": self.far}
        self.wire = Wire(LINK, (self.near.path, self.middle.path))

    def look(self, probe: Probe, *, expect: bool = True, within_s: float = 3.0) -> Result:
        """The result of one check."""
        lab = Lab("stage", Path("stage.yaml"), links=(LINK,))
        checker = Checker(
            lab,
            lambda place: HereVantage(self._namespaces[place.host]),
            lambda node: self._namespaces[node].path,
        )
        return checker.run(Check("check", "kind", probe, expect, within_s))
