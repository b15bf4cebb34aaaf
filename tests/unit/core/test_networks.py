"""Networks: created, refused, deleted, pruned; a failure leaves nothing."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from cnm.core.controller import CoreSettings
from cnm.errors import (
    CNMError,
    Conflict,
    Forbidden,
    InvalidParameter,
    KernelError,
    NotFound,
)
from cnm.hostapi import HostRoute
from cnm.types import EndpointRequest, IpamConfig, NetworkRequest

net = ipaddress.ip_network
addr = ipaddress.ip_address
EMPTY = EndpointRequest()


def request(name: str = "blue", subnet: str = "", **more: Any) -> NetworkRequest:
    config = (IpamConfig(net(subnet)),) if subnet else ()
    return NetworkRequest(name, ipam_config=more.pop("ipam_config", config), **more)


def test_create_takes_pools_in_order(world: Any) -> None:
    first = world.core.networks.create(request("a"))
    second = world.core.networks.create(request("b"))
    assert str(first.ipv4[0].pool) == "172.17.0.0/16"
    assert str(second.ipv4[0].pool) == "172.18.0.0/16"
    assert str(second.ipv4[0].gateway) == "172.18.0.1/16"
    assert world.leased() == {"172.17.0.1", "172.18.0.1"}


def test_found_by_id_name_and_prefix(world: Any) -> None:
    made = world.core.networks.create(request())
    for reference in (made.id, "blue", made.id[:12], made.id[:1]):
        assert world.core.networks.find(reference).id == made.id


def test_ambiguous_prefix_has_dockers_message(world: Any) -> None:
    for number in range(40):
        world.core.networks.create(request(f"n{number}", f"10.{number}.0.0/24"))
    first_digits = [item.id[0] for item in world.core.networks.all()]
    digit = max(first_digits, key=first_digits.count)
    count = first_digits.count(digit)
    with pytest.raises(InvalidParameter) as refused:
        world.core.networks.find(digit)
    assert str(refused.value) == (
        f"network {digit} is ambiguous ({count} matches found based on ID prefix)"
    )


REFUSALS = [
    ("empty name", request(" "), InvalidParameter, "invalid name: name is empty"),
    (
        "predefined name",
        request("host"),
        Forbidden,
        "operation is not permitted on predefined host network ",
    ),
    ("unknown driver", request(driver="nope"), NotFound, 'plugin "nope" not found'),
    ("swarm scope", request(scope="swarm"), Forbidden, "This node is not a swarm manager"),
    ("bad scope", request(scope="galaxy"), InvalidParameter, 'invalid scope "galaxy"'),
    (
        "gateway outside",
        request(ipam_config=(IpamConfig(net("10.1.0.0/24"), gateway=addr("10.2.0.1")),)),
        InvalidParameter,
        (
            "invalid network config:\ninvalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't "
            "contain this address"
        ),
    ),
    (
        "gateway is the network address",
        request(ipam_config=(IpamConfig(net("10.1.0.0/24"), gateway=addr("10.1.0.0")),)),
        InvalidParameter,
        "network address",
    ),
    (
        "gateway is the broadcast address",
        request(ipam_config=(IpamConfig(net("10.1.0.0/24"), gateway=addr("10.1.0.255")),)),
        InvalidParameter,
        "broadcast address",
    ),
    (
        "range outside",
        request(ipam_config=(IpamConfig(net("10.1.0.0/24"), net("10.2.0.0/25")),)),
        InvalidParameter,
        "invalid ip-range 10.2.0.0/25: parent subnet 10.1.0.0/24 doesn't contain ip-range",
    ),
    (
        "aux outside",
        request(
            ipam_config=(IpamConfig(net("10.1.0.0/24"), aux_addresses={"r": addr("10.2.0.9")}),)
        ),
        InvalidParameter,
        "invalid auxiliary address r",
    ),
    ("multicast", request(subnet="224.0.0.0/3"), InvalidParameter, "multicast addresses"),
    ("loopback inside", request(subnet="126.0.0.0/7"), InvalidParameter, "loopback addresses"),
    ("link-local", request(subnet="fe80::/64"), InvalidParameter, "link-local addresses"),
    ("v6 subnet without --ipv6", request(subnet="fd77::/64"), InvalidParameter, "add --ipv6"),
    (
        "v4 subnet without IPv4",
        request(subnet="10.1.0.0/24", enable_ipv4=False, enable_ipv6=True),
        InvalidParameter,
        "IPv4 is off",
    ),
    ("too small", request(subnet="10.1.0.1/32"), InvalidParameter, "too small"),
    (
        "two subnets overlap",
        request(ipam_config=(IpamConfig(net("10.1.0.0/16")), IpamConfig(net("10.1.2.0/24")))),
        InvalidParameter,
        "overlaps",
    ),
    (
        "range without subnet",
        request(ipam_config=(IpamConfig(ip_range=net("10.1.0.0/24")),)),
        InvalidParameter,
        "must have a corresponding subnet",
    ),
    (
        "no family",
        request(enable_ipv4=False),
        InvalidParameter,
        "IPv4 or IPv6 must be enabled",
    ),
    (
        "unknown IPAM",
        request(ipam_driver="infoblox"),
        InvalidParameter,
        'plugin "infoblox" not found',
    ),
    ("config-from unknown", request(config_from="x"), NotFound, "network x not found"),
]


@pytest.mark.parametrize(
    ("wish", "kind", "text"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_refused_and_nothing_changed(
    world: Any, wish: NetworkRequest, kind: type[CNMError], text: str
) -> None:
    with pytest.raises(kind) as refused:
        world.core.networks.create(wish)
    assert text in str(refused.value)
    assert world.core.networks.all() == []
    assert world.pools() == set()
    assert world.kernel.networks == {}


def test_duplicate_name(world: Any) -> None:
    world.core.networks.create(request())
    with pytest.raises(Conflict, match="network with name blue already exists"):
        world.core.networks.create(request())
    assert len(world.core.networks.all()) == 1


def test_overlap_names_the_network(world: Any) -> None:
    world.core.networks.create(request("blue", "10.1.0.0/16"))
    with pytest.raises(Forbidden) as refused:
        world.core.networks.create(request("red", "10.1.2.0/24"))
    assert "Pool overlaps with other one on this address space" in str(refused.value)
    assert "network blue" in str(refused.value)


def test_overlap_names_the_route(world: Any) -> None:
    world.kernel.routes.append(HostRoute(net("10.8.0.0/16"), "tun0"))
    with pytest.raises(Forbidden, match="10.8.0.0/16 dev tun0"):
        world.core.networks.create(request("red", "10.8.1.0/24"))


def test_default_pool_avoids_routes(world: Any) -> None:
    world.kernel.routes.append(HostRoute(net("172.17.0.0/16"), "docker0"))
    world.kernel.routes.append(HostRoute(net("0.0.0.0/1"), "tun0"))
    made = world.core.networks.create(request())
    assert str(made.ipv4[0].pool) == "172.18.0.0/16"


def test_size_only(world: Any) -> None:
    made = world.core.networks.create(request(subnet="0.0.0.0/24"))
    assert made.ipv4[0].pool.prefixlen == 24
    assert int(made.ipv4[0].pool.network_address) != 0


def test_dual_stack_by_default_pools(world: Any) -> None:
    made = world.core.networks.create(request(enable_ipv6=True))
    assert made.ipv6[0].pool.subnet_of(net("fd00:1:2::/48"))
    assert made.ipv6[0].pool.prefixlen == 64


@pytest.mark.parametrize("aux", [None, "10.5.0.9"])
def test_driver_failure_leaves_nothing(world: Any, aux: str | None) -> None:
    config = IpamConfig(net("10.5.0.0/24"), aux_addresses={"r": addr(aux)} if aux else {})
    world.kernel.fault.arm(1)
    with pytest.raises(KernelError):
        world.core.networks.create(request(ipam_config=(config,)))
    assert world.core.networks.all() == []
    assert world.pools() == set()
    assert world.leased() == set()
    world.core.networks.create(request(subnet="10.5.0.0/24"))


def test_delete_gives_everything_back(world: Any) -> None:
    world.core.networks.create(request())
    world.core.networks.delete("blue")
    assert (world.core.networks.all(), world.pools(), world.kernel.networks) == ([], set(), {})
    with pytest.raises(NotFound, match="network blue not found"):
        world.core.networks.delete("blue")


def test_predefined(world: Any) -> None:
    world.core.networks.ensure_predefined()
    world.core.networks.ensure_predefined()
    names = {item.name: item.driver for item in world.core.networks.all()}
    assert names == {"bridge": "bridge", "host": "host", "none": "null"}
    with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
        world.core.networks.delete("bridge")
    with pytest.raises(Forbidden, match='only one instance of "host" network is allowed'):
        world.core.networks.create(request("other", driver="host"))


def test_default_network_follows_the_configuration(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world.core.networks.ensure_predefined()
    first = world.core.networks.find("bridge")
    subnet, gateway = net("10.99.0.0/24"), addr("10.99.0.7")
    world.settings = CoreSettings(
        default_bridge_subnet=subnet, default_bridge_gateway=gateway, default_mtu=1400
    )
    world.start().networks.ensure_predefined()
    made = world.core.networks.find("bridge")
    assert (made.ipv4[0].pool, made.ipv4[0].gateway.ip) == (subnet, gateway)
    assert made.options["com.docker.network.driver.mtu"] == "1400"
    assert made.id != first.id
    world.adopt("c1", 7)
    world.core.connections.connect("bridge", "c1", EMPTY)
    world.settings = CoreSettings()
    world.start().networks.ensure_predefined()
    assert world.core.networks.find("bridge") == made
    assert "stays as it was made: containers use it" in caplog.text


def test_default_network_avoids_a_routed_pool(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    world.kernel.routes.append(HostRoute(net("172.17.0.0/16"), "docker0"))
    world.core.networks.ensure_predefined()
    assert str(world.core.networks.find("bridge").ipv4[0].pool) == "172.18.0.0/16"
    assert "172.17.0.0/16" in caplog.text


def test_null_ipam_gives_no_addresses(world: Any) -> None:
    world.core.networks.create(request(ipam_driver="null"))
    world.adopt("c1", 7)
    endpoint = world.core.connections.connect("blue", "c1", EMPTY)
    assert (endpoint.interface.address, endpoint.join.gateway) == (None, None)


def test_a_network_without_addresses_is_in_nobodys_way(world: Any) -> None:
    world.core.networks.create(request("empty", ipam_driver="null"))
    world.core.networks.create(request("blue", "10.1.0.0/24"))
    world.kernel.routes.append(HostRoute(net("10.9.0.0/16"), "tun0"))
    assert world.core.conflicts.present() == []


def test_config_only_and_config_from(world: Any) -> None:
    world.core.networks.create(request("base", "10.7.0.0/24", config_only=True))
    made = world.core.networks.create(request("user", config_from="base"))
    assert str(made.ipv4[0].pool) == "10.7.0.0/24"
    with pytest.raises(Forbidden, match='configuration network "base" is in use'):
        world.core.networks.delete("base")
    with pytest.raises(Forbidden, match="user supplied configurations"):
        world.core.networks.create(request("other", "10.9.0.0/24", config_from="base"))
    with pytest.raises(Forbidden, match="is not a configuration network"):
        world.core.networks.create(request("other", config_from="user"))


def test_prune_spares_used_predefined_and_unmatched(world: Any) -> None:
    world.core.networks.ensure_predefined()
    for name in ("used", "kept", "gone"):
        world.core.networks.create(request(name))
    world.adopt("c1", 7)
    world.core.connections.connect("used", "c1", EMPTY)
    removed = world.core.networks.prune(lambda network: network.name != "kept")
    assert [item.name for item in removed] == ["gone"]
    assert {item.name for item in world.core.networks.all()} == {
        "bridge", "host", "none", "used", "kept",
    }  # fmt: skip


def test_delete_in_use_names_the_user(world: Any) -> None:
    world.core.networks.create(request())
    world.adopt("c1", 7)
    endpoint = world.core.connections.connect("blue", "c1", EMPTY)
    with pytest.raises(Forbidden) as refused:
        world.core.networks.delete("blue")
    assert str(refused.value) == (
        "error while removing network: network blue has active endpoints "
        f'(name:"c1" id:"{endpoint.id[:12]}")'
    )


def test_survives_a_restart(world: Any) -> None:
    made = world.core.networks.create(
        request("blue", "10.4.0.0/24", labels={"a": "b"}, options={"x": "y"}, internal=True)
    )
    core = world.start()
    assert core.networks.find("blue") == made
    assert core.reconciler.start() == []
