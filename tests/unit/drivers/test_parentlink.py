"""Options of networks on a parent, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_interface

import pytest

from cnm.drivers.ipvlan.options import parse_network as parse_ipvlan
from cnm.drivers.macvlan.options import parse_network as parse_macvlan
from cnm.drivers.parentlink.options import check_endpoint, split_vlan
from cnm.drivers.parentlink.record import NetworkRecord
from cnm.errors import InvalidParameter
from cnm.runtime.kernel.netlink import Upper
from cnm.types import EndpointInterface, IpamPool, NetworkID, NetworkSpec, PoolID

MTU = "com.docker.network.driver.mtu"


def spec(
    options: Mapping[str, str] | None = None, *, gateway: bool = False, internal: bool = False
) -> NetworkSpec:
    def pool(text: str) -> IpamPool:
        held = ip_interface(text)
        return IpamPool(PoolID(text), "local", held.network, held if gateway else None)

    return NetworkSpec(
        NetworkID("ab" * 32),
        "blue",
        enable_ipv6=True,
        internal=internal,
        options=options or {},
        ipv4=(pool("10.1.0.1/24"),),
        ipv6=(pool("fd01::1/64"),),
    )


@pytest.mark.parametrize(
    ("mode", "number"), [("", 4), ("bridge", 4), ("private", 1), ("vepa", 2), ("passthru", 8)]
)
def test_macvlan_modes(mode: str, number: int) -> None:
    found = parse_macvlan(spec({"macvlan_mode": mode, "parent": "eth0"}), {})
    assert (found.upper, found.mode) == (Upper("macvlan", number), mode or "bridge")
    assert found.own_macs == (mode != "passthru")
    assert not found.routed


@pytest.mark.parametrize(("mode", "number"), [("", 0), ("l2", 0), ("l3", 1), ("l3s", 2)])
@pytest.mark.parametrize(("flag", "bit"), [("", 0), ("bridge", 0), ("private", 1), ("vepa", 2)])
def test_ipvlan_modes_and_flags(mode: str, number: int, flag: str, bit: int) -> None:
    found = parse_ipvlan(spec({"ipvlan_mode": mode, "ipvlan_flag": flag}), {})
    assert found.upper == Upper("ipvlan", number, bit)
    assert found.routed == (mode in ("l3", "l3s"))
    assert not found.own_macs


def test_the_daemons_defaults_lie_below_the_networks_options() -> None:
    defaults = {"parent": "eth0", MTU: "1400", "macvlan_mode": "vepa"}
    found = parse_macvlan(spec({"macvlan_mode": "private"}), defaults)
    assert (found.parent, found.mtu, found.mode) == ("eth0", 1400, "private")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {MTU: "x"},
            'invalid value "x" for option com.docker.network.driver.mtu: must be a number',
        ),
        ({MTU: "67"}, "must be from 68 to 65535"),
        ({MTU: "1279"}, "IPv6 needs 1280 at least"),
        ({"host_access": "perhaps"}, 'invalid value "perhaps" for option host_access'),
        ({"host_access": "1", "macvlan_mode": "private"}, "host_access needs macvlan_mode=bridge"),
        ({"macvlan_modes": "bridge"}, "unknown option macvlan_modes for driver macvlan"),
        ({"com.docker.network.bridge.name": "x"}, "unknown option com.docker.network.bridge.name"),
        ({"parent": "a" * 16}, "longer than 15 characters"),
    ],
)
def test_what_is_refused(options: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        parse_macvlan(spec(options), {})
    assert told in str(refusal.value)


def test_keys_of_others_mean_nothing_here() -> None:
    keys = {
        "com.example.x": "1",
        "com.docker.network.generic": "",
        "com.docker.network.container_iface_prefix": "lan",
        "com.cnm.network.dns": "1.1.1.1",
    }
    assert parse_macvlan(spec(keys), {}) == parse_macvlan(spec(), {})
    check_endpoint({"com.docker.network.endpoint.ifname": "lan0", "com.example.x": 1}, "macvlan")
    with pytest.raises(InvalidParameter, match=r"unknown option com\.docker\.network\.endpoint\.x"):
        check_endpoint({"com.docker.network.endpoint.x": 1}, "macvlan")


@pytest.mark.parametrize(
    ("name", "parts"),
    [("eth0.1", ("eth0", 1)), ("eth0.4094", ("eth0", 4094)), ("br-lan.7", ("br-lan", 7))],
)
def test_a_vlan_in_a_name(name: str, parts: tuple[str, int]) -> None:
    assert split_vlan(name) == parts


@pytest.mark.parametrize(
    "name",
    ["eth0", "eth0.", "eth0.0", "eth0.4095", "eth0.-1", "e.1.2", "e.²", "e.007", "e.00", "e.+5"],
)
def test_no_vlan_in_a_name(name: str) -> None:
    with pytest.raises(InvalidParameter):
        split_vlan(name)


def record(options: dict[str, str], **facts: bool) -> NetworkRecord:
    network = spec(options, **facts)
    return NetworkRecord(network, parse_macvlan(network, {}), "macvlan", "dm-abababababab")


INTERFACE = EndpointInterface(ip_interface("10.1.0.9/24"), ip_interface("fd01::9/64"))  # type: ignore[arg-type]


def test_the_gateway_is_the_one_that_was_asked_for() -> None:
    joined = record({"parent": "eth0"}, gateway=True).join_info(INTERFACE, "eth0", "")
    assert (str(joined.gateway), str(joined.gateway_ipv6)) == ("10.1.0.1", "fd01::1")
    assert joined.placed
    assert joined.disable_gateway_service
    for known in (
        record({"parent": "eth0"}),
        record({"parent": "eth0"}, gateway=True, internal=True),
        record({}, gateway=True),
    ):
        joined = known.join_info(INTERFACE, "eth0", "mv1")
        assert (joined.gateway, joined.gateway_ipv6, joined.placed) == (None, None, False)


def test_layer_3_goes_out_of_the_device() -> None:
    network = spec({"parent": "eth0", "ipvlan_mode": "l3"}, gateway=True)
    known = NetworkRecord(network, parse_ipvlan(network, {}), "ipvlan", "di-abababababab")
    joined = known.join_info(INTERFACE, "eth0", "")
    assert [str(route.destination) for route in joined.static_routes] == ["0.0.0.0/0", "::/0"]
    assert (joined.gateway, joined.gateway_ipv6) == (None, None)


def test_names() -> None:
    assert record({}).parent_name == "dm-abababababab"
    assert record({}).parent_names == {"dm-abababababab"}
    assert record({"parent": "eth0"}).parent_names == {"eth0"}
    assert record({"parent": "eth0.100"}).parent_names == {"eth0", "eth0.100"}
