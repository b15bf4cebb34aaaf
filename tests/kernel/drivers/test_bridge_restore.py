"""What was changed by hand, or was lost, is put right; what stands is left as it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kernel.drivers.lab import (
    Attached,
    Host,
    Place,
    PlaceFactory,
    attach,
    configure_inside,
    interface,
    network,
    new_id,
)

from cnm.drivers.bridge.driver import BridgeDriver
from cnm.errors import TeardownError
from cnm.types import EndpointID, EndpointState, NetworkSpec, OwnedObject

POOLS = ("10.77.0.1/24", "fd77::1/64")


class Lab:
    """A network with two containers that reach each other."""

    def __init__(self, host: Host, make_place: PlaceFactory) -> None:
        self.host = host
        self.driver = host.bridge()
        self.spec = network(*POOLS)
        self.driver.create_network(self.spec)
        self.one = self.attach(make_place(), "2")
        self.two = self.attach(make_place(), "3")

    def attach(self, sandbox: Place, number: str) -> Attached:
        addresses = f"10.77.0.{number}/24", f"fd77::{number}/64"
        return attach(self.driver, self.spec, sandbox, *addresses)

    @property
    def bridge(self) -> str:
        return f"br-{self.spec.id[:12]}"

    def restore(self, driver: BridgeDriver | None = None) -> list[str]:
        states = [self.one.state(), self.two.state()]
        return [str(repair) for repair in (driver or self.driver).restore(self.spec, states)]

    def in_order(self) -> bool:
        """Reachable both ways, and nothing more to repair."""
        return self.one.sandbox.pings("10.77.0.3") and self.restore() == []


@pytest.fixture
def lab(host: Host, make_place: PlaceFactory) -> Lab:
    return Lab(host, make_place)


def test_in_order(lab: Lab) -> None:
    assert lab.in_order()
    assert lab.restore(lab.host.bridge()) == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("ip addr del 10.77.0.1/24 dev {bridge}", "address 10.77.0.1/24 on {bridge}: added again"),
        ("ip addr del fd77::1/64 dev {bridge}", "address fd77::1/64 on {bridge}: added again"),
        ("ip link set {bridge} down", "link {bridge}: set up again"),
        ("ip link set {veth} down", "link {veth}: set up again"),
        ("ip link set {veth} nomaster", "link {veth}: enslaved to {bridge} again"),
        ("ip link set {veth} mtu 1300", "link {veth}: MTU set to 1500 again"),
        ("ip link set {veth} group 0", "link {veth}: marked again"),
        ("ip link set {veth} alias x", "link {veth}: marked again"),
        ("sysctl net.ipv6.conf.{bridge}.accept_ra=1", "sysctl net/ipv6/conf/{bridge}/accept_ra"),
        ("nft delete table inet cnm-bridge", "table inet cnm-bridge: written again"),
        ("nft delete table bridge cnm-bridge", "table inet cnm-bridge: written again"),
        ("nft flush ruleset", "table inet cnm-bridge: written again"),
        ("nft flush chain inet cnm-bridge to_network", "table inet cnm-bridge: written again"),
        ("nft flush set inet cnm-bridge masqueraded", "table inet cnm-bridge: elements of"),
        ("nft add rule inet cnm-bridge from_network drop", "table inet cnm-bridge: written again"),
    ],
)
@pytest.mark.parametrize("restarted", [False, True], ids=["sweep", "restart"])
def test_damage_by_hand(damage: str, told: str, restarted: bool, lab: Lab) -> None:
    names = {"bridge": lab.bridge, "veth": lab.one.host_link}
    before = lab.host.snapshot()
    lab.host.sh(damage.format(**names))
    repairs = lab.restore(lab.host.bridge() if restarted else None)
    assert any(repair.startswith(told.format(**names)) for repair in repairs), repairs
    assert lab.host.snapshot() == before
    assert lab.in_order()


def test_the_bridge_was_deleted(lab: Lab) -> None:
    before = lab.host.link(lab.bridge)
    lab.host.sh(f"ip link delete {lab.bridge}")
    repairs = lab.restore()
    assert f"link {lab.bridge}: bridge created again" in repairs
    assert f"link {lab.one.host_link}: enslaved to {lab.bridge} again" in repairs
    after = lab.host.link(lab.bridge)
    assert (after["address"], after["mtu"]) == (before["address"], before["mtu"])
    assert lab.in_order()


def test_a_link_was_deleted(lab: Lab) -> None:
    lab.host.sh(f"ip link delete {lab.one.host_link}")
    repairs = lab.restore()
    identity = lab.one.endpoint_id[:12]
    assert repairs == [f"link {lab.one.host_link}: created again for endpoint {identity}"]
    inside = lab.one.sandbox.link("eth0")
    assert (inside["address"], inside["operstate"]) == ("02:42:0a:4d:00:02", "DOWN")
    configure_inside(lab.one.sandbox, "eth0", ("10.77.0.2/24",))
    assert lab.in_order()


def test_the_inside_was_renamed(lab: Lab) -> None:
    lab.one.sandbox.sh("ip link set eth0 down; ip link set eth0 name moved")
    assert len(lab.restore()) == 1
    names = lab.one.sandbox.link_names()
    assert names == {"eth0"}


def test_the_inside_has_another_mtu(lab: Lab) -> None:
    lab.one.sandbox.sh("ip link set eth0 mtu 1200")
    identity = lab.one.endpoint_id[:12]
    assert lab.restore() == [f"link eth0 of endpoint {identity}: MTU set to 1500 again"]
    assert lab.in_order()


def gone_in_the_store(lab: Lab) -> None:
    lab.driver.restore(lab.spec, [lab.one.state(gone=True), lab.two.state()])


def gone_in_fact(lab: Lab) -> None:
    lab.one.sandbox.delete()
    lab.restore()


@pytest.mark.parametrize("end", [gone_in_the_store, gone_in_fact])
def test_the_namespace_is_gone(end: Callable[[Lab], None], lab: Lab) -> None:
    end(lab)
    names = lab.host.link_names()
    assert lab.one.host_link not in names
    assert lab.two.host_link in names


def test_others_are_restored_when_one_cannot_be(lab: Lab) -> None:
    lab.host.sh(f"ip link delete {lab.one.host_link}; ip link set {lab.two.host_link} down")
    lab.one.sandbox.sh("ip link add eth0 type bridge")
    with pytest.raises(TeardownError) as trouble:
        lab.restore()
    assert "link eth0 in" in str(trouble.value.exceptions[0])
    assert "UP" in lab.host.link(lab.two.host_link)["flags"]


def test_networks_learnt_later_keep_their_elements(host: Host) -> None:
    """At a start they come one by one: until then what they may stays, even in new rules."""
    specs = [network(f"10.{number}.0.1/24") for number in (1, 2, 3)]
    driver = host.bridge()
    for spec in specs:
        driver.create_network(spec)
    before = host.sh("nft -s list ruleset")
    host.sh("nft flush chain inet cnm-bridge to_network")
    again = host.bridge()
    for spec in specs:
        again.restore(spec, [])
        assert sorted(host.sh("nft -s list ruleset")) == sorted(before)


def test_elements_of_nobody_go(lab: Lab) -> None:
    before = lab.host.sh("nft -s list ruleset")
    lab.host.sh(
        'nft add element inet cnm-bridge bridges { "br-gone" };'
        'nft add element inet cnm-bridge source_ipv4 { "br-gone" : 192.0.2.1 }'
    )
    assert lab.restore() == []
    strays = [item for item in lab.driver.owned() if item.kind == "table"]
    assert [item.name for item in strays] == [
        '"br-gone" of bridges in inet cnm-bridge',
        '"br-gone" of source_ipv4 in inet cnm-bridge',
    ]
    lab.driver.remove_orphan(strays[0])
    assert lab.host.sh("nft -s list ruleset") == before


def test_owned_names_what_is_marked(lab: Lab) -> None:
    assert set(lab.driver.owned()) == {
        OwnedObject("link", lab.bridge, network_id=lab.spec.id),
        OwnedObject("link", lab.one.host_link, endpoint_id=lab.one.endpoint_id),
        OwnedObject("link", lab.two.host_link, endpoint_id=lab.two.endpoint_id),
    }


def test_an_orphan_that_changed_hands_stays(lab: Lab) -> None:
    lab.host.sh(f"ip link set {lab.one.host_link} alias mine")
    lab.driver.remove_orphan(
        OwnedObject("link", lab.one.host_link, endpoint_id=lab.one.endpoint_id)
    )
    assert lab.host.link(lab.one.host_link)["ifalias"] == "mine"


def test_an_unfinished_removal_is_finished_by_the_next_daemon(lab: Lab, host: Host) -> None:
    host.bridge().delete_network(lab.spec.id)
    assert lab.bridge not in host.link_names()


def adopted(host: Host) -> tuple[BridgeDriver, NetworkSpec]:
    host.sh("ip link add lan type bridge; ip link set lan up")
    driver = host.bridge()
    spec = network(*POOLS, options={"bridge.name": "lan"})
    driver.create_network(spec)
    return driver, spec


def test_an_address_left_on_an_existing_bridge_goes(host: Host) -> None:
    _, spec = adopted(host)
    again = host.bridge()
    strays = [item for item in again.owned() if item.kind == "address"]
    assert {item.name for item in strays} == {"10.77.0.1/24 on lan", "fd77::1/64 on lan"}
    for item in strays:
        again.remove_orphan(item)
    assert host.addresses("lan") == set()


def test_an_existing_bridge_is_restored_but_not_made(host: Host) -> None:
    _, spec = adopted(host)
    again = host.bridge()
    assert again.restore(spec, []) == []
    assert [item for item in again.owned() if item.kind == "address"] == []
    host.sh("ip addr flush dev lan")
    assert len(again.restore(spec, [])) == 2
    again.delete_network(spec.id)
    assert host.addresses("lan") == set()
    assert host.link("lan")["ifname"] == "lan"


def test_a_link_that_an_engine_has_moved_stays_where_it_is(
    lab: Lab, make_place: PlaceFactory
) -> None:
    endpoint, place = EndpointID(new_id()), make_place()
    wanted = lab.driver.create_endpoint(lab.spec.id, endpoint, interface("10.77.0.9/24"), {})
    source = lab.driver.join(lab.spec.id, endpoint, None, "eth", {}).source_name
    assert not lab.driver.in_use(lab.spec.id, endpoint)  # it waits on the host
    lab.host.sh(f"ip link set {source} netns {place.namespace.name} name eth0")
    configure_inside(place, "eth0", ("10.77.0.9/24",))
    state = EndpointState(endpoint, wanted, None, "", handed_over=True)
    lab.host.ip(f"link set veth{endpoint[:7]} down")
    fresh = lab.host.bridge()
    states = [lab.one.state(), lab.two.state(), state]
    repairs = [str(item) for item in fresh.restore(lab.spec, states)]
    assert repairs == [f"link veth{endpoint[:7]}: set up again"]
    assert fresh.in_use(lab.spec.id, endpoint)
    assert place.pings("10.77.0.2")
    place.ip("link delete eth0")  # as a container's death does
    assert not fresh.in_use(lab.spec.id, endpoint)
    assert fresh.restore(lab.spec, states) == []  # only its engine could make it again
