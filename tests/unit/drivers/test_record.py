"""What follows from a network's options: gateways, MACs, firewall, bridge."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

import pytest

from cnm.drivers.bridge import firewall
from cnm.drivers.bridge.firewall import Member
from cnm.drivers.bridge.record import NetworkRecord
from cnm.drivers.mac import complete
from cnm.runtime.kernel import owner
from cnm.types import EndpointID, EndpointInterface, IpamPool, NetworkID, NetworkSpec, PoolID

ENDPOINT = EndpointID("e" * 64)
BRIDGE = '"br-aaaaaaaaaaaa"'


def pool(text: str) -> IpamPool:
    gateway = ip_interface(text)
    return IpamPool(PoolID(text), "local", gateway.network, gateway)


def record(options: Mapping[str, str] | None = None, *, internal: bool = False) -> NetworkRecord:
    spec = NetworkSpec(
        NetworkID("a" * 64),
        "blue",
        enable_ipv6=True,
        internal=internal,
        options={f"com.docker.network.{key}": value for key, value in (options or {}).items()},
        ipv4=(pool("10.1.0.1/24"), pool("10.2.0.1/24")),
        ipv6=(pool("fd01::1/64"),),
    )
    return NetworkRecord.read(spec, {})


def held(found: NetworkRecord) -> set[str]:
    return {f"{item.set} {item.key}" for item in firewall.members(found.policy(adopted=False))}


def test_an_endpoint_has_the_gateway_of_its_pool() -> None:
    interface = EndpointInterface(IPv4Interface("10.2.0.9/24"), IPv6Interface("fd01::9/64"))
    info = record().join_info(ENDPOINT, interface, "eth0", "")
    assert (str(info.gateway), str(info.gateway_ipv6)) == ("10.2.0.1", "fd01::1")
    assert info.placed
    assert info.mark == owner.inside_mark(ENDPOINT)


def test_an_internal_network_has_none() -> None:
    interface = EndpointInterface(IPv4Interface("10.2.0.9/24"), IPv6Interface("fd01::9/64"))
    info = record(internal=True).join_info(ENDPOINT, interface, "eth0", "vp1")
    assert (info.gateway, info.gateway_ipv6, info.placed, info.mark) == (None, None, False, "")


@pytest.mark.parametrize(
    ("options", "addresses"),
    [
        ({}, ["10.1.0.1/24", "10.2.0.1/24", "fd01::1/64"]),
        ({"bridge.inhibit_ipv4": "true"}, ["fd01::1/64"]),
        ({"bridge.gateway_mode_ipv4": "isolated"}, ["fd01::1/64"]),
        ({"bridge.gateway_mode_ipv6": "isolated"}, ["10.1.0.1/24", "10.2.0.1/24"]),
    ],
)
def test_addresses_of_the_bridge(options: dict[str, str], addresses: list[str]) -> None:
    bridge = record(options, internal=True).bridge
    assert [str(address) for address in bridge.addresses] == addresses


def test_the_bridge_is_named_and_addressed_by_the_id() -> None:
    bridge = record().bridge
    assert (bridge.name, bridge.mac) == ("br-aaaaaaaaaaaa", "0a:aa:aa:aa:aa:aa")
    assert record({"bridge.name": "lan"}).bridge.name == "lan"


@pytest.mark.parametrize(
    ("options", "gone", "come"),
    [
        ({"bridge.host_binding_ipv4": "127.0.0.1"}, set(), set()),
        ({"bridge.enable_icc": "false"}, {f"same_network {BRIDGE} . {BRIDGE}"}, set()),
        (
            {"bridge.enable_ip_masquerade": "false"},
            {f"masqueraded ipv4 . {BRIDGE}", f"masqueraded ipv6 . {BRIDGE}"},
            set(),
        ),
        (
            {"host_ipv4": "192.0.2.9"},
            {f"masqueraded ipv4 . {BRIDGE}"},
            {f"source_ipv4 {BRIDGE}"},
        ),
        (
            {"bridge.gateway_mode_ipv6": "routed"},
            {f"masqueraded ipv6 . {BRIDGE}"},
            {f"routed ipv6 . {BRIDGE}"},
        ),
        ({"bridge.gateway_mode_ipv4": "nat-unprotected"}, set(), {f"unprotected ipv4 . {BRIDGE}"}),
        ({"bridge.trusted_host_interfaces": "eth1"}, set(), {f'trusted "eth1" . {BRIDGE}'}),
    ],
)
def test_an_option_changes_only_its_elements(
    options: dict[str, str], gone: set[str], come: set[str]
) -> None:
    plain = held(record())
    assert held(record(options)) == (plain - gone) | come
    assert gone <= plain


def test_an_internal_network_has_no_outside() -> None:
    wanted = {f"bridges {BRIDGE}", f"same_network {BRIDGE} . {BRIDGE}", f"internal {BRIDGE}"}
    assert held(record(internal=True)) == wanted


def test_the_rules_do_not_depend_on_the_networks() -> None:
    members = list(firewall.members(record().policy(adopted=False)))
    assert firewall.routed_table(members).chains == firewall.routed_table(()).chains


def test_elements_survive_their_text() -> None:
    item = Member("source_ipv4", BRIDGE, "192.0.2.9")
    assert firewall.member("source_ipv4", f"{BRIDGE} : 192.0.2.9") == item
    assert firewall.member("bridges", BRIDGE) == Member("bridges", BRIDGE)


def test_every_combination_of_port_flags_has_a_group_of_its_own() -> None:
    groups = {
        firewall.port_group(guarded=guarded, icc=icc)
        for guarded in (False, True)
        for icc in (False, True)
    }
    assert len(groups) == 4
    assert firewall.port_group(guarded=False, icc=True) == 0


@pytest.mark.parametrize(
    ("interface", "mac"),
    [
        (EndpointInterface(IPv4Interface("172.18.0.2/16")), "02:42:ac:12:00:02"),
        (
            EndpointInterface(IPv4Interface("10.0.0.2/8"), mac="0A-11-22-33-44-55"),
            "0a:11:22:33:44:55",
        ),
    ],
)
def test_mac_as_dockers(interface: EndpointInterface, mac: str) -> None:
    assert complete(ENDPOINT, interface).mac == mac


def test_mac_without_ipv4_stays_with_the_address() -> None:
    interface = EndpointInterface(address_ipv6=IPv6Interface("fd01::2/64"))
    other = EndpointInterface(address_ipv6=IPv6Interface("fd01::3/64"))
    mac = complete(ENDPOINT, interface).mac
    assert mac is not None
    assert mac.startswith("02:42:")
    assert mac == complete(EndpointID("f" * 64), interface).mac
    assert mac != complete(ENDPOINT, other).mac


def test_mac_without_any_address_is_the_endpoints() -> None:
    macs = {complete(EndpointID(c * 64), EndpointInterface()).mac for c in "0123"}
    assert len(macs) == 4
