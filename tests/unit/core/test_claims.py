"""Addresses that others on the wire have: passed over, refused, told; nothing where no wire is."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from cnm import labels
from cnm.core import claims
from cnm.errors import Forbidden, InvalidParameter, KernelError, Unavailable
from cnm.hostapi import HostRoute
from cnm.types import EndpointRequest, IpamConfig, NetworkRequest

addr = ipaddress.ip_address
net = ipaddress.ip_network
STRANGER = "02:00:00:00:00:99"
LAN = IpamConfig(net("10.7.0.0/24"))
LAN6 = IpamConfig(net("fd00:7::/64"))


def make(world: Any, **request: Any) -> Any:
    config = request.pop("ipam_config", (LAN,))
    options = {"parent": "eth0", **request.pop("options", {})}
    return world.core.networks.create(
        NetworkRequest("lan", driver="macvlan", ipam_config=config, options=options, **request)
    )


@pytest.fixture
def lan(world: Any) -> Any:
    """A network on the wire behind eth0, and container c1."""
    made = make(world)
    world.adopt("c1", 11)
    return made


def connect(world: Any, container: str = "c1", **request: Any) -> Any:
    return world.core.connections.connect("lan", container, EndpointRequest(**request))


def leased(world: Any) -> int:
    (usage,) = world.core.networks._addressing.usage(world.core.networks.find("lan")).values()
    return int(usage.in_use)


def test_a_taken_address_is_passed_over_with_a_log_line(
    world: Any, lan: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world.wire.others = {"eth0": {addr("10.7.0.2"): STRANGER, addr("10.7.0.3"): STRANGER}}
    assert str(connect(world).interface.address) == "10.7.0.4/24"
    assert f"network lan: 10.7.0.2 is in use by {STRANGER}" in caplog.text


def test_a_taken_address_is_not_tried_again_for_a_while(world: Any, lan: Any) -> None:
    world.wire.others = {"eth0": {addr("10.7.0.2"): STRANGER}}
    connect(world)
    world.adopt("c2", 12)
    world.wire.probed.clear()
    assert str(connect(world, "c2").interface.address) == "10.7.0.4/24"
    assert world.wire.probed == [addr("10.7.0.4")]


def test_it_is_free_again_after_that_while(
    world: Any, lan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.wire.others = {"eth0": {addr("10.7.0.2"): STRANGER}}
    monkeypatch.setattr(claims, "ASIDE_S", -1.0)
    connect(world)
    world.wire.others = {}
    world.adopt("c2", 12)
    assert str(connect(world, "c2").interface.address) == "10.7.0.2/24"


def test_a_clean_stop_leaves_nothing_set_aside(world: Any, lan: Any) -> None:
    world.wire.others = {"eth0": {addr("10.7.0.2"): STRANGER}}
    connect(world)
    world.core.claims.close()
    world.start()
    assert world.core.reconciler.start() == []


def test_what_was_set_aside_by_a_killed_daemon_is_free_again(world: Any, lan: Any) -> None:
    world.wire.others = {"eth0": {addr("10.7.0.2"): STRANGER}}
    connect(world)
    world.start()
    (repair,) = world.core.reconciler.start()
    assert (repair.kind, repair.name) == ("lease", "10.7.0.2")


def test_asked_for_by_name_it_is_probed_anew(world: Any, lan: Any) -> None:
    world.wire.others = {"eth0": {addr("10.7.0.2"): STRANGER}}
    connect(world)
    world.wire.others = {}
    world.adopt("c2", 12)
    assert str(connect(world, "c2", ipv4=addr("10.7.0.2")).interface.address) == "10.7.0.2/24"


def test_a_wanted_address_is_refused_by_the_mac_that_has_it(world: Any, lan: Any) -> None:
    world.wire.others = {"eth0": {addr("10.7.0.9"): STRANGER}}
    before = leased(world)
    with pytest.raises(Forbidden, match=f"10.7.0.9 belongs to {STRANGER} on eth0"):
        connect(world, ipv4=addr("10.7.0.9"))
    world.wire.others = {}
    assert connect(world, ipv4=addr("10.7.0.9")).interface.address.ip == addr("10.7.0.9")
    assert leased(world) == before + 1


def test_a_reserved_address_is_probed_when_the_container_comes_up(world: Any, lan: Any) -> None:
    connect(world, ipv4=addr("10.7.0.9"))
    world.kernel.namespaces.clear()
    world.core.reconciler.sweep()
    world.wire.others = {"eth0": {addr("10.7.0.9"): STRANGER}}
    with pytest.raises(Forbidden, match=f"10.7.0.9 belongs to {STRANGER}"):
        world.adopt("c1", 13)


def test_both_families_are_probed_and_only_the_taken_one_is_lost(world: Any) -> None:
    make(world, enable_ipv6=True, ipam_config=(LAN, LAN6))
    world.adopt("c1", 11)
    world.wire.others = {"eth0": {addr("fd00:7::2"): STRANGER}}
    made = connect(world)
    assert str(made.interface.address) == "10.7.0.2/24"
    assert str(made.interface.address_ipv6) == "fd00:7::3/64"


def test_a_wire_where_everything_is_answered_for_is_given_up(world: Any, lan: Any) -> None:
    world.wire.others = {"eth0": dict.fromkeys(net("10.7.0.0/24").hosts(), STRANGER)}
    with pytest.raises(Unavailable, match=f"in a row are in use on the wire.*{STRANGER}"):
        connect(world)


def test_a_probe_that_fails_leaves_no_lease(world: Any, lan: Any) -> None:
    before = leased(world)

    def fail(link: str, addresses: object) -> None:
        raise KernelError(1, f"address probe on {link}")

    world.wire.holders = fail
    with pytest.raises(KernelError, match="address probe on eth0"):
        connect(world)
    assert leased(world) == before


def test_networks_on_no_wire_are_not_probed(world: Any) -> None:
    world.core.networks.create(NetworkRequest("lan", ipam_config=(LAN,)))
    world.adopt("c1", 11)
    connect(world)
    assert world.wire.probed == []
    assert world.wire.guarded == {}


def test_probing_is_switched_off_for_a_network(world: Any) -> None:
    make(world, options={labels.CONFLICT_PROBE: "false"})
    world.adopt("c1", 11)
    world.wire.others = {"eth0": {addr("10.7.0.2"): STRANGER}}
    assert str(connect(world).interface.address) == "10.7.0.2/24"
    assert world.wire.guarded == {}


def test_a_malformed_switch_is_refused(world: Any) -> None:
    with pytest.raises(InvalidParameter, match="conflict_probe"):
        make(world, options={labels.CONFLICT_PROBE: "maybe"})


def test_what_is_in_use_is_guarded_and_no_longer_after_a_disconnect(world: Any, lan: Any) -> None:
    made = connect(world)
    assert world.wire.guarded == {"eth0": {addr("10.7.0.2"): made.interface.mac}}
    world.start()
    world.core.reconciler.start()
    assert world.wire.guarded == {"eth0": {addr("10.7.0.2"): made.interface.mac}}
    world.core.connections.disconnect("lan", "c1")
    assert world.wire.guarded == {"eth0": {}}


def test_a_later_conflict_is_an_event_and_a_log_line(
    world: Any, lan: Any, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = connect(world)
    events = world.core.events.subscribe()
    world.wire.taken("eth0", addr("10.7.0.2"), STRANGER)
    event = events.get(0.0)
    assert (event.type, event.action, event.actor_id) == ("network", "conflict", lan.id)
    assert event.attributes == {
        "name": "lan",
        "type": "macvlan",
        "container": endpoint.sandbox_id,
        "address": "10.7.0.2",
        "mac": STRANGER,
        "link": "eth0",
    }
    assert f"10.7.0.2 of container c1 is in use by {STRANGER} on eth0 too" in caplog.text
    (check,) = [item for item in world.core.doctor() if item.name.startswith("address")]
    assert (check.name, check.status) == ("address conflict: lan", "warning")
    assert check.detail == f"10.7.0.2 is used by {STRANGER} too"
    world.wire.taken("eth1", addr("10.7.0.2"), STRANGER)
    world.wire.taken("eth0", addr("10.7.0.3"), STRANGER)
    assert events.get(0.0) is None
    world.core.connections.disconnect("lan", "c1")
    assert not [item for item in world.core.doctor() if item.name.startswith("address")]


def test_the_hosts_own_address_on_the_lan_is_no_conflict_of_routes(world: Any) -> None:
    route = HostRoute(net("10.7.0.0/24"), "eth0")
    world.kernel.routes = [route]
    make(world)
    events = world.core.events.subscribe()
    world.core.conflicts.route_added(route)
    assert events.get(0.0) is None
    world.core.conflicts.route_added(HostRoute(net("10.7.0.0/24"), "tun0"))
    assert events.get(0.0) is not None
