"""Real packets of others: the host routes for networks of ours, and else as it did before."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from kernel.drivers.lab import Host, Place, PlaceFactory, attach, network
from kernel.drivers.packets import datagram_source, is_silent, reaches

from cnm.drivers.bridge.driver import BridgeDriver
from cnm.runtime.kernel.sysctl import HostSysctls
from cnm.types import NetworkSpec

POOLS = ("10.1.0.1/24", "fd01::1/64")
SWITCHES = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
BOTH = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


class Crossing:
    """A host with two uplinks, and a peer behind each that knows the way through the host."""

    def __init__(self, host: Host, make_place: PlaceFactory) -> None:
        self.host = host
        self.make_place = make_place
        self.driver = host.bridge()
        self.left, self.right = self.behind("up0", 1), self.behind("up1", 2)

    def behind(self, device: str, number: int, *, bridge: str = "") -> Place:
        """A place behind a device, or behind a port of a bridge, that routes to the host."""
        place = self.make_place()
        self.host.sh(
            f"ip link add {device} type veth peer name eth0 netns {place.namespace.name};"
            f"ip link set {device} up"
        )
        if bridge:
            self.host.sh(f"ip link add {bridge} type bridge; ip link set {device} master {bridge}")
        for side, name, last in ((self.host, bridge or device, 1), (place, "eth0", 2)):
            side.sh(
                f"sysctl -qw net.ipv6.conf.{name}.accept_dad=0; ip link set {name} up;"
                f"ip addr add 192.0.{number}.{last}/24 dev {name};"
                f"ip addr add 2001:db8:{number}::{last}/64 dev {name} nodad"
            )
        place.sh(
            f"ip route add default via 192.0.{number}.1;"
            f"ip route add default via 2001:db8:{number}::1"
        )
        return place

    def network(self, options: dict[str, str] | None = None) -> NetworkSpec:
        """A dual-stack network: it switches forwarding on."""
        spec = network(*POOLS, options=options)
        self.driver.create_network(spec)
        for switch in SWITCHES.values():
            assert self.host.sh(f"sysctl -n {switch}") == "1\n"
        return spec

    def restarted(self, spec: NetworkSpec) -> BridgeDriver:
        """A driver that was told of the network by the store."""
        driver = self.host.bridge()
        driver.restore(spec, [])
        return driver


def target(version: int, number: int) -> str:
    return {4: f"192.0.{number}.2", 6: f"2001:db8:{number}::2"}[version]


@pytest.fixture
def crossing(host: Host, make_place: PlaceFactory) -> Crossing:
    return Crossing(host, make_place)


@BOTH
def test_the_host_becomes_no_router_between_uplinks(version: int, crossing: Crossing) -> None:
    left, right = crossing.left, crossing.right
    assert is_silent(left, right, target(version, 2))
    spec = crossing.network()
    assert is_silent(left, right, target(version, 2))
    assert is_silent(right, left, target(version, 1))
    crossing.restarted(spec)
    assert is_silent(left, right, target(version, 2))
    crossing.host.sh("nft flush ruleset")
    crossing.restarted(spec)
    assert is_silent(left, right, target(version, 2))


@BOTH
def test_a_host_that_was_a_router_stays_one(version: int, crossing: Crossing) -> None:
    crossing.host.sh(f"sysctl -qw {SWITCHES[4]}=1 {SWITCHES[6]}=1")
    spec = crossing.network()
    assert reaches(crossing.left, crossing.right, target(version, 2))
    crossing.driver.delete_network(spec.id)
    assert reaches(crossing.left, crossing.right, target(version, 2))


@BOTH
def test_a_bridge_made_later_by_others_routes(version: int, crossing: Crossing) -> None:
    """As another engine does, that finds forwarding switched on."""
    crossing.network()
    inside = crossing.behind("port", 3, bridge="other0")
    assert reaches(inside, crossing.left, target(version, 1))
    assert reaches(crossing.left, inside, target(version, 3))


@BOTH
def test_frames_within_a_bridge_of_others_pass(version: int, crossing: Crossing) -> None:
    """Also where br_netfilter sends them through the rules for routing."""
    crossing.host.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=1")
    crossing.host.sh("sysctl -qw net.bridge.bridge-nf-call-ip6tables=1")
    one, two = crossing.behind("port1", 3, bridge="lan0"), crossing.behind("port2", 4)
    crossing.host.sh("ip link set port2 master lan0")
    two.sh("ip addr add 192.0.3.9/24 dev eth0; ip addr add 2001:db8:3::9/64 dev eth0 nodad")
    crossing.network()
    assert reaches(one, two, {4: "192.0.3.9", 6: "2001:db8:3::9"}[version])


@pytest.mark.parametrize("end", ["last network", "killed, then removed by a restart", "uninstall"])
def test_an_uplink_that_forwarded_by_itself_does_so_throughout(
    end: str, crossing: Crossing
) -> None:
    host = crossing.host
    host.sh("sysctl -qw net.ipv4.conf.up0.forwarding=1 net.ipv6.conf.up0.forwarding=1")
    settings = "cd /proc/sys/net; grep . ipv?/conf/*/forwarding ipv4/conf/all/accept_redirects"
    before = host.sh(settings)
    assert reaches(crossing.left, crossing.right, target(4, 2))
    spec = crossing.network()
    assert reaches(crossing.left, crossing.right, target(4, 2))
    if end == "last network":
        crossing.driver.delete_network(spec.id)
    elif end == "uninstall":  # only what is durable is known
        HostSysctls(host.ledger).restore_unheld()
        crossing.driver.delete_network(spec.id)
    else:
        crossing.restarted(spec).delete_network(spec.id)
    assert host.sh(settings) == before
    assert host.ledger.remembered() == {}


def test_forwarding_that_is_not_ours_to_switch_is_not_guarded(crossing: Crossing) -> None:
    """``ip-forward`` false: what the administrator switches on later is his."""
    driver = crossing.host.bridge(forwarding=False)
    driver.create_network(network(*POOLS))
    assert crossing.host.sh(f"sysctl -n {SWITCHES[4]}") == "0\n"
    crossing.host.sh(f"sysctl -qw {SWITCHES[4]}=1 {SWITCHES[6]}=1")
    for version in (4, 6):
        assert reaches(crossing.left, crossing.right, target(version, 2))


def test_an_uplink_that_appears_later_keeps_its_advertised_route(crossing: Crossing) -> None:
    spec = crossing.network()
    crossing.behind("up9", 9)
    crossing.driver.restore(spec, [])
    assert crossing.host.sh("sysctl -n net.ipv6.conf.up9.accept_ra") == "2\n"
    crossing.driver.delete_network(spec.id)
    assert crossing.host.sh("sysctl -n net.ipv6.conf.up9.accept_ra") == "1\n"


# a network on the administrator's bridge


@BOTH
@pytest.mark.parametrize("internal", [False, True], ids=["", "internal"])
def test_a_lan_on_an_existing_bridge_is_left_alone(
    internal: bool, version: int, crossing: Crossing
) -> None:
    host, world = crossing.host, crossing.left
    host.sh(f"sysctl -qw {SWITCHES[4]}=1 {SWITCHES[6]}=1")
    lan = crossing.behind("port", 3, bridge="lan0")
    spec = network(*POOLS, options={"bridge.name": "lan0"}, internal=internal)
    crossing.driver.create_network(spec)
    for driver in (crossing.driver, crossing.restarted(spec)):
        source = datagram_source(lan, world, target(version, 1), expected=True)
        assert source == target(version, 3)
        assert reaches(world, lan, target(version, 3))
        assert not driver.owned()
    crossing.driver.delete_network(spec.id)
    assert host.sh("nft -s list ruleset") == ""


@BOTH
def test_containers_on_an_existing_bridge(version: int, crossing: Crossing) -> None:
    """As on one of ours: they leave with the host's address and are not reached."""
    lan = crossing.behind("port", 3, bridge="lan0")
    spec = crossing.network(options={"bridge.name": "lan0"})
    ours = network("10.2.0.1/24", "fd02::1/64")
    crossing.driver.create_network(ours)
    addresses = ("10.1.0.2/24", "fd01::2/64")
    one = attach(crossing.driver, spec, crossing.make_place(), *addresses)
    two = attach(crossing.driver, ours, crossing.make_place(), "10.2.0.2/24", "fd02::2/64")
    own, other = ({4: f"10.{n}.0.2", 6: f"fd0{n}::2"}[version] for n in (1, 2))
    source = datagram_source(one.sandbox, crossing.left, target(version, 1), expected=True)
    assert source is not None
    assert ip_address(source) == ip_address(target(version, 1)) - 1
    assert is_silent(crossing.left, one.sandbox, own)
    assert is_silent(one.sandbox, two.sandbox, other)
    assert is_silent(two.sandbox, one.sandbox, own)
    assert is_silent(lan, two.sandbox, other)
    assert one.sandbox.pings(target(version, 3))
