"""A network's configuration made into what the daemon is asked for, and results of it."""

from __future__ import annotations

from typing import Any

import pytest

from cnm.cni import conf, results
from cnm.cni.errors import CniError
from cnm.cni.invocation import Invocation

ATTACHED = {
    "Network": "pods",
    "Interface": "eth0",
    "Mac": "02:42:0a:00:00:02",
    "Addresses": [
        {"Address": "10.0.0.2/24", "Gateway": "10.0.0.1"},
        {"Address": "fd00::2/64", "Gateway": ""},
    ],
    "DefaultRoutes": ["10.0.0.1"],
    "Routes": [{"Destination": "10.9.0.0/16", "Gateway": ""}],
    "Nameservers": ["127.0.0.11"],
}


def call(
    given: dict[str, Any] | None = None, version: str = "1.1.0", **arguments: str
) -> Invocation:
    return Invocation("ADD", version, "pods", given or {}, "c1", "/run/netns/c1", "eth0", arguments)


def test_a_network_that_is_made() -> None:
    wanted, existing = conf.network(
        call({"subnet": "10.1.0.0/24", "gateway": "10.1.0.9", "ipv6": True, "options": {"a": "b"}})
    )
    assert not existing
    assert wanted == {
        "Name": "pods",
        "Driver": "bridge",
        "Internal": False,
        "EnableIPv6": True,
        "IPAM": {"Config": [{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.9"}]},
        "Options": {"a": "b"},
        "Labels": {},
    }


def test_a_network_that_is_there() -> None:
    assert conf.network(call({"network": "blue"})) == ({"Name": "blue"}, True)


def test_endpoints() -> None:
    runtime = {"ips": ["10.0.0.5/24", "fd00::5"], "mac": "02:00:00:00:00:01"}
    wanted = conf.endpoint(
        call(
            {"runtimeConfig": {**runtime, "aliases": {"pods": ["a", "web"], "other": ["b"]}}},
            K8S_POD_NAME="web",
        )
    )
    assert wanted["IPAMConfig"] == {"IPv4Address": "10.0.0.5", "IPv6Address": "fd00::5"}
    assert wanted["MacAddress"] == "02:00:00:00:00:01"
    assert wanted["Aliases"] == ["web", "a"]
    assert conf.endpoint(call(IP="10.0.0.6", MAC="02:00:00:00:00:02"))["IPAMConfig"] == {
        "IPv4Address": "10.0.0.6"
    }


def test_ports() -> None:
    given = [
        {"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": "127.0.0.1"},
        {"hostPort": 8081, "containerPort": 80},
        {"hostPort": 53, "containerPort": 53, "protocol": "udp"},
        {"hostPort": 0, "containerPort": 9},
    ]
    assert conf.port_bindings(call({"runtimeConfig": {"portMappings": given}})) == {
        "80/tcp": [
            {"HostIp": "127.0.0.1", "HostPort": "8080"},
            {"HostIp": "", "HostPort": "8081"},
        ],
        "53/udp": [{"HostIp": "", "HostPort": "53"}],
    }


def test_name_servers() -> None:
    both = {"dns": {"nameservers": ["9.9.9.9"], "search": ["a"], "domain": "d", "options": ["o"]}}
    assert conf.name_servers(call(both)) == ["9.9.9.9"]
    assert conf.search(call(both)) == ("d", ["a"], ["o"])
    runtime = {"runtimeConfig": {"dns": {"servers": ["8.8.8.8"], "searches": ["b"]}}}
    assert conf.name_servers(call({**both, **runtime})) == ["8.8.8.8"]
    assert conf.search(call({**both, **runtime})) == ("d", ["b"], ["o"])


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"bridge": "br0"}, 2),
        ({"ipam": {"type": "host-local"}}, 2),
        ({"mtu": True}, 7),
        ({"mtu": "1400"}, 7),
        ({"internal": 1}, 7),
        ({"network": "x", "subnet": "10.0.0.0/8"}, 7),
    ],
)
def test_keys_that_are_refused(given: dict[str, Any], code: int) -> None:
    with pytest.raises(CniError) as refused:
        conf.check(call(given))
    assert refused.value.code == code


@pytest.mark.parametrize(
    "given",
    [
        {"runtimeConfig": []},
        {"runtimeConfig": {"ips": ["x"]}},
        {"runtimeConfig": {"ips": ["10.0.0.1", "10.0.0.2"]}},
        {"runtimeConfig": {"mac": 1}},
        {"runtimeConfig": {"aliases": "web"}},
        {"runtimeConfig": {"aliases": {"pods": [1]}}},
    ],
)
def test_wishes_that_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(CniError) as refused:
        conf.endpoint(call(given))
    assert refused.value.code == 7


@pytest.mark.parametrize(
    "item", [1, {}, {"hostPort": "80", "containerPort": 80}, {"hostPort": 1, "containerPort": None}]
)
def test_ports_that_are_refused(item: Any) -> None:
    with pytest.raises(CniError):
        conf.port_bindings(call({"runtimeConfig": {"portMappings": [item]}}))


@pytest.mark.parametrize(
    "given",
    [
        {"subnet": "10.0.0.0/8", "subnets": [{"subnet": "10.0.0.0/8"}]},
        {"subnets": ["10.0.0.0/8"]},
        {"subnets": [{"net": "10.0.0.0/8"}]},
        {"subnets": [{"subnet": 1}]},
        {"options": {"a": 1}},
        {"labels": []},
    ],
)
def test_networks_that_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(CniError):
        conf.network(call(given))


def test_a_result_behind_another() -> None:
    before = {"cniVersion": "1.1.0", "interfaces": [{"name": "lo"}], "ips": None, "routes": []}
    result = results.of_add(call({"prevResult": before}), ATTACHED)
    assert [item["name"] for item in result["interfaces"]] == ["lo", "eth0"]
    assert result["ips"] == [
        {"address": "10.0.0.2/24", "interface": 1, "gateway": "10.0.0.1"},
        {"address": "fd00::2/64", "interface": 1},
    ]
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}, {"dst": "10.9.0.0/16"}]


def test_families_are_named_below_1_0() -> None:
    result = results.of_add(call(version="0.4.0"), ATTACHED)
    assert [item["version"] for item in result["ips"]] == ["4", "6"]


def test_where_no_names_are_served_the_given_servers_are_told() -> None:
    given = {"dns": {"nameservers": ["9.9.9.9"]}}
    result = results.of_add(call(given), {**ATTACHED, "Nameservers": []})
    assert result["dns"] == {"nameservers": ["9.9.9.9"]}
