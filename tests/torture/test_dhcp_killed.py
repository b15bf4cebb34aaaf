"""SIGKILL at the Nth kernel step of every verb on a network whose addresses a DHCP server leases.

As ``test_killed_at_every_step``; judged by dnsmasq's own file, the database and ``ip``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kernel.ipam.lan import SERVER, Dnsmasq
from kernel.namespaces import Namespace
from livedaemon import run
from patience import patient
from peers.api import ApiError
from peers.cnmd import Cnmd
from torture import judge
from torture.stepkiller import StepKiller
from torture.test_killed_at_every_step import NOBODY, TRIES, kill
from torture.verbs import Scene, Verb

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(patient(240))]

Record = Callable[[str, object], None]  # pytest's record_property

SAMPLE = 2  # kills of each verb in `make test`
VERBS_AT_ONCE = 2
WISH = {
    "Driver": "macvlan",
    "Options": {"parent": "eth0", "com.cnm.network.conflict_probe": "false"},
    "IPAM": {"Driver": "dhcp"},
}


class DhcpScene(Scene):
    """A host on a LAN with a DHCP server, and two containers with leases that nobody touches."""

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


def victim(scene: Scene) -> None:
    """Make the network under torture."""
    scene.daemon.create("victim", **WISH)


def victim_connected(scene: Scene) -> None:
    """And have a container on it."""
    victim(scene)
    scene.daemon.connect("victim", "free")


VERBS: dict[str, Verb] = {
    "create": Verb(
        ready=lambda scene: None,
        do=victim,
        done=lambda scene: "victim" in scene.networks(),
        untouched=lambda scene: "victim" not in scene.networks(),
    ),
    "connect": Verb(
        ready=victim,
        do=lambda scene: scene.daemon.connect("victim", "free"),
        done=lambda scene: scene.connected(),
        untouched=lambda scene: not scene.connected(),
    ),
    "disconnect": Verb(
        ready=victim_connected,
        do=lambda scene: scene.daemon.disconnect("victim", "free"),
        done=lambda scene: not scene.connected(),
        untouched=lambda scene: scene.connected(),
    ),
    "rm": Verb(
        ready=victim,
        do=lambda scene: scene.daemon.remove("victim"),
        done=lambda scene: "victim" not in scene.networks(),
        untouched=lambda scene: "victim" in scene.networks(),
    ),
}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[DhcpScene]:
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Cnmd("--dns", NOBODY))
        made = DhcpScene(daemon, tmp_path)
        stack.callback(made.server.stop)
        yield made


def test_sample(scene: DhcpScene, record_property: Record) -> None:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    for verb_name in random.Random(seed).sample(sorted(VERBS), VERBS_AT_ONCE):
        verb = VERBS[verb_name]
        steps = count(scene, verb)
        chosen = random.Random(f"{seed} {verb_name}").sample(range(1, steps + 1), SAMPLE)
        record_property(f"SEED={seed} {verb_name}", f"N {chosen} of 1 to {steps}")
        for when in chosen:
            kill_and_judge(scene, verb, when)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("verb_name", VERBS)
def test_every_step(scene: DhcpScene, verb_name: str, record_property: Record) -> None:
    hit: set[int | None] = set()
    for when in itertools.count(1):
        for _ in range(TRIES):
            killed_at = kill_and_judge(scene, VERBS[verb_name], when)
            hit.add(killed_at)
            if killed_at in (when, None):
                break
        if killed_at is None:
            break
    record_property("every N", f"from 1 to {when - 1}")
    assert hit >= set(range(1, when))


def count(scene: DhcpScene, verb: Verb) -> int:
    """How many kernel steps the verb takes, undisturbed."""
    verb.ready(scene)
    with StepKiller(scene.daemon.pid, 0) as tracer:
        verb.do(scene)
    assert verb.done(scene)
    assert_sound(scene)
    scene.reset()
    return tracer.steps


def kill_and_judge(scene: DhcpScene, verb: Verb, when: int) -> int | None:
    """The step at which it was killed, or None: the verb takes fewer than ``when`` steps."""
    verb.ready(scene)
    killed_at = kill(scene, verb, when)
    if killed_at is not None:
        scene.daemon.wait_for_exit()
        calm = scene.daemon.containers["left"]
        run("ip", "netns", "exec", calm, "ping", "-c", "1", "-W", "5", SERVER)
        scene.daemon.start()
    assert_sound(scene)
    assert verb.done(scene) or (killed_at is not None and verb.untouched(scene))
    if not verb.done(scene):
        verb.do(scene)
        assert verb.done(scene)
        assert_sound(scene)
    with contextlib.suppress(ApiError):
        scene.reset()
    assert_sound(scene)
    return killed_at


def assert_sound(scene: DhcpScene) -> None:
    """Store, kernel and server agree."""
    assert scene.daemon.sweep() == []
    rows = [
        row
        for network in scene.networks()
        for row in scene.daemon.api.call("GET", f"/networks/{network}")["Containers"].values()
    ]
    told = {row["Name"]: row["IPv4Address"] for row in rows}
    assert kept(scene.daemon) == (sorted(told.values()), len(scene.networks()))
    for name, namespace in scene.daemon.containers.items():
        links = judge._json("ip", "-n", namespace, "-j", "-4", "address", "show")
        found = [
            f"{item['local']}/{item['prefixlen']}"
            for link in links
            for item in link["addr_info"]
            if link["ifname"] != "lo"
        ]
        assert found == ([told[name]] if name in told else [])
    for row in rows:  # the server may know more: what was killed before it was written down
        assert scene.server.leases()[row["MacAddress"]] == row["IPv4Address"].split("/")[0]


def kept(daemon: Cnmd) -> tuple[list[str], int]:
    """Addresses of the leases that the database keeps, and the number of pools."""
    with closing(sqlite3.connect(f"file:{daemon.root}/cnm.db?mode=ro", uri=True)) as db:
        notes = db.execute("SELECT key, text FROM notes WHERE owner = 'dhcp'").fetchall()
    leases = [json.loads(text) for key, text in notes if key.startswith("lease ")]
    return sorted(item["known"]["address"] for item in leases), len(notes) - len(leases)
