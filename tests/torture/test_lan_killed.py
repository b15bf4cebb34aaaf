"""SIGKILL at the Nth kernel step of every verb on macvlan and ipvlan networks.

As ``test_killed_at_every_step``; what stands on the host and inside is judged by ``ip``: links
that sit on a parent leave no trace beside it, and must be found all the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from livedaemon import run
from patience import patient
from peers.cnmd import Cnmd
from torture import judge
from torture.killing import NOBODY, Record, chosen_seed, every_step, kill_and_judge, sample
from torture.verbs import NETWORK_VERBS, Scene

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(patient(240))]

Facts = dict[str, Any]

SAMPLE = 2  # kills of each verb in `make test`
PARENT = "lan0"


@dataclass(frozen=True)
class Case:
    """A network under torture, and which links of the host are its: names with ``{id}``."""

    driver: str
    options: dict[str, str]
    links: tuple[str, ...]


HOST_ADDRESS = "10.77.0.250"
CASES = {
    "macvlan": Case("macvlan", {}, ("dm-{id}",)),
    "macvlan on a parent": Case("macvlan", {"parent": PARENT, "host_access": "true"}, ("mh-{id}",)),
    "macvlan on a VLAN": Case("macvlan", {"parent": f"{PARENT}.100"}, (f"{PARENT}.100",)),
    "ipvlan": Case("ipvlan", {}, ("di-{id}",)),
    "ipvlan on a VLAN": Case("ipvlan", {"parent": f"{PARENT}.100"}, (f"{PARENT}.100",)),
}
NEEDS = {
    "macvlan on a VLAN": ("vlan",),
    "ipvlan": ("ipvlan",),
    "ipvlan on a VLAN": ("ipvlan", "vlan"),
}
NAMES = [
    pytest.param(name, marks=[pytest.mark.needs(*NEEDS[name])] if name in NEEDS else [])
    for name in CASES
]
# Of those for the second kernel one kill in all (test_one_there): each takes 13 s there. Every step
# of the drivers' own is killed there (kernel/drivers/test_lan_killed_at_each_step.py).
SAMPLED = [name for name in CASES if name not in NEEDS]
LAST_STEPS = {"create": 30, "connect": 23, "disconnect": 14, "rm": 14}  # no verb takes fewer


class LanScene(Scene):
    """A host with a LAN, and two containers on a network of the case that nobody touches."""

    def __init__(self, daemon: Cnmd, case: Case) -> None:
        self._wire(daemon, case)
        for name in ("left", "right", "free"):
            daemon.adopt(name)
        daemon.create("calm", Driver=case.driver, **pools("10.78.0"))
        daemon.connect("calm", "left")
        daemon.connect("calm", "right")

    def _wire(self, daemon: Cnmd, case: Case) -> None:
        self.daemon, self.case = daemon, case
        lan = f"ip link add {PARENT} type veth peer name {PARENT}peer; ip link set {PARENT} up"
        run("ip", "netns", "exec", daemon.netns, "sh", "-c", f"{lan}; ip link set {PARENT}peer up")

    def victim(self) -> None:
        """Make it."""
        wish = pools("10.77.0", host=HOST_ADDRESS if "host_access" in self.case.options else "")
        self.daemon.create("victim", Driver=self.case.driver, Options=self.case.options, **wish)

    def assert_sound(self) -> None:
        """Store and kernel agree, by the daemon's own word and by the machine's tools."""
        assert self.daemon.sweep() == []
        assert differences(self) == []

    def documents(self) -> list[Facts]:
        """Of the networks of the case's driver, as the API shows them."""
        rows = self.daemon.api.call("GET", "/networks")
        found = [self.daemon.api.call("GET", f"/networks/{row['Id']}") for row in rows]
        return [item for item in found if item["Driver"] == self.case.driver]


class LonelyScene(LanScene):
    """The same without the two: for the second kernel, where each of them takes seconds."""

    def __init__(self, daemon: Cnmd, case: Case) -> None:
        self._wire(daemon, case)
        daemon.adopt("free")

    def assert_others_go_on(self) -> None:
        """Nobody else is there."""


def pools(prefix: str, host: str = "") -> Facts:
    """The IPAM part of a network's wish, of both families."""
    config: Facts = {"Subnet": f"{prefix}.0/24", "Gateway": f"{prefix}.1"}
    if host:
        return {"IPAM": {"Config": [{**config, "AuxiliaryAddresses": {"host": host}}]}}
    ipv6 = {"Subnet": f"fd{prefix.split('.')[1]}::/64"}
    return {"EnableIPv6": True, "IPAM": {"Config": [config, ipv6]}}


@pytest.fixture
def scene(name: str) -> Iterator[LanScene]:
    with Cnmd("--dns", NOBODY) as daemon:
        yield LanScene(daemon, CASES[name])


@pytest.mark.parametrize("name", SAMPLED)
def test_sample(scene: LanScene, name: str, record_property: Record) -> None:
    seed = chosen_seed()
    for verb in NETWORK_VERBS:
        sample(scene, NETWORK_VERBS[verb], SAMPLE, seed, f"{name} {verb}", record_property)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("verb_name", NETWORK_VERBS)
@pytest.mark.parametrize("name", NAMES)
def test_every_step(scene: LanScene, verb_name: str, record_property: Record) -> None:
    every_step(scene, NETWORK_VERBS[verb_name], record_property)


@pytest.mark.needs("ipvlan", "vlan")
def test_one_there(record_property: Record) -> None:
    """A verb and a step by chance."""
    seed = chosen_seed()
    chance = random.Random(seed)
    name, verb = chance.choice(sorted(NEEDS)), chance.choice(sorted(NETWORK_VERBS))
    when = chance.randint(1, LAST_STEPS[verb])
    record_property(f"SEED={seed}", f"{name}: {verb} killed at step {when}")
    with Cnmd("--dns", NOBODY) as daemon:
        scene = LonelyScene(daemon, CASES[name])
        kill_and_judge(scene, NETWORK_VERBS[verb], when)


def differences(scene: LanScene) -> list[str]:
    """What differs between store and kernel, one line each."""
    networks = scene.documents()
    told: Facts = {"links": sorted(_expected_links(scene, networks))}
    found: Facts = {"links": sorted(_links(scene.daemon.netns))}
    told["routes"], found["routes"] = _routes_told(networks), _routes_found(scene.daemon.netns)
    told["leases"], found["leases"] = _leases(networks), judge.actual_leases(scene.daemon)
    bridge = [
        scene.daemon.api.call("GET", f"/networks/{row['Id']}")
        for row in scene.daemon.api.call("GET", "/networks")
        if row["Driver"] == "bridge"
    ]
    told["leases"] = sorted(told["leases"] + judge.expected_leases(bridge))
    lines = [f"host: {key}: {told[key]} {found[key]}" for key in told if told[key] != found[key]]
    for name, namespace in scene.daemon.containers.items():
        wanted = judge.expected_container(networks, name)
        actual = judge.actual_container(namespace)
        if scene.case.driver == "ipvlan":  # its links have the parent's address
            wanted, actual = _without_macs(wanted), _without_macs(actual)
        wanted["default route"] = any(
            "parent" in network["Options"]
            for network in networks
            if any(row["Name"] == name for row in network["Containers"].values())
        )
        if wanted != actual:
            lines.append(f"{name}: the store says {wanted}, the kernel has {actual}")
    return lines


def _expected_links(scene: LanScene, networks: list[Facts]) -> Iterator[str]:
    yield from ("lo", "cnm0", PARENT, f"{PARENT}peer")
    for network in networks:
        victim = network["Name"] == "victim"
        case = scene.case if victim else replace(scene.case, links=CASES[scene.case.driver].links)
        for pattern in case.links:
            yield pattern.format(id=network["Id"][:12])


def _links(namespace: str) -> list[str]:
    return [item["ifname"] for item in judge.tell("ip", "-n", namespace, "-j", "link", "show")]


def _routes_told(networks: list[Facts]) -> list[str]:
    """The host's routes to single containers: only where it has access."""
    return sorted(
        row["IPv4Address"].split("/")[0]
        for network in networks
        if "host_access" in network["Options"]
        for row in network["Containers"].values()
    )


def _routes_found(namespace: str) -> list[str]:
    rows = judge.tell("ip", "-n", namespace, "-j", "route", "show", "proto", "196")
    return sorted(row["dst"] for row in rows)


def _leases(networks: list[Facts]) -> list[str]:
    rows = [row for network in networks for row in network["Containers"].values()]
    held = [row[family].split("/")[0] for row in rows for family in ("IPv4Address", "IPv6Address")]
    for network in networks:
        for config in network["IPAM"]["Config"]:
            held += [config.get("Gateway", ""), *config.get("AuxiliaryAddresses", {}).values()]
    return sorted(item for item in held if item)


def _without_macs(facts: Facts) -> Facts:
    return {**facts, "interfaces": sorted(item[1:] for item in facts["interfaces"])}
