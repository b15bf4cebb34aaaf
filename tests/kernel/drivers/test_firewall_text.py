"""The rules as the kernel holds them, for each combination of options.

Each is compared with a text in ``golden/``; options that make no difference share one.
``UPDATE_GOLDEN=1`` rewrites them: read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from kernel.drivers.lab import Host, network

from cnm.drivers.bridge.driver import BridgeDriver
from cnm.types import NetworkSpec

GOLDEN = Path(__file__).parent / "golden"
IDENTITY = "0123456789ab" + "c" * 52
V4, V6 = "10.77.0.1/24", "fd77::1/64"

# golden text, pools, and what more is said of the network
CASES: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "plain": ("ipv4", (V4,), {}),
    "mtu": ("ipv4", (V4,), {"options": {"driver.mtu": "1400"}}),
    "inhibited": ("ipv4", (V4,), {"options": {"bridge.inhibit_ipv4": "true"}}),
    "binding": ("ipv4", (V4,), {"options": {"bridge.host_binding_ipv4": "127.0.0.1"}}),
    "two pools": ("ipv4", (V4, "10.78.0.1/24"), {}),
    "ipv6 mode without ipv6": ("ipv4", (V4,), {"options": {"bridge.gateway_mode_ipv6": "routed"}}),
    "dual-stack": ("dual-stack", (V4, V6), {}),
    "ipv6": ("ipv6", (V6,), {}),
    "icc off": ("icc-off", (V4,), {"options": {"bridge.enable_icc": "false"}}),
    "no masquerade": (
        "no-masquerade",
        (V4, V6),
        {"options": {"bridge.enable_ip_masquerade": "false"}},
    ),
    "source": (
        "source",
        (V4, V6),
        {"options": {"host_ipv4": "192.0.2.9", "host_ipv6": "2001:db8::9"}},
    ),
    "source without masquerade": (
        "no-masquerade",
        (V4, V6),
        {"options": {"host_ipv4": "192.0.2.9", "bridge.enable_ip_masquerade": "false"}},
    ),
    "routed": (
        "routed",
        (V4, V6),
        {"options": {"bridge.gateway_mode_ipv4": "routed", "bridge.gateway_mode_ipv6": "routed"}},
    ),
    "routed ipv6": ("routed-ipv6", (V4, V6), {"options": {"bridge.gateway_mode_ipv6": "routed"}}),
    "unprotected": (
        "unprotected",
        (V4,),
        {"options": {"bridge.gateway_mode_ipv4": "nat-unprotected"}},
    ),
    "trusted": ("trusted", (V4,), {"options": {"bridge.trusted_host_interfaces": "eth1:eth2"}}),
    "internal": ("internal", (V4, V6), {"internal": True}),
    "internal, options of the outside": (
        "internal",
        (V4, V6),
        {
            "internal": True,
            "options": {"host_ipv4": "192.0.2.9", "bridge.gateway_mode_ipv6": "routed"},
        },
    ),
    "isolated": (
        "internal",
        (V4, V6),
        {
            "internal": True,
            "options": {
                "bridge.gateway_mode_ipv4": "isolated",
                "bridge.gateway_mode_ipv6": "isolated",
            },
        },
    ),
    "internal, icc off": (
        "internal-icc-off",
        (V4,),
        {"internal": True, "options": {"bridge.enable_icc": "false"}},
    ),
}


def rules(host: Host) -> str:
    return host.sh("nft -s list table inet cnm-bridge; nft -s list table bridge cnm-bridge")


def compare(name: str, text: str) -> None:
    golden = GOLDEN / f"{name}.nft"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.fixture
def driver(host: Host) -> BridgeDriver:
    return host.bridge()


@pytest.mark.parametrize("case", CASES)
def test_alone(case: str, host: Host, driver: BridgeDriver) -> None:
    golden, pools, more = CASES[case]
    spec = network(*pools, network_id=IDENTITY, **more)
    driver.create_network(spec)
    compare(golden, rules(host))
    driver.delete_network(spec.id)
    assert host.sh("nft -s list ruleset") == ""


@pytest.mark.parametrize("case", CASES)
def test_after_removal_the_tables_are_as_before(
    case: str, host: Host, driver: BridgeDriver
) -> None:
    _, pools, more = CASES[case]
    driver.create_network(network("10.99.0.1/24", network_id="f" * 64))
    before = rules(host)
    spec = network(*pools, network_id=IDENTITY, **more)
    driver.create_network(spec)
    assert rules(host) != before
    driver.delete_network(spec.id)
    assert rules(host) == before


def test_several(host: Host, driver: BridgeDriver) -> None:
    for spec in several():
        driver.create_network(spec)
    compare("several", rules(host))


def test_a_restart_writes_the_same(host: Host, driver: BridgeDriver) -> None:
    for spec in several():
        driver.create_network(spec)
    before = rules(host)
    again = host.bridge()
    for spec in several():
        assert again.restore(spec, []) == []
    assert rules(host) == before
    host.sh("nft flush ruleset")
    for spec in several():
        again.restore(spec, [])
    assert rules(host) == before


def several() -> list[NetworkSpec]:
    """One of each kind."""
    return [
        network("10.1.0.1/24", "fd01::1/64", network_id="1" * 64),
        network("10.2.0.1/24", network_id="2" * 64, internal=True),
        network("10.3.0.1/24", network_id="3" * 64, options={"bridge.enable_icc": "false"}),
        network("10.4.0.1/24", network_id="4" * 64, options={"host_ipv4": "192.0.2.9"}),
    ]
