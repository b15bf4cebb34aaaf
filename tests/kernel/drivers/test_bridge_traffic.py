"""Real packets: who reaches whom, and with which address.

Around the host: a peer, reached by ``up0``, that knows the way to the containers' subnets
(so that only rules keep it out), and containers on networks. Each is tried with and
without br_netfilter, which sends frames within a bridge through the rules for routing.
"""

from __future__ import annotations

from functools import partial
from ipaddress import IPv6Address, IPv6Network

import pytest
from kernel.drivers.lab import network
from kernel.drivers.packets import (
    advertise_router,
    datagram_source,
    has_address_of,
    is_silent,
    link_local_is_ready,
    reaches,
)
from kernel.drivers.world import BOTH, HOST, PEER, World, address
from kernel.namespaces import poll

filtered = pytest.mark.usefixtures("bridge_filter")


@filtered
@BOTH
def test_containers_of_one_network(version: int, world: World) -> None:
    spec = world.network(1)
    one, two = world.attach(spec, 2), world.attach(spec, 3)
    source = datagram_source(one.sandbox, two.sandbox, address(two, version), expected=True)
    assert source == address(one, version)


@filtered
@BOTH
def test_networks_are_isolated_from_each_other(version: int, world: World) -> None:
    one, two = world.attach(world.network(1), 2), world.attach(world.network(2), 2)
    assert is_silent(one.sandbox, two.sandbox, address(two, version))
    assert one.sandbox.pings({4: "10.1.0.1", 6: "fd1::1"}[version])


@filtered
@BOTH
def test_the_world_sees_the_host(version: int, world: World) -> None:
    one = world.attach(world.network(1), 2)
    source = datagram_source(one.sandbox, world.peer, PEER[version], expected=True)
    assert source == HOST[version]
    assert one.sandbox.pings(PEER[version])


@BOTH
def test_the_world_sees_a_chosen_address(version: int, world: World) -> None:
    chosen = {4: "192.0.2.99", 6: "2001:db8::99"}
    world.host.sh(f"ip addr add {chosen[4]}/24 dev up0; ip addr add {chosen[6]}/64 dev up0 nodad")
    spec = world.network(1, options={"host_ipv4": chosen[4], "host_ipv6": chosen[6]})
    one = world.attach(spec, 2)
    source = datagram_source(one.sandbox, world.peer, PEER[version], expected=True)
    assert source == chosen[version]


@BOTH
def test_the_world_sees_the_container_without_masquerade(version: int, world: World) -> None:
    spec = world.network(1, options={"bridge.enable_ip_masquerade": "false"})
    one = world.attach(spec, 2)
    source = datagram_source(one.sandbox, world.peer, PEER[version], expected=True)
    assert source == address(one, version)


@BOTH
def test_the_host_is_not_translated(version: int, world: World) -> None:
    one = world.attach(world.network(1), 2)
    gateway = {4: "10.1.0.1", 6: "fd1::1"}
    source = datagram_source(world.host, one.sandbox, address(one, version), expected=True)
    assert source == gateway[version]


# from outside, by gateway mode


@filtered
@BOTH
@pytest.mark.parametrize(
    ("mode", "datagrams", "pings"),
    [
        ("nat", False, False),
        ("nat-unprotected", True, True),
        ("routed", False, True),
    ],
)
def test_container_addresses_from_outside(
    mode: str, datagrams: bool, pings: bool, version: int, world: World
) -> None:
    options = {f"bridge.gateway_mode_ipv{family}": mode for family in (4, 6)}
    one = world.attach(world.network(1, options=options), 2)
    target = address(one, version)
    if datagrams:
        assert reaches(world.peer, one.sandbox, target)
    else:
        assert is_silent(world.peer, one.sandbox, target)
    assert world.peer.pings(target) == pings
    source = datagram_source(one.sandbox, world.peer, PEER[version], expected=True)
    assert source == (target if mode == "routed" else HOST[version])


@BOTH
def test_modes_are_of_one_family(version: int, world: World) -> None:
    options = {f"bridge.gateway_mode_ipv{version}": "nat-unprotected"}
    one = world.attach(world.network(1, options=options), 2)
    other = 10 - version
    assert reaches(world.peer, one.sandbox, address(one, version))
    assert is_silent(world.peer, one.sandbox, address(one, other))


@pytest.mark.parametrize("mode", ["routed", "nat-unprotected"])
def test_no_mode_opens_a_network_to_another(mode: str, world: World) -> None:
    open_to_all = world.network(1, options={"bridge.gateway_mode_ipv4": mode})
    one, two = world.attach(open_to_all, 2), world.attach(world.network(2), 2)
    assert is_silent(two.sandbox, one.sandbox, "10.1.0.2")
    assert not two.sandbox.pings("10.1.0.2")


def test_a_trusted_interface_reaches_containers(world: World) -> None:
    other = world.add_peer(
        "up1", {4: "198.51.100.2", 6: "2001:db8:1::2"}, {4: "198.51.100.1", 6: "2001:db8:1::1"}
    )
    spec = world.network(1, options={"bridge.trusted_host_interfaces": "up1"})
    one = world.attach(spec, 2)
    assert other.pings("10.1.0.2")
    assert other.pings("fd1::2")
    assert not world.peer.pings("10.1.0.2")
    assert is_silent(other, one.sandbox, "10.1.0.2")  # its ports are not published


@BOTH
def test_what_a_dnat_rule_sends_is_let_in(version: int, world: World) -> None:
    """Publishing, and administrators, send connections in by DNAT."""
    one = world.attach(world.network(1), 2)
    family = {4: "ip", 6: "ip6"}[version]
    world.host.sh(
        f"nft add table {family} mine; nft 'add chain {family} mine in {{ type nat hook "
        "prerouting priority dstnat; }'; nft 'add rule "
        f"{family} mine in {family} daddr {HOST[version]} udp dport 4000 dnat to "
        f"{address(one, version)}'"
    )
    source = datagram_source(world.peer, one.sandbox, HOST[version], expected=True)
    assert source == PEER[version]


# internal


@filtered
@BOTH
def test_an_internal_network(version: int, world: World) -> None:
    spec = world.network(1, internal=True)
    one, two = world.attach(spec, 2), world.attach(spec, 3)
    world.network(2)  # switches forwarding on
    gateway = {4: "10.1.0.1", 6: "fd1::1"}
    assert (one.join.gateway, one.join.gateway_ipv6) == (None, None)
    one.sandbox.sh(f"ip route add default via {gateway[version]}")
    assert reaches(one.sandbox, two.sandbox, address(two, version))
    assert one.sandbox.pings(gateway[version])
    assert is_silent(one.sandbox, world.peer, PEER[version])
    assert is_silent(world.peer, one.sandbox, address(one, version))
    assert not one.sandbox.pings(PEER[version])


def test_an_isolated_network_has_not_even_the_host(world: World) -> None:
    options = {f"bridge.gateway_mode_ipv{version}": "isolated" for version in (4, 6)}
    spec = world.network(1, internal=True, options=options)
    one, two = world.attach(spec, 2), world.attach(spec, 3)
    assert reaches(one.sandbox, two.sandbox, "10.1.0.3")
    assert reaches(one.sandbox, two.sandbox, "fd1::3")
    assert world.host.addresses(f"br-{spec.id[:12]}") == set()
    assert not one.sandbox.pings("10.1.0.1")


# ICC


@filtered
@BOTH
def test_icc_off(version: int, world: World) -> None:
    spec = world.network(1, options={"bridge.enable_icc": "false"})
    one, two = world.attach(spec, 2), world.attach(spec, 3)
    gateway = {4: "10.1.0.1", 6: "fd1::1"}[version]
    assert one.sandbox.pings(gateway)
    assert two.sandbox.pings(gateway)
    assert one.sandbox.pings(PEER[version])
    assert is_silent(one.sandbox, two.sandbox, address(two, version))


@BOTH
def test_icc_off_by_way_of_the_gateway(version: int, world: World) -> None:
    """Sent to the host's MAC address, so that the host would route it back."""
    spec = world.network(1, options={"bridge.enable_icc": "false"})
    one, two = world.attach(spec, 2), world.attach(spec, 3)
    gateway = {4: "10.1.0.1", 6: "fd1::1"}[version]
    length = {4: 32, 6: 128}[version]
    one.sandbox.sh(f"ip route add {address(two, version)}/{length} via {gateway}")
    assert is_silent(one.sandbox, two.sandbox, address(two, version))


def test_icc_is_off_for_one_network_only(world: World) -> None:
    world.network(1, options={"bridge.enable_icc": "false"})
    spec = world.network(2)
    one, two = world.attach(spec, 2), world.attach(spec, 3)
    assert reaches(one.sandbox, two.sandbox, "10.2.0.3")


# one family


def test_ipv6_only(world: World) -> None:
    spec = network("fd1::1/64")
    world.driver.create_network(spec)
    one, two = world.attach(spec, 2), world.attach(spec, 3)
    assert one.interface.address is None
    assert one.sandbox.link("eth0")["address"].startswith("02:42:")
    assert reaches(one.sandbox, two.sandbox, "fd1::3")
    source = datagram_source(one.sandbox, world.peer, PEER[6], expected=True)
    assert source == HOST[6]


def test_ipv6_works_with_the_first_packet(world: World) -> None:
    """A router asks for neighbours with its link-local address: it must not be tentative."""
    spec = world.network(1, options={"bridge.gateway_mode_ipv6": "routed"})
    world.attach(spec, 2)
    assert world.peer.pings("fd1::2")
    name = f"br-{spec.id[:12]}"
    mac = world.host.link(name)["address"].split(":")
    made = IPv6Address(f"fe80::08{mac[1]}:{mac[2]}ff:fe{mac[3]}:{mac[4]}{mac[5]}")
    link_local = [
        IPv6Address(info["local"])
        for info in world.host.ip(f"addr show dev {name}")[0]["addr_info"]
        if info["scope"] == "link"
    ]
    assert link_local == [made]
    assert world.driver.restore(spec, []) == []


# routers


@pytest.mark.parametrize("owned", [True, False], ids=["our bridge", "existing bridge"])
@filtered
def test_a_container_is_no_router(owned: bool, world: World) -> None:
    """CVE-2020-13401, CVE-2020-10749: neither its neighbours' nor the host's.

    On a bridge of somebody else's routers may be anywhere: there it also proves the sender.
    """
    world.host.sh("ip link add lan type bridge")
    spec = world.network(1, options={} if owned else {"bridge.name": "lan"})
    one, two = world.attach(spec, 2), world.attach(spec, 3)
    prefix = IPv6Network("fd66::/64")
    for place in (one.sandbox, two.sandbox):
        poll(partial(link_local_is_ready, place, "eth0"), "a link-local address")
    advertise_router(one.sandbox, "eth0", prefix)
    if owned:
        # what comes after it on the same way has arrived, so it would have too
        assert reaches(one.sandbox, two.sandbox, "fd1::3")
        assert not has_address_of(two.sandbox, "eth0", prefix)
        assert not has_address_of(world.host, f"br-{spec.id[:12]}", prefix)
    else:
        poll(lambda: has_address_of(two.sandbox, "eth0", prefix), "an address of the prefix")


def test_after_removal_the_host_routes_no_more(world: World) -> None:
    spec = world.network(1)
    one = world.attach(spec, 2)
    assert one.sandbox.pings(PEER[4])
    world.driver.delete_network(spec.id)
    assert world.host.sh("nft -s list ruleset") == ""
    assert world.host.sh("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding") == "0\n0\n"
