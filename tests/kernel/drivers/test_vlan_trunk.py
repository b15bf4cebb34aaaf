"""Networks on VLANs of one parent: made, marked, tagged, isolated, shared, removed."""

from __future__ import annotations

from typing import Any

import pytest
from kernel.drivers.frames import captured, tags
from kernel.drivers.lab import Host, PlaceFactory
from kernel.drivers.wire import PARENT, POOLS, Station, attach, lan, wired

from cnm.errors import Forbidden, Unavailable
from cnm.types import NetworkSpec

pytestmark = [pytest.mark.kernel, pytest.mark.needs("vlan")]


class Trunk:
    """A host whose ``lan0`` leads to a peer that is in VLANs 100 and 200."""

    def __init__(self, host: Host, make_place: PlaceFactory) -> None:
        self.host, self.peer, self._make_place = host, make_place(), make_place
        wired(host, self.peer)
        for vlan, number in ((100, 0), (200, 1)):
            self.peer.sh(
                f"ip link add eth0.{vlan} link eth0 type vlan id {vlan};"
                f"ip link set eth0.{vlan} up; ip address add 10.10.{number}.9/24 dev eth0.{vlan};"
                f"ip address add fd10:{number}::9/64 dev eth0.{vlan} nodad"
            )
        self.driver = host.load("macvlan")
        self.before = host.snapshot()

    def network(self, vlan: int, number: int, **options: str) -> NetworkSpec:
        spec = lan(
            f"10.10.{number}.254/24",
            f"fd10:{number}::fe/64",
            parent=f"{PARENT}.{vlan}",
            name=f"vlan{vlan}-{number}",
            options=options,
        )
        self.driver.create_network(spec)
        return spec

    def attach(self, spec: NetworkSpec, number: int, host: int = 2) -> Station:
        addresses = f"10.10.{number}.{host}/24", f"fd10:{number}::{host}/64"
        return attach(self.driver, spec, self._make_place(), *addresses)

    @property
    def vlans(self) -> set[str]:
        return {name for name in self.host.link_names() if "." in name}


@pytest.fixture
def trunk(host: Host, make_place: PlaceFactory) -> Trunk:
    return Trunk(host, make_place)


def test_two_vlans_side_by_side(trunk: Trunk) -> None:
    red, blue = trunk.network(100, 0), trunk.network(200, 1)
    first, second = trunk.attach(red, 0), trunk.attach(blue, 1)
    for station, number, vlan in ((first, 0, 100), (second, 1, 200)):
        with captured(trunk.host, PARENT, "") as frames:
            assert station.sandbox.pings(f"10.10.{number}.9")
            assert station.sandbox.pings(f"fd10:{number}::9")
        assert tags([frame for frame in frames if frame.src == station.mac]) == {vlan}
        assert trunk.peer.pings(f"10.10.{number}.2")
    # in one subnet, nothing but the VLANs between them
    second.sandbox.sh("ip address add 10.10.0.3/24 dev eth0")
    assert not first.sandbox.pings("10.10.0.3")
    assert not second.sandbox.pings("10.10.0.2")
    trunk.driver.delete_network(red.id)
    assert second.sandbox.pings("10.10.1.9")
    trunk.driver.delete_network(blue.id)
    assert trunk.host.snapshot() == trunk.before


def test_the_sub_interface_is_ours_and_the_host_is_not_in_the_vlan(trunk: Trunk) -> None:
    spec = trunk.network(100, 0)
    link = trunk.host.link("lan0.100")
    assert (link["link"], link["linkinfo"]["info_data"]["id"]) == (PARENT, 100)
    assert link["ifalias"] == f"cnm:network:{spec.id}"
    assert trunk.host.sh("ip -6 address show dev lan0.100") == ""
    assert trunk.host.sh("sysctl -n net/ipv6/conf/lan0.100/disable_ipv6").strip() == "1"
    assert trunk.host.sh("sysctl -n net/ipv6/conf/lan0.100/accept_ra").strip() == "0"


def test_one_that_stands_is_used_and_stays(trunk: Trunk) -> None:
    trunk.host.sh("ip link add lan0.100 link lan0 type vlan id 100; ip link set lan0.100 up")
    before = trunk.host.snapshot()
    spec = trunk.network(100, 0)
    assert trunk.attach(spec, 0).sandbox.pings("10.10.0.9")
    trunk.driver.delete_network(spec.id)
    assert trunk.host.snapshot() == before


def test_a_vlan_that_has_a_link_of_another_name_is_told(trunk: Trunk) -> None:
    """As many name them; the kernel has one link for a VLAN, and says no more than "exists"."""
    trunk.host.sh("ip link add vlan100 link lan0 type vlan id 100; ip link set vlan100 up")
    told = "^VLAN 100 of lan0 is on link vlan100 already: use parent=vlan100$"
    with pytest.raises(Forbidden, match=told):
        trunk.network(100, 0)
    trunk.network(200, 0)
    spec = lan("10.10.0.254/24", parent="vlan100")
    trunk.driver.create_network(spec)
    assert trunk.attach(spec, 0).sandbox.pings("10.10.0.9")
    trunk.driver.delete_network(spec.id)
    assert "vlan100" in trunk.host.link_names()


@pytest.mark.parametrize("restarted", [False, True], ids=["at once", "restart between"])
def test_it_goes_with_the_last_of_its_networks(trunk: Trunk, restarted: bool) -> None:
    first, second = trunk.network(100, 0), trunk.network(100, 1)
    station = trunk.attach(second, 1)
    trunk.driver.delete_network(first.id)
    assert trunk.vlans == {"lan0.100"}
    assert trunk.host.link("lan0.100")["ifalias"] == f"cnm:network:{second.id}"
    if restarted:
        trunk.driver = trunk.host.load("macvlan")
        assert trunk.driver.restore(second, [station.state()]) == []
    trunk.driver.delete_network(second.id)
    assert trunk.vlans == set()


def test_killed_between_two_networks_of_one_parent(trunk: Trunk) -> None:
    """The first one's removal is finished by a daemon that does not know the second one yet."""
    first, second = trunk.network(100, 0), trunk.network(100, 1)
    station = trunk.attach(second, 1)
    index = trunk.host.link("lan0.100")["ifindex"]
    again = trunk.host.load("macvlan")
    again.delete_network(first.id)
    assert len(again.restore(second, [station.state()])) == 1
    assert trunk.host.link("lan0.100")["ifindex"] == index
    assert {item.network_id for item in again.owned()} == {second.id}
    assert again.restore(second, [station.state()]) == []


def test_an_orphan_goes(trunk: Trunk) -> None:
    trunk.network(100, 0)
    again = trunk.host.load("macvlan")
    for item in again.owned():
        again.remove_orphan(item)
    assert trunk.host.snapshot() == trunk.before


def test_the_parent_goes_and_comes_back(trunk: Trunk, make_place: PlaceFactory) -> None:
    """The kernel takes the sub-interface and the containers' links along."""
    spec = trunk.network(100, 0)
    station = trunk.attach(spec, 0)
    trunk.host.sh(f"ip link delete {PARENT}")
    assert station.sandbox.link_names() == set()
    assert trunk.driver.restore(spec, [station.state()]) == []
    peer = make_place()
    wired(trunk.host, peer)
    peer.sh(
        "ip link add eth0.100 link eth0 type vlan id 100; ip link set eth0.100 up;"
        "ip address add 10.10.0.9/24 dev eth0.100"
    )
    assert len(trunk.driver.restore(spec, [station.state()])) == 2
    station.sandbox.sh("ip address add 10.10.0.2/24 dev eth0; ip link set eth0 up")
    assert station.sandbox.pings("10.10.0.9")
    assert trunk.driver.restore(spec, [station.state()]) == []


def test_the_sub_interface_was_deleted_by_hand(trunk: Trunk) -> None:
    spec = trunk.network(100, 0)
    trunk.host.sh("ip link delete lan0.100")
    assert [str(item) for item in trunk.driver.restore(spec, [])] == [
        "link lan0.100: created again"
    ]
    assert trunk.host.link("lan0.100")["ifalias"] == f"cnm:network:{spec.id}"


def test_host_access_in_a_vlan(trunk: Trunk, make_place: PlaceFactory) -> None:
    """The host has no address there: one is reserved for it."""
    spec = lan("10.10.0.254/24", parent="lan0.100", host_access="true", reserved="10.10.0.250/24")
    trunk.driver.create_network(spec)
    station = attach(trunk.driver, spec, make_place(), "10.10.0.2/24")
    assert trunk.host.pings("10.10.0.2")
    assert station.sandbox.pings("10.10.0.250")
    trunk.driver.delete_network(spec.id)
    assert trunk.host.snapshot() == trunk.before


def test_a_parent_that_is_down_is_told(trunk: Trunk) -> None:
    trunk.host.sh(f"ip link set {PARENT} down")
    told = "failed to enable lan0.100 the macvlan parent link: lan0 is down"
    with pytest.raises(Unavailable, match=told):
        trunk.driver.check_network(lan(parent="lan0.100"))


def test_passthru_on_one_vlan_leaves_the_others(trunk: Trunk) -> None:
    spec = trunk.network(100, 0, macvlan_mode="passthru")
    with pytest.raises(Forbidden, match="is already using parent interface lan0.100 in mode"):
        trunk.network(100, 1)
    other = trunk.network(200, 1)
    assert trunk.attach(spec, 0).sandbox.pings("10.10.0.9")
    assert trunk.attach(other, 1).sandbox.pings("10.10.1.9")


def test_the_wire_is_the_vlan(trunk: Trunk) -> None:
    wire: Any = trunk.driver.wire(lan(*POOLS, parent="lan0.100"))
    assert (wire.link, wire.own_macs) == ("lan0.100", True)
