"""ipvlan: each mode and flag does what its name says, by the frames on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from kernel.drivers.frames import captured, macs
from kernel.drivers.lab import Host, PlaceFactory, interface, new_id
from kernel.drivers.wire import PARENT, POOLS, Station, attach, lan, wired

from cnm.driverapi import DriverContext, Wire
from cnm.drivers.ipvlan.driver import create as create_ipvlan
from cnm.drivers.macvlan.driver import create as create_macvlan
from cnm.errors import Forbidden, InvalidParameter
from cnm.runtime.kernel.sysctl import HostSysctls
from cnm.types import NetworkSpec

pytestmark = [pytest.mark.kernel, pytest.mark.needs("ipvlan")]


class Lan:
    """A host on a LAN with a peer."""

    def __init__(self, host: Host, make_place: PlaceFactory) -> None:
        self.host, self.peer, self._make_place = host, make_place(), make_place
        wired(host, self.peer)
        self.driver = host.load("ipvlan")

    def network(self, *pools: str, **options: str) -> NetworkSpec:
        spec = lan(*(pools or POOLS), options=options)
        self.driver.create_network(spec)
        return spec

    def attach(self, spec: NetworkSpec, *addresses: str) -> Station:
        return attach(self.driver, spec, self._make_place(), *addresses)


@pytest.fixture
def found(host: Host, make_place: PlaceFactory) -> Lan:
    return Lan(host, make_place)


def test_l2(found: Lan) -> None:
    """On the LAN, with the parent's MAC address; neighbours by the shortest way."""
    spec = found.network()
    one = found.attach(spec, "10.7.0.2/24", "fd07::2/64")
    two = found.attach(spec, "10.7.0.3/24", "fd07::3/64")
    assert one.mac == two.mac == found.host.link(PARENT)["address"]
    assert one.interface.mac is None
    with captured(found.peer, "eth0", "icmp[0] == 8") as frames:
        assert one.sandbox.pings("10.7.0.9")
        assert one.sandbox.pings("10.7.0.3")
    assert {frame.payload.dst for frame in frames} == {"10.7.0.9"}
    assert macs(frames) == {(one.mac, found.peer.link("eth0")["address"])}
    assert found.peer.pings("fd07::3")
    assert found.driver.wire(spec) == Wire(PARENT, own_macs=False)
    assert one.sandbox.link("eth0")["linkinfo"]["info_data"] == {"mode": "l2", "bridge": True}


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_l3(mode: str, found: Lan) -> None:
    """Behind the host, in subnets of their own: routed, with no ARP and no broadcast."""
    spec = found.network("10.8.0.254/24", "fd08::fe/64", ipvlan_mode=mode)
    one = found.attach(spec, "10.8.0.2/24", "fd08::2/64")
    two = found.attach(spec, "10.8.0.3/24", "fd08::3/64")
    routes = [str(route.destination) for route in one.join.static_routes]
    assert routes == ["0.0.0.0/0", "::/0"]
    assert (one.join.gateway, one.join.gateway_ipv6) == (None, None)
    for station in (one, two):
        station.sandbox.sh("ip route add default dev eth0; ip -6 route add default dev eth0")
    found.peer.sh("ip route add 10.8.0.0/24 via 10.7.0.1; ip route add fd08::/64 via fd07::1")
    with captured(found.peer, "eth0", "arp") as frames:
        assert one.sandbox.pings("10.7.0.9")
    assert not [frame for frame in frames if frame.payload.psrc.startswith("10.8.")]
    assert found.peer.pings("10.8.0.3")
    assert found.peer.pings("fd08::2")
    assert two.sandbox.pings("10.8.0.2")
    assert found.driver.wire(spec) is None
    assert one.sandbox.link("eth0")["linkinfo"]["info_data"]["mode"] == mode


def test_private(found: Lan) -> None:
    spec = found.network(ipvlan_flag="private")
    one, two = found.attach(spec, "10.7.0.2/24"), found.attach(spec, "10.7.0.3/24")
    assert one.sandbox.pings("10.7.0.9")
    assert two.sandbox.pings("10.7.0.9")
    assert not one.sandbox.pings("10.7.0.3")


def test_vepa(found: Lan) -> None:
    """What is for a neighbour goes out to the switch."""
    spec = found.network(ipvlan_flag="vepa")
    one, two = found.attach(spec, "10.7.0.2/24"), found.attach(spec, "10.7.0.3/24")
    assert two.sandbox.pings("10.7.0.9")
    # a switch in between would resolve it: all have one MAC address
    one.sandbox.sh(f"ip neighbour replace 10.7.0.3 lladdr {two.mac} dev eth0")
    with captured(found.peer, "eth0", "icmp[0] == 8 and dst 10.7.0.3") as frames:
        one.sandbox.pings("10.7.0.3")
    assert macs(frames) == {(one.mac, one.mac)}


def test_without_a_parent_containers_are_among_themselves(found: Lan) -> None:
    spec = found.network(parent="")
    one, two = found.attach(spec, "10.7.0.2/24"), found.attach(spec, "10.7.0.3/24")
    assert found.host.link(f"di-{spec.id[:12]}")["ifalias"] == f"cnm:network:{spec.id}"
    assert one.sandbox.pings("10.7.0.3")
    assert not two.sandbox.pings("10.7.0.9")
    found.driver.delete_network(spec.id)
    assert found.host.link_names() == {PARENT}


@pytest.mark.needs("vlan")
def test_on_a_vlan(found: Lan) -> None:
    found.peer.sh(
        "ip link add eth0.100 link eth0 type vlan id 100; ip link set eth0.100 up;"
        "ip address add 10.8.0.9/24 dev eth0.100"
    )
    before = found.host.snapshot()
    spec = found.network("10.8.0.254/24", parent="lan0.100")
    assert found.attach(spec, "10.8.0.2/24").sandbox.pings("10.8.0.9")
    found.driver.delete_network(spec.id)
    assert found.host.snapshot() == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"ipvlan_mode": "l4"},
            "requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default",
        ),
        (
            {"ipvlan_flag": "x"},
            "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default",
        ),
        ({"macvlan_mode": "bridge"}, "unknown option macvlan_mode for driver ipvlan"),
        ({"host_access": "true"}, "unknown option host_access for driver ipvlan"),
        ({"parent": "lo"}, "loopback interface is not a valid ipvlan parent link"),
    ],
)
def test_options(options: dict[str, str], told: str, found: Lan) -> None:
    with pytest.raises(InvalidParameter, match=f"^{told}$"):
        found.driver.check_network(lan(options=options))


def test_a_mac_address_is_refused(found: Lan) -> None:
    spec = found.network()
    told = "^ipvlan interfaces do not support custom mac address assignment$"
    with pytest.raises(InvalidParameter, match=told):
        found.driver.create_endpoint(
            spec.id, new_id(), interface("10.7.0.2/24", mac="02:00:00:00:00:01"), {}
        )


def test_a_parent_is_one_networks(host: Host, make_place: PlaceFactory) -> None:
    wired(host, make_place())
    context = DriverContext(HostSysctls(host.ledger))
    driver: Any = host.owns(create_ipvlan(context))
    other: Any = host.owns(create_macvlan(context))
    red = lan(name="red")
    driver.create_network(red)
    with pytest.raises(Forbidden, match="^network red is already using parent interface lan0$"):
        driver.check_network(lan())
    told = "^ipvlan network red is already using parent interface lan0$"
    with pytest.raises(Forbidden, match=told):
        other.check_network(lan())


def test_damage_by_hand(found: Lan) -> None:
    spec = found.network()
    one = found.attach(spec, "10.7.0.2/24")
    assert found.driver.restore(spec, [one.state()]) == []
    one.sandbox.sh("ip link delete eth0")
    again = found.host.load("ipvlan")
    assert [str(item) for item in again.restore(spec, [one.state()])] == [
        f"link eth0: created again for endpoint {one.endpoint_id[:12]}"
    ]
    assert again.restore(spec, [one.state()]) == []


@pytest.mark.parametrize("damage", ["mode l3", "private", "mode l3s vepa"])
def test_a_mode_changed_by_hand(damage: str, found: Lan) -> None:
    """It is the parent's: what is said to one link is done to all, and is mended by one."""
    spec = found.network()
    one, two = found.attach(spec, "10.7.0.2/24"), found.attach(spec, "10.7.0.3/24")
    before = one.sandbox.link("eth0")["linkinfo"]
    two.sandbox.sh(f"ip link set eth0 type ipvlan {damage}")
    assert one.sandbox.link("eth0")["linkinfo"] != before
    states = [one.state(), two.state()]
    assert [str(item) for item in found.driver.restore(spec, states)] == [
        f"link eth0 of endpoint {one.endpoint_id[:12]}: mode set again"
    ]
    for station in (one, two):
        assert station.sandbox.link("eth0")["linkinfo"] == before
    assert one.sandbox.pings("10.7.0.3")
