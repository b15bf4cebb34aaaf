"""Beside a firewall that drops what is routed, set up with iptables as Docker and ufw do."""

from __future__ import annotations

import pytest
from kernel.drivers.lab import Host, PlaceFactory, attach, network

_DROP = "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP"
_POOLS = ("10.1.0.1/24", "fd01::1/64")


def forward(host: Host) -> str:
    """All of FORWARD as iptables shows it: it can still read its tables."""
    text = host.sh("iptables-save -t filter; ip6tables-save -t filter")
    return "\n".join(line.split(" [")[0] for line in text.splitlines() if line[0] != "#")


def rules(host: Host, chain: str = "FORWARD") -> list[str]:
    return [line for line in forward(host).splitlines() if line.startswith(f"-A {chain} ")]


@pytest.fixture
def strict(host: Host) -> Host:
    """FORWARD drops, and sees what passes within a bridge, too."""
    host.sh(f"{_DROP}; sysctl -qw net.bridge.bridge-nf-call-iptables=1")
    host.sh("sysctl -qw net.bridge.bridge-nf-call-ip6tables=1")
    return host


def test_containers_reach_each_other_and_the_world(strict: Host, make_place: PlaceFactory) -> None:
    outside = make_place()
    strict.sh(
        f"ip link add up0 type veth peer name eth0 netns {outside.namespace.name};"
        "ip link set up0 up; ip addr add 192.0.2.1/24 dev up0"
    )
    outside.sh("ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up")
    before = forward(strict)
    driver, spec = strict.bridge(), network(*_POOLS)
    driver.create_network(spec)
    one, two = make_place(), make_place()
    attach(driver, spec, one, "10.1.0.2/24", "fd01::2/64")
    attach(driver, spec, two, "10.1.0.3/24", "fd01::3/64")
    assert one.pings("10.1.0.3")
    assert one.pings("fd01::3")
    assert one.pings("192.0.2.2")
    assert not outside.pings("10.1.0.2")
    driver.delete_network(spec.id)
    assert forward(strict) == before


def test_what_its_owner_refuses_stays_refused(strict: Host, make_place: PlaceFactory) -> None:
    driver, spec = strict.bridge(), network()
    driver.create_network(spec)
    bridge = f"br-{spec.id[:12]}"
    strict.sh(f"iptables -I FORWARD -i {bridge} -d 10.77.0.3 -j REJECT")
    one, two = make_place(), make_place()
    attach(driver, spec, one, "10.77.0.2/24")
    attach(driver, spec, two, "10.77.0.3/24")
    assert not one.pings("10.77.0.3")
    assert two.pings("10.77.0.2") is False  # its answers go there
    assert rules(strict)[-1] == "-A FORWARD -j CNM-FORWARD"


def test_no_chain_where_nothing_drops(host: Host) -> None:
    host.sh("iptables -A FORWARD -s 192.0.2.9 -j DROP")
    before = forward(host)
    host.bridge().create_network(network())
    assert forward(host) == before


@pytest.mark.parametrize(
    "change", ["iptables -P FORWARD DROP", "iptables -F FORWARD", "iptables -F CNM-FORWARD"]
)
def test_a_firewall_that_comes_or_is_flushed_later_is_mended_by_the_sweep(
    change: str, host: Host, make_place: PlaceFactory
) -> None:
    host.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=1")
    if "-F" in change:
        host.sh(_DROP)
    driver, spec = host.bridge(), network()
    driver.create_network(spec)
    one, two = make_place(), make_place()
    ends = [
        attach(driver, spec, one, "10.77.0.2/24"),
        attach(driver, spec, two, "10.77.0.3/24"),
    ]
    host.sh(change)
    assert not one.pings("10.77.0.3")
    (repair,) = driver.restore(spec, [end.state() for end in ends])
    assert str(repair) == "chain ip filter CNM-FORWARD: as needed again"
    assert one.pings("10.77.0.3")
    assert driver.restore(spec, [end.state() for end in ends]) == []


def test_a_restart_takes_no_rule_away_from_networks_not_learnt_yet(strict: Host) -> None:
    specs = [network("10.1.0.1/24"), network("10.2.0.1/24", name="red")]
    driver = strict.bridge()
    for spec in specs:
        driver.create_network(spec)
    before = rules(strict, "CNM-FORWARD")
    assert len(before) == 8
    fresh = strict.bridge()
    fresh.restore(specs[0], [])
    assert rules(strict, "CNM-FORWARD") == before
    fresh.restore(specs[1], [])
    assert not fresh.owned() or all(item.kind != "chain" for item in fresh.owned())


def test_rules_of_a_network_that_nobody_knows_are_orphans(strict: Host) -> None:
    specs = [network("10.1.0.1/24"), network("10.2.0.1/24", name="red")]
    driver = strict.bridge()
    for spec in specs:
        driver.create_network(spec)
    fresh = strict.bridge()
    fresh.restore(specs[0], [])
    (chain, _) = [item for item in fresh.owned() if item.kind == "chain"]
    fresh.remove_orphan(chain)
    assert len(rules(strict, "CNM-FORWARD")) == 4
    assert all(f"br-{specs[0].id[:12]}" in rule for rule in rules(strict, "CNM-FORWARD"))


def test_what_docker_looks_after_is_left_to_it(strict: Host, make_place: PlaceFactory) -> None:
    strict.sh(
        "iptables -N DOCKER; ip link add dock0 type bridge; ip addr add 10.5.0.1/24 dev dock0;"
        "ip link set dock0 up; iptables -A FORWARD -o dock0 -j DOCKER"
    )
    theirs, ours = make_place(), make_place()
    strict.sh(
        f"ip link add dock1 type veth peer name eth0 netns {theirs.namespace.name};"
        "ip link set dock1 master dock0 up"
    )
    theirs.sh(
        "ip addr add 10.5.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.5.0.1"
    )
    driver, spec = strict.bridge(), network()
    driver.create_network(spec)
    attach(driver, spec, ours, "10.77.0.2/24")
    assert not ours.pings("10.5.0.2")
    strict.sh("ip link add dock9 type bridge; iptables -I FORWARD -o dock9 -j DOCKER")
    assert driver.restore(spec, []) != []
    assert rules(strict, "CNM-FORWARD")[:2] == [
        "-A CNM-FORWARD -o dock9 -j RETURN",
        "-A CNM-FORWARD -o dock0 -j RETURN",
    ]
    strict.sh("iptables -F DOCKER; iptables -I DOCKER -j ACCEPT")
    assert ours.pings("10.5.0.2"), "what Docker accepts is accepted"


def test_on_a_bridge_of_others_only_our_subnet_is_accepted(strict: Host) -> None:
    strict.sh("ip link add theirs type bridge; ip link set theirs up")
    spec = network(*_POOLS, options={"bridge.name": "theirs"})
    strict.bridge().create_network(spec)
    assert rules(strict, "CNM-FORWARD") == [
        "-A CNM-FORWARD -s 10.1.0.0/24 -i theirs -j ACCEPT",
        "-A CNM-FORWARD -d 10.1.0.0/24 -o theirs -j ACCEPT",
        "-A CNM-FORWARD -s fd01::/64 -i theirs -j ACCEPT",
        "-A CNM-FORWARD -d fd01::/64 -o theirs -j ACCEPT",
    ]


def test_net_doctor_tells_that_it_is_mended(strict: Host) -> None:
    driver = strict.bridge()
    driver.create_network(network())
    told = {detail for feature, _, detail in driver.diagnose() if "table ip filter" in feature}
    assert told == {"drops what is routed; our networks are accepted by CNM-FORWARD"}
    assert all(works is True for _, works, _ in driver.diagnose())
