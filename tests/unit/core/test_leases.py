"""Addresses from a server outside: what it is told, what comes with them, what changes later."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest

from cnm import labels
from cnm.containerapi import ContainerDefinition
from cnm.errors import InvalidParameter, KernelError
from cnm.ipamapi import (
    ENDPOINT_HOSTNAME,
    ENDPOINT_LINK,
    ENDPOINT_MAC,
    ENDPOINT_SHARES_MAC,
    LeaseChange,
    LeasedFrom,
)
from cnm.types import EndpointRequest, IpamConfig, NetworkRequest, Phase, PortBinding, StaticRoute

addr = ipaddress.IPv4Address
net = ipaddress.IPv4Network
OLD, NEW = ipaddress.ip_interface("10.9.0.5/24"), ipaddress.ip_interface("10.9.1.7/24")
INSIDE = "/run/netns/c1"


def make(world: Any, driver: str = "macvlan", **request: Any) -> Any:
    made = world.core.networks.create(
        NetworkRequest(
            "lan", driver=driver, options={"parent": "eth0"}, ipam_driver="dhcp", **request
        )
    )
    world.core.leases.begin()
    return made


@pytest.fixture
def lan(world: Any) -> Any:
    """A network whose addresses are leased, and container c1."""
    made = make(world)
    world.adopt("c1", 11)
    return made


def connect(world: Any, **request: Any) -> Any:
    return world.core.connections.connect("lan", "c1", EndpointRequest(**request))


def change(lan: Any, **more: Any) -> LeaseChange:
    facts = LeasedFrom(addr("10.9.0.1"), addr("10.9.0.1"))
    fresh = LeasedFrom(addr("10.9.1.1"), addr("10.9.1.1"))
    what = LeaseChange(lan.ipv4[0].pool_id, OLD.ip, facts, NEW, fresh)
    return replace(what, **more)


def test_the_server_is_told_who_asks_and_where(world: Any, lan: Any) -> None:
    endpoint = connect(world)
    (options,) = world.dhcp.given.values()
    assert options[ENDPOINT_LINK] == "eth0"
    assert options[ENDPOINT_HOSTNAME] == "c1"
    assert options[ENDPOINT_SHARES_MAC] == "false"
    assert options[ENDPOINT_MAC] == endpoint.interface.mac


def test_the_mac_is_the_same_at_each_start_and_a_proper_one(world: Any, lan: Any) -> None:
    first = connect(world).interface.mac
    world.core.connections.disconnect("lan", "c1")
    assert connect(world).interface.mac == first
    assert int(first[:2], 16) & 3 == 2  # locally administered, not a group


def test_a_mac_of_the_users_counts(world: Any, lan: Any) -> None:
    assert connect(world, mac="02:00:00:00:00:07").interface.mac == "02:00:00:00:00:07"
    (options,) = world.dhcp.given.values()
    assert options[ENDPOINT_MAC] == "02:00:00:00:00:07"


def test_where_the_mac_is_shared_the_driver_is_given_none(world: Any) -> None:
    make(world, "ipvlan")
    world.adopt("c1", 11)
    endpoint = connect(world)
    (options,) = world.dhcp.given.values()
    assert options[ENDPOINT_SHARES_MAC] == "true"
    assert endpoint.interface.mac != options[ENDPOINT_MAC]


def test_gateway_and_routes_come_with_the_lease(world: Any, lan: Any) -> None:
    route = StaticRoute(net("10.50.0.0/16"), addr("10.9.0.2"))
    world.dhcp.facts = replace(world.dhcp.facts, routes=(route,))
    endpoint = connect(world)
    assert endpoint.join.gateway == addr("10.9.0.1")
    assert endpoint.join.static_routes == (route,)
    v4, _ = world.kernel.gateways[INSIDE]
    assert v4.gateway == addr("10.9.0.1")


def test_an_internal_network_has_no_gateway(world: Any) -> None:
    make(world, internal=True)
    world.adopt("c1", 11)
    assert connect(world).join.gateway is None


def test_a_taken_one_is_declined(world: Any, lan: Any) -> None:
    world.wire.others = {"eth0": {OLD.ip: "02:00:00:00:00:99"}}
    assert str(connect(world).interface.address) == "10.9.0.6/24"
    assert world.dhcp.declined == [OLD.ip]


def test_a_failed_connect_gives_it_back(world: Any, lan: Any) -> None:
    world.kernel.fault.arm(2)
    with pytest.raises(KernelError):
        connect(world)
    assert world.dhcp.given == {}


def test_networks_on_no_wire_are_refused(world: Any) -> None:
    with pytest.raises(InvalidParameter, match="needs a network with a parent"):
        world.core.networks.create(NetworkRequest("lan", ipam_driver="dhcp"))


def test_another_address_reaches_the_container(world: Any, lan: Any) -> None:
    connect(world)
    events = world.core.events.subscribe()
    world.dhcp.changed(change(lan))
    assert world.kernel.configured[INSIDE, "eth0"].address == NEW
    assert world.kernel.taken_off == [("eth0", OLD)]
    v4, _ = world.kernel.gateways[INSIDE]
    assert v4.gateway == addr("10.9.1.1")
    assert list(world.wire.guarded["eth0"]) == [NEW.ip]
    event = events.get(0.0)
    assert (event.action, event.attributes["address"]) == ("lease_changed", str(NEW))
    world.start()
    assert not [item for item in world.core.reconciler.start() if item.kind != "pool"]
    (held,) = world.core.networks._state.endpoints()
    assert held.interface.address == NEW
    assert held.join.gateway == addr("10.9.1.1")


def test_ports_go_where_the_default_route_goes(world: Any, lan: Any) -> None:
    """The server takes the gateway away, and gives one again."""
    subnet = IpamConfig(net("10.1.0.0/24"))
    blue = world.core.networks.create(NetworkRequest("blue", ipam_config=(subnet,)))
    world.core.connections.connect("blue", "c1", EndpointRequest())
    connect(world, gw_priority=1)
    world.core.ports.publish("c1", [PortBinding("tcp", 80, None, 5005)])

    def networks_with_ports() -> list[str]:
        held = {owner for (_, _, port), owner in world.kernel.ports.held.items() if port == 5005}
        endpoints = world.core.networks._state.endpoints()
        assert all(bool(item.ports) is (item.id in held) for item in endpoints)
        return [item.network_id for item in endpoints if item.ports]

    assert networks_with_ports() == [lan.id]
    bare = LeasedFrom(addr("10.9.1.1"), None)
    world.dhcp.changed(change(lan, leased_from=bare))
    assert networks_with_ports() == [blue.id]
    back = replace(bare, gateway=addr("10.9.1.1"))
    world.dhcp.changed(change(lan, address=NEW.ip, was=bare, becomes=NEW, leased_from=back))
    assert networks_with_ports() == [lan.id]


def test_other_routes_replace_those_of_the_lease_before(world: Any, lan: Any) -> None:
    old, new = (StaticRoute(net(f"10.{number}.0.0/16"), addr("10.9.0.2")) for number in (50, 51))
    world.dhcp.facts = replace(world.dhcp.facts, routes=(old,))
    connect(world)
    was = replace(world.dhcp.facts, routes=(old,))
    world.dhcp.changed(change(lan, was=was, becomes=OLD, leased_from=replace(was, routes=(new,))))
    (held,) = world.core.networks._state.endpoints()
    assert held.join.static_routes == (new,)
    assert world.kernel.taken_off == [("eth0", old)]


def test_name_servers_of_the_lease_are_asked_if_no_others_are_named(world: Any, lan: Any) -> None:
    """Those of the network that the default route is on; another one shall not see questions."""
    servers = (addr("10.9.0.53"),)
    world.dhcp.facts = replace(world.dhcp.facts, dns_servers=servers)
    endpoint = connect(world)

    def asked() -> tuple[Any, ...]:
        return tuple(world.names.views[endpoint.sandbox_id].servers)

    assert asked() == servers
    world.core.networks.create(NetworkRequest("blue"))
    world.core.connections.connect("blue", "c1", EndpointRequest(gw_priority=1))
    assert asked() == ()
    world.core.connections.disconnect("blue", "c1")
    assert asked() == servers
    was, fresh = world.dhcp.facts, replace(world.dhcp.facts, dns_servers=(addr("10.9.0.54"),))
    world.dhcp.changed(change(lan, was=was, becomes=OLD, leased_from=fresh))
    assert asked() == (addr("10.9.0.54"),)
    world.dhcp.changed(
        change(lan, was=fresh, becomes=OLD, leased_from=replace(was, dns_servers=()))
    )
    assert asked() == ()


@pytest.mark.parametrize(
    "more",
    [{"internal": True}, {"options": {"parent": "eth0", labels.NETWORK_DNS: "192.0.2.53"}}],
    ids=["internal", "the network names one"],
)
def test_name_servers_of_the_lease_are_not_asked(world: Any, more: dict[str, Any]) -> None:
    world.dhcp.facts = replace(world.dhcp.facts, dns_servers=(addr("10.9.0.53"),))
    wish = {"options": {"parent": "eth0"}, **more}
    world.core.networks.create(NetworkRequest("lan", driver="macvlan", ipam_driver="dhcp", **wish))
    world.adopt("c1", 11)
    endpoint = connect(world)
    assert addr("10.9.0.53") not in world.names.views[endpoint.sandbox_id].servers


def test_a_container_that_was_not_told_any_more_is_told_with_the_next_renewal(
    world: Any, lan: Any
) -> None:
    """An earlier daemon was killed when record and namespace had the new address already."""
    wish = ContainerDefinition("busybox", network_mode="lan")
    record = world.core.containers.create("box", wish)
    world.core.containers.start("box")
    hosts = world.folder / "root" / "containers" / record.id / "hosts"
    before = hosts.read_text()
    assert f"{OLD.ip}\t" in before
    world.dhcp.changed(change(lan))
    hosts.write_text(before)
    world.dhcp.changed(change(lan))
    assert f"{NEW.ip}\t" in hosts.read_text()
    assert f"{OLD.ip}\t" not in hosts.read_text()


def test_told_again_it_is_done_already(world: Any, lan: Any) -> None:
    connect(world)
    world.dhcp.changed(change(lan))
    world.kernel.taken_off.clear()
    world.dhcp.changed(change(lan))
    assert world.kernel.taken_off == []


def test_cut_off_it_can_be_done_again(world: Any, lan: Any) -> None:
    connect(world)
    world.kernel.fault.arm(1)
    with pytest.raises(KernelError):
        world.dhcp.changed(change(lan))
    (held,) = world.core.networks._state.endpoints()
    assert held.interface.address == OLD
    world.dhcp.changed(change(lan))
    (held,) = world.core.networks._state.endpoints()
    assert (held.interface.address, held.phase) == (NEW, Phase.ACTIVE)


def test_an_endpoint_that_is_gone_is_none_of_ours(world: Any, lan: Any) -> None:
    connect(world)
    world.core.connections.disconnect("lan", "c1")
    events = world.core.events.subscribe()
    world.dhcp.changed(change(lan))
    assert events.get(0.0) is None


def test_a_container_whose_namespace_is_gone_changes_on_paper(world: Any, lan: Any) -> None:
    connect(world)
    world.kernel.namespaces.clear()
    world.dhcp.changed(change(lan))
    (held,) = world.core.networks._state.endpoints()
    assert held.interface.address == NEW


def test_a_lease_that_ended_is_told_and_the_address_kept(
    world: Any, lan: Any, caplog: pytest.LogCaptureFixture
) -> None:
    connect(world)
    events = world.core.events.subscribe()
    world.dhcp.changed(change(lan, becomes=None, leased_from=None))
    assert events.get(0.0).action == "lease_expired"
    assert "the lease of 10.9.0.5, container c1, has ended" in caplog.text
    assert world.kernel.configured[INSIDE, "eth0"].address == OLD


def test_closing_closes_the_driver(world: Any, lan: Any) -> None:
    world.core.leases.close()
    assert world.dhcp.closed


def test_a_gateway_of_the_networks_counts_more(world: Any) -> None:
    config = IpamConfig(net("10.9.0.0/24"), gateway=addr("10.9.0.254"))
    lan = make(world, ipam_config=(config,))
    world.adopt("c1", 11)
    assert connect(world).join.gateway == addr("10.9.0.254")
    world.dhcp.changed(change(lan, becomes=ipaddress.ip_interface("10.9.0.8/24")))
    (held,) = world.core.networks._state.endpoints()
    assert held.join.gateway == addr("10.9.0.254")
