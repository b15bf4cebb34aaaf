"""SIGKILL at the Nth kernel step of every verb on a network whose addresses a DHCP server leases.

As ``test_killed_at_every_step``; judged by dnsmasq's own file, the database and ``ip``.
"""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kernel.ipam.lan import SERVER, Dnsmasq
from kernel.namespaces import Namespace
from patience import patient
from peers.cnmd import Cnmd
from torture import judge
from torture.killing import NOBODY, Record, chosen_seed, every_step, sample
from torture.verbs import NETWORK_VERBS, Scene

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(patient(240))]

SAMPLE = 2  # kills of each verb in `make test`
VERBS_AT_ONCE = 2
WISH = {
    "Driver": "macvlan",
    "Options": {"parent": "eth0", "com.cnm.network.conflict_probe": "false"},
    "IPAM": {"Driver": "dhcp"},
}


class DhcpScene(Scene):
    """A host on a LAN with a DHCP server, and two containers with leases that nobody touches."""

    beside = SERVER

    def __init__(self, daemon: Cnmd, folder: Path) -> None:
        self.daemon = daemon
        self.lan = Namespace(daemon.namespace("lan"))
        host = Namespace(daemon.netns)
        host.sh(f"link add eth0 type veth peer name eth0 netns {self.lan.name}; link set eth0 up")
        self.lan.sh(f"link set eth0 up; addr add {SERVER}/24 dev eth0")
        self.server = Dnsmasq(self.lan, folder)
        self.server.start()
        for name in ("left", "right", "free"):
            daemon.adopt(name)
        daemon.create("calm", **WISH)
        daemon.connect("calm", "left")
        daemon.connect("calm", "right")

    def victim(self) -> None:
        """Make the network under torture."""
        self.daemon.create("victim", **WISH)

    def assert_sound(self) -> None:
        """Store, kernel and server agree."""
        assert self.daemon.sweep() == []
        rows = [
            row
            for network in self.networks()
            for row in self.daemon.api.call("GET", f"/networks/{network}")["Containers"].values()
        ]
        told = {row["Name"]: row["IPv4Address"] for row in rows}
        assert kept(self.daemon) == (sorted(told.values()), len(self.networks()))
        for name, namespace in self.daemon.containers.items():
            links = judge.tell("ip", "-n", namespace, "-j", "-4", "address", "show")
            found = [
                f"{item['local']}/{item['prefixlen']}"
                for link in links
                for item in link["addr_info"]
                if link["ifname"] != "lo"
            ]
            assert found == ([told[name]] if name in told else [])
        for row in rows:  # the server may know more: what was killed before it was written down
            assert self.server.leases()[row["MacAddress"]] == row["IPv4Address"].split("/")[0]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[DhcpScene]:
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Cnmd("--dns", NOBODY))
        made = DhcpScene(daemon, tmp_path)
        stack.callback(made.server.stop)
        yield made


def test_sample(scene: DhcpScene, record_property: Record) -> None:
    seed = chosen_seed()
    for name in random.Random(seed).sample(sorted(NETWORK_VERBS), VERBS_AT_ONCE):
        sample(scene, NETWORK_VERBS[name], SAMPLE, seed, name, record_property)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NETWORK_VERBS)
def test_every_step(scene: DhcpScene, name: str, record_property: Record) -> None:
    every_step(scene, NETWORK_VERBS[name], record_property)


def kept(daemon: Cnmd) -> tuple[list[str], int]:
    """Addresses of the leases that the database keeps, and the number of pools."""
    with closing(sqlite3.connect(f"file:{daemon.root}/cnm.db?mode=ro", uri=True)) as db:
        notes = db.execute("SELECT key, text FROM notes WHERE owner = 'dhcp'").fetchall()
    leases = [json.loads(text) for key, text in notes if key.startswith("lease ")]
    return sorted(item["known"]["address"] for item in leases), len(notes) - len(leases)
