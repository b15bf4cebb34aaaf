"""The bridge driver's options, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from cnm.drivers.bridge.options import (
    EndpointOptions,
    GatewayMode,
    NetworkOptions,
    parse_endpoint,
    parse_network,
)
from cnm.drivers.mac import parse_mac
from cnm.errors import InvalidParameter
from cnm.types import NetworkID, NetworkSpec

PREFIX = "com.docker.network"
BRIDGE = f"{PREFIX}.bridge"


def spec(options: Mapping[str, str], *, internal: bool = False, ipv6: bool = False) -> NetworkSpec:
    return NetworkSpec(
        NetworkID("a" * 64), "blue", enable_ipv6=ipv6, internal=internal, options=options
    )


def parsed(key: str, value: str, **more: Any) -> NetworkOptions:
    return parse_network(spec({key: value}, **more), {})


def test_defaults_are_dockers() -> None:
    assert parse_network(spec({}), {}) == NetworkOptions()
    assert NetworkOptions().icc
    assert NetworkOptions().masquerade
    assert NetworkOptions().mode_ipv6 is GatewayMode.NAT


@pytest.mark.parametrize(
    ("key", "value", "field", "wanted"),
    [
        (f"{BRIDGE}.name", "cnm0", "bridge_name", "cnm0"),
        (f"{BRIDGE}.name", "", "bridge_name", None),
        (f"{BRIDGE}.enable_icc", "false", "icc", False),
        (f"{BRIDGE}.enable_icc", "0", "icc", False),
        (f"{BRIDGE}.enable_icc", "", "icc", True),
        (f"{BRIDGE}.enable_ip_masquerade", "F", "masquerade", False),
        (f"{BRIDGE}.inhibit_ipv4", "true", "inhibit_ipv4", True),
        (f"{BRIDGE}.gateway_mode_ipv4", "routed", "mode_ipv4", GatewayMode.ROUTED),
        (f"{BRIDGE}.gateway_mode_ipv6", "nat-unprotected", "mode_ipv6", "nat-unprotected"),
        (f"{BRIDGE}.gateway_mode_ipv4", "", "mode_ipv4", GatewayMode.NAT),
        (f"{BRIDGE}.host_binding_ipv4", "127.0.0.1", "host_binding", IPv4Address("127.0.0.1")),
        (f"{BRIDGE}.host_binding_ipv4", "0.0.0.0", "host_binding", IPv4Address("0.0.0.0")),
        (f"{BRIDGE}.trusted_host_interfaces", "eth1:eth2", "trusted_interfaces", ("eth1", "eth2")),
        (f"{BRIDGE}.trusted_host_interfaces", "eth1:eth1", "trusted_interfaces", ("eth1",)),
        (f"{PREFIX}.driver.mtu", "9000", "mtu", 9000),
        (f"{PREFIX}.driver.mtu", "68", "mtu", 68),
        (f"{PREFIX}.driver.mtu", "0", "mtu", None),
        (f"{PREFIX}.host_ipv4", "192.0.2.9", "host_ipv4", IPv4Address("192.0.2.9")),
        (f"{PREFIX}.host_ipv6", "2001:db8::9", "host_ipv6", IPv6Address("2001:db8::9")),
        (f"{PREFIX}.container_iface_prefix", "net", "interface_prefix", "net"),
        (f"{PREFIX}.container_iface_prefix", "twelve-lette", "interface_prefix", "twelve-lette"),
    ],
)
def test_a_value(key: str, value: str, field: str, wanted: object) -> None:
    assert getattr(parsed(key, value), field) == wanted


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (f"{BRIDGE}.name", "sixteen-letters!"),
        (f"{BRIDGE}.name", "a b"),
        (f"{BRIDGE}.name", "a/b"),
        (f"{BRIDGE}.name", "br*"),
        (f"{BRIDGE}.name", "leak%d"),
        (f"{BRIDGE}.name", "a\0b"),
        (f"{BRIDGE}.name", "a\nb"),
        (f"{BRIDGE}.name", "a\ud800"),
        (f"{BRIDGE}.name", "all"),
        (f"{BRIDGE}.name", "default"),
        (f"{BRIDGE}.name", 'br"; drop'),
        (f"{BRIDGE}.enable_icc", "maybe"),
        (f"{BRIDGE}.gateway_mode_ipv4", "natural"),
        (f"{BRIDGE}.host_binding_ipv4", "here"),
        (f"{BRIDGE}.trusted_host_interfaces", "eth1:eth*"),
        (f"{BRIDGE}.trusted_host_interfaces", "eth1:up%d"),
        (f"{BRIDGE}.trusted_host_interfaces", "eth1:all"),
        (f"{BRIDGE}.enable_ICC", "true"),
        (f"{BRIDGE}.no_such_option", ""),
        (f"{PREFIX}.no_such_option", ""),
        (f"{PREFIX}.driver.mtu", "67"),
        (f"{PREFIX}.driver.mtu", "65536"),
        (f"{PREFIX}.driver.mtu", "big"),
        (f"{PREFIX}.host_ipv4", "2001:db8::9"),
        (f"{PREFIX}.host_ipv6", "192.0.2.9"),
        (f"{PREFIX}.host_ipv4", "0.0.0.0"),
        (f"{PREFIX}.container_iface_prefix", "fifteen-letters"),
        (f"{PREFIX}.container_iface_prefix", "thirteen-lett"),
        (f"{PREFIX}.container_iface_prefix", "e%d"),
        (f"{PREFIX}.container_iface_prefix", "e\x01"),
    ],
)
def test_a_bad_value_is_refused_by_its_key(key: str, value: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        parsed(key, value)
    assert key in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_keys_of_others_are_left_alone() -> None:
    options = {"org.example.colour": "blue", f"{PREFIX}.enable_ipv6": "true", "parent": "eth0"}
    assert parse_network(spec(options), {}) == NetworkOptions()


def test_the_networks_own_value_goes_over_the_daemons() -> None:
    defaults = {f"{PREFIX}.driver.mtu": "1400", f"{BRIDGE}.enable_icc": "false"}
    options = parse_network(spec({f"{PREFIX}.driver.mtu": "1450"}), defaults)
    assert (options.mtu, options.icc) == (1450, False)


def test_ipv6_needs_1280_bytes() -> None:
    assert parsed(f"{PREFIX}.driver.mtu", "1279").mtu == 1279
    assert parsed(f"{PREFIX}.driver.mtu", "1280", ipv6=True).mtu == 1280
    with pytest.raises(InvalidParameter, match=r"driver\.mtu.*1280"):
        parsed(f"{PREFIX}.driver.mtu", "1279", ipv6=True)


def test_isolated_is_for_internal_networks() -> None:
    key = f"{BRIDGE}.gateway_mode_ipv6"
    assert parsed(key, "isolated", internal=True).mode_ipv6 is GatewayMode.ISOLATED
    with pytest.raises(InvalidParameter, match="only be used for an internal network"):
        parsed(key, "isolated")


def test_endpoint_options() -> None:
    found = parse_endpoint(
        {
            f"{PREFIX}.endpoint.ifname": "lan0",
            f"{PREFIX}.portmap": [],
            f"{PREFIX}.endpoint.exposedports": [],
            f"{PREFIX}.endpoint.macaddress": "AhEiM0RV",
            "org.example.colour": "blue",
        }
    )
    assert found == EndpointOptions("lan0")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("endpoint.ifname", "sixteen-letters!"),
        ("endpoint.ifname", "eth%d"),
        ("endpoint.ifname", "e\0h"),
        ("endpoint.ifname", "default"),
        ("endpoint.no_such", "x"),
        ("bridge.name", "x"),
    ],
)
def test_a_bad_endpoint_option_is_refused_by_its_key(key: str, value: str) -> None:
    with pytest.raises(InvalidParameter, match=f"{PREFIX}.{key}"):
        parse_endpoint({f"{PREFIX}.{key}": value})


@pytest.mark.parametrize("key", ["endpoint.sysctls", "advertise_addr_nmsgs", "advertise_addr_ms"])
def test_what_nothing_heeds_is_refused(key: str) -> None:
    refusal = f"^not supported yet: option {PREFIX}.{key}$"
    with pytest.raises(InvalidParameter, match=refusal):
        parse_endpoint({f"{PREFIX}.{key}": "1"})
    with pytest.raises(InvalidParameter, match=refusal):
        parsed(f"{PREFIX}.{key}", "1")


@pytest.mark.parametrize("text", ["02:11:22:33:44:55", "02-11-22-33-44-55", "AE:BB:cc:dd:ee:ff"])
def test_a_mac(text: str) -> None:
    assert parse_mac(text) == text.lower().replace("-", ":")


@pytest.mark.parametrize(
    "text", ["", "02:11:22:33:44", "01:00:5e:00:00:01", "00:00:00:00:00:00", "0g:11:22:33:44:55"]
)
def test_no_mac_of_an_interface(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid MAC address"):
        parse_mac(text)
