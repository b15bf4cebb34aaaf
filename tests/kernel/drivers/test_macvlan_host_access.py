"""``host_access``: the host and its macvlan containers reach each other; nobody is disturbed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from kernel.drivers.frames import captured, macs
from kernel.drivers.lab import Host, Place, PlaceFactory
from kernel.drivers.wire import HOST, PARENT, POOLS, Station, attach, lan, wired

from cnm.errors import InvalidParameter

pytestmark = pytest.mark.kernel


class Lan:
    """A host on a LAN with a peer, and two containers, all of both families."""

    def __init__(self, host: Host, make_place: PlaceFactory) -> None:
        self.host, self.peer = host, make_place()
        wired(host, self.peer)
        self.before = host.snapshot()
        self.driver = host.load("macvlan")
        self.spec = lan(*POOLS, host_access="true")
        self.driver.create_network(self.spec)
        self.one = self.attach(make_place(), 2)
        self.two = self.attach(make_place(), 3)

    def attach(self, sandbox: Place, number: int) -> Station:
        return attach(self.driver, self.spec, sandbox, f"10.7.0.{number}/24", f"fd07::{number}/64")

    @property
    def link(self) -> str:
        return f"mh-{self.spec.id[:12]}"

    def restore(self, driver: Any = None) -> list[str]:
        states = [self.one.state(), self.two.state()]
        return [str(repair) for repair in (driver or self.driver).restore(self.spec, states)]

    def reach_each_other(self) -> bool:
        return all(
            self.host.pings(address) for address in ("10.7.0.2", "10.7.0.3", "fd07::2")
        ) and all(self.one.sandbox.pings(address) for address in ("10.7.0.1", "fd07::1"))


@pytest.fixture
def found(host: Host, make_place: PlaceFactory) -> Lan:
    return Lan(host, make_place)


def test_without_it_they_do_not(host: Host, make_place: PlaceFactory) -> None:
    """Or else these tests would tell nothing."""
    wired(host, make_place())
    driver, sandbox, spec = host.load("macvlan"), make_place(), lan()
    driver.create_network(spec)
    attach(driver, spec, sandbox, "10.7.0.2/24")
    assert not host.pings("10.7.0.2")
    assert not sandbox.pings("10.7.0.1")


def test_they_reach_each_other_and_the_lan(found: Lan) -> None:
    assert found.reach_each_other()
    assert found.peer.pings("10.7.0.2")
    assert found.one.sandbox.pings("10.7.0.9")
    assert found.host.pings("10.7.0.9")
    assert found.host.pings("fd07::9")
    assert found.peer.pings("10.7.0.1")
    assert found.peer.pings("fd07::1")


def test_nothing_of_it_is_on_the_wire(found: Lan) -> None:
    with captured(found.peer, "eth0", "icmp") as frames:
        assert found.host.pings("10.7.0.2")
        assert found.one.sandbox.pings("10.7.0.1")
    assert frames == []


def test_the_lan_finds_the_host_by_its_parent_only(found: Lan) -> None:
    """Two links have the host's address; only one of them answers the LAN."""
    with captured(found.peer, "eth0", "arp[6:2] == 2") as frames:
        assert found.peer.pings("10.7.0.1")
    assert {source for source, _ in macs(frames)} == {found.host.link(PARENT)["address"]}


def test_it_goes_with_the_network(found: Lan) -> None:
    assert found.host.addresses(found.link) == {"10.7.0.1/32", "fd07::1/128"}
    found.driver.leave(found.spec.id, found.one.endpoint_id)
    assert "10.7.0.2" not in found.host.sh("ip route show")
    assert found.host.pings("10.7.0.3")
    found.driver.delete_network(found.spec.id)
    assert found.host.snapshot() == found.before
    assert found.host.addresses(PARENT) == set(HOST)
    assert found.peer.pings("10.7.0.1")
    assert found.peer.pings("fd07::1")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("ip link delete {link}", "link {link}: created again"),
        ("ip address delete 10.7.0.1/32 dev {link}", "address 10.7.0.1/32 on {link}: added"),
        ("ip route delete 10.7.0.2", "route 10.7.0.2/32 dev {link}: added"),
        ("ip route add 10.7.0.77 dev {link} proto 196", "route 10.7.0.77/32 dev {link}: removed"),
        ("ip link set {link} down", "link {link}: set up again"),
        ("ip link set {link} type macvlan mode private", "link {link}: mode set again"),
        ("sysctl net.ipv4.conf.{link}.arp_filter=0", "sysctl net/ipv4/conf/{link}/arp_filter"),
    ],
)
@pytest.mark.parametrize("restarted", [False, True], ids=["sweep", "restart"])
def test_damage_by_hand(damage: str, told: str, restarted: bool, found: Lan) -> None:
    assert found.restore() == []
    found.host.sh(damage.format(link=found.link))
    again = found.host.load("macvlan") if restarted else found.driver
    repairs = found.restore(again)
    assert any(item.startswith(told.format(link=found.link)) for item in repairs), repairs
    assert found.restore(again) == []
    assert found.reach_each_other()


def test_the_way_to_an_engine_s_container_outlives_a_sweep(found: Lan) -> None:
    """Where its link is nobody tells us, but the host's route to it is ours."""
    states = [
        replace(station.state(), sandbox_key=None, handed_over=True)
        for station in (found.one, found.two)
    ]
    for driver in (found.driver, found.host.load("macvlan")):
        assert driver.restore(found.spec, states) == []
        assert found.reach_each_other()


def test_the_host_gets_another_address(found: Lan) -> None:
    found.host.sh(
        f"ip address delete 10.7.0.1/24 dev {PARENT}; ip address add 10.7.0.5/24 dev {PARENT}"
    )
    assert f"address 10.7.0.5/32 on {found.link}: added" in found.restore()
    assert found.host.addresses(found.link) == {"10.7.0.5/32", "fd07::1/128"}
    assert found.one.sandbox.pings("10.7.0.5")
    assert found.host.pings("10.7.0.2")
    assert found.restore() == []


def test_an_address_that_is_reserved_for_the_host(host: Host, make_place: PlaceFactory) -> None:
    """On a LAN where the host has none."""
    wired(host, make_place(), addresses=())
    driver, sandbox = host.load("macvlan"), make_place()
    told = (
        r"host_access needs an address of the host in 10.7.0.0/24: give lan0 one, or reserve one "
        r"with --aux-address host=ADDRESS"
    )
    before = host.snapshot()
    with pytest.raises(InvalidParameter, match=told):
        driver.create_network(lan(host_access="true"))
    assert host.snapshot() == before
    spec = lan(host_access="true", reserved="10.7.0.250/24")
    driver.create_network(spec)
    attach(driver, spec, sandbox, "10.7.0.2/24")
    assert host.pings("10.7.0.2")
    assert sandbox.pings("10.7.0.250")
    driver.delete_network(spec.id)
    assert host.snapshot() == before


def test_an_isolated_network_can_have_its_host(host: Host, make_place: PlaceFactory) -> None:
    driver, sandbox = host.load("macvlan"), make_place()
    spec = lan(parent="", host_access="true", reserved="10.7.0.250/24")
    driver.create_network(spec)
    attach(driver, spec, sandbox, "10.7.0.2/24")
    assert sandbox.pings("10.7.0.250")
    driver.delete_network(spec.id)
    assert host.link_names() == set()
