"""What every driver must do, ours and others': the same suite for each that is registered."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import pytest
from kernel.drivers.lab import (
    Host,
    Place,
    PlaceFactory,
    interface,
    network,
    new_id,
)

from cnm import driverapi
from cnm.driverapi import LinkFinder, NetworkDriver
from cnm.errors import NotFound
from cnm.repairapi import Repairable
from cnm.runtime.kernel.netns import NetNS
from cnm.types import EndpointID, EndpointState, NetworkSpec, SandboxKey

pytestmark = pytest.mark.kernel

DRIVERS = [
    pytest.param(name, marks=[pytest.mark.needs("ipvlan")] if name == "ipvlan" else [])
    for name in sorted(entry_points(group=driverapi.ENTRY_POINT_GROUP).names)
]


@pytest.fixture(params=DRIVERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def driver(name: str, host: Host) -> Any:
    return host.load(name)


@pytest.fixture
def spec(driver: Any) -> NetworkSpec:
    if not driver.capability.addressed:
        return NetworkSpec(network().id, "blue")
    return network("10.77.0.1/24", "fd77::1/64")


@pytest.fixture
def sandbox(make_place: PlaceFactory) -> Place:
    return make_place()


def join(driver: Any, spec: NetworkSpec, key: SandboxKey | None) -> EndpointState:
    endpoint_id = EndpointID(new_id())
    wanted = interface("10.77.0.2/24", "fd77::2/64")
    chosen = driver.create_endpoint(spec.id, endpoint_id, wanted, {})
    joined = driver.join(spec.id, endpoint_id, key, "eth0", {})
    if key is not None and joined.mark:  # as a sandbox does
        with NetNS(key) as inside:
            inside.netlink().batch().set_link("eth0", alias=joined.mark).commit()
    return EndpointState(endpoint_id, chosen, key, "eth0")


def is_repairable(driver: object) -> bool:
    """Required of those that make kernel objects."""
    return isinstance(driver, Repairable)


def test_it_keeps_the_contract(driver: Any, name: str) -> None:
    assert isinstance(driver, NetworkDriver)
    assert driver.name == name


def test_a_whole_life_leaves_nothing(
    driver: Any, spec: NetworkSpec, host: Host, sandbox: Place
) -> None:
    before, before_inside = host.snapshot(), sandbox.snapshot()
    driver.create_network(spec)
    state = join(driver, spec, sandbox.key)
    driver.leave(spec.id, state.endpoint_id)
    driver.delete_endpoint(spec.id, state.endpoint_id)
    assert sandbox.snapshot() == before_inside
    driver.delete_network(spec.id)
    assert host.snapshot() == before


def test_everything_twice(driver: Any, spec: NetworkSpec, host: Host, sandbox: Place) -> None:
    before = host.snapshot()
    driver.create_network(spec)
    once = host.snapshot()
    driver.create_network(spec)
    assert host.snapshot() == once
    endpoint_id, wanted = EndpointID(new_id()), interface("10.77.0.2/24", "fd77::2/64")
    chosen = driver.create_endpoint(spec.id, endpoint_id, wanted, {})
    assert driver.create_endpoint(spec.id, endpoint_id, wanted, {}) == chosen
    joined = driver.join(spec.id, endpoint_id, sandbox.key, "eth0", {})
    with_link = host.snapshot(), sandbox.snapshot()
    assert driver.join(spec.id, endpoint_id, sandbox.key, "eth0", {}) == joined
    assert (host.snapshot(), sandbox.snapshot()) == with_link
    for _ in range(2):
        driver.leave(spec.id, endpoint_id)
    for _ in range(2):
        driver.delete_endpoint(spec.id, endpoint_id)
    for _ in range(2):
        driver.delete_network(spec.id)
    assert host.snapshot() == before


def test_unknown_things_are_gone_already(driver: Any, host: Host) -> None:
    before = host.snapshot()
    driver.leave(network().id, new_id())
    driver.delete_endpoint(network().id, new_id())
    driver.delete_network(network().id)
    assert driver.endpoint_oper_info(network().id, new_id()) == {}
    assert host.snapshot() == before


def test_joining_unknown_things_is_refused(driver: Any, sandbox: Place) -> None:
    if not driver.capability.attachable:
        return
    with pytest.raises(NotFound, match="network"):
        driver.create_endpoint(network().id, new_id(), interface("10.77.0.2/24"), {})
    with pytest.raises(NotFound, match="network"):
        driver.join(network().id, new_id(), sandbox.key, "eth0", {})


def test_what_is_given_is_not_changed(driver: Any, spec: NetworkSpec) -> None:
    driver.create_network(spec)
    mac = None if driver.name == "ipvlan" else "02:11:22:33:44:55"  # its links have the parent's
    wanted = interface("10.77.0.2/24", "fd77::2/64", mac=mac)
    assert driver.create_endpoint(spec.id, new_id(), wanted, {}) == wanted
    driver.delete_network(spec.id)


def test_the_namespace_is_gone(driver: Any, spec: NetworkSpec, host: Host, sandbox: Place) -> None:
    before = host.snapshot()
    driver.create_network(spec)
    state = join(driver, spec, sandbox.key)
    sandbox.delete()
    driver.leave(spec.id, state.endpoint_id)
    driver.delete_endpoint(spec.id, state.endpoint_id)
    driver.delete_network(spec.id)
    assert host.snapshot() == before


def test_the_network_goes_with_an_endpoint_left(
    driver: Any, spec: NetworkSpec, host: Host, sandbox: Place
) -> None:
    before = host.snapshot()
    driver.create_network(spec)
    join(driver, spec, sandbox.key)
    driver.delete_network(spec.id)
    assert host.snapshot() == before


def test_for_an_engine_the_link_waits_outside(driver: Any, spec: NetworkSpec, host: Host) -> None:
    before = host.snapshot()
    driver.create_network(spec)
    endpoint_id = EndpointID(new_id())
    driver.create_endpoint(spec.id, endpoint_id, interface("10.77.0.2/24"), {})
    joined = driver.join(spec.id, endpoint_id, None, "eth0", {})
    assert not joined.placed
    if joined.source_name:
        assert not host.addresses(joined.source_name)
    driver.leave(spec.id, endpoint_id)
    driver.delete_network(spec.id)
    assert host.snapshot() == before


def test_a_restarted_driver_changes_nothing(
    driver: Any, name: str, spec: NetworkSpec, host: Host, sandbox: Place
) -> None:
    if not is_repairable(driver):
        return
    before = host.snapshot()
    driver.create_network(spec)
    state = join(driver, spec, sandbox.key)
    made, inside = host.snapshot(), sandbox.snapshot()
    again = host.load(name)
    assert again.restore(spec, [state]) == []
    assert (host.snapshot(), sandbox.snapshot()) == (made, inside)
    again.leave(spec.id, state.endpoint_id)
    again.delete_network(spec.id)
    assert host.snapshot() == before


def test_a_rebooted_host_is_made_again(
    driver: Any, name: str, spec: NetworkSpec, host: Host, make_place: PlaceFactory
) -> None:
    if not is_repairable(driver):
        return
    state = EndpointState(EndpointID(new_id()), interface("10.77.0.2/24"), None, "eth0")
    repairs = driver.restore(spec, [state])
    assert repairs
    restored = host.snapshot()
    driver.delete_network(spec.id)
    driver.create_network(spec)
    assert host.snapshot() == restored
    driver.delete_network(spec.id)


def test_orphans_are_found_and_removed(
    driver: Any, name: str, spec: NetworkSpec, host: Host, sandbox: Place
) -> None:
    if not is_repairable(driver):
        return
    before, before_inside = host.snapshot(), sandbox.snapshot()
    driver.create_network(spec)
    state = join(driver, spec, sandbox.key)
    again = host.load(name)
    orphans = again.owned()
    assert {item.network_id for item in orphans} >= {spec.id}
    if not isinstance(again, LinkFinder):  # of theirs nothing is outside: they go with the network
        assert {item.endpoint_id for item in orphans} >= {state.endpoint_id}
    for item in orphans:
        again.remove_orphan(item)
    for item in orphans:
        again.remove_orphan(item)  # gone is success
    assert not again.owned()
    assert {**host.snapshot(), "sysctls": ""} == {**before, "sysctls": ""}
    assert sandbox.snapshot() == before_inside


def test_the_next_daemon_undoes_a_connect(
    driver: Any, name: str, spec: NetworkSpec, host: Host, sandbox: Place
) -> None:
    """It was killed before the endpoint was settled: nobody has told the new driver of it."""
    if not is_repairable(driver):
        return
    driver.create_network(spec)
    before, before_inside = host.snapshot(), sandbox.snapshot()
    state = join(driver, spec, sandbox.key)
    again = host.load(name)
    if isinstance(again, LinkFinder):
        again.link_is_in(state.endpoint_id, sandbox.key)
    again.leave(spec.id, state.endpoint_id)
    again.delete_endpoint(spec.id, state.endpoint_id)
    assert (host.snapshot(), sandbox.snapshot()) == (before, before_inside)


def test_what_is_not_ours_is_left(driver: Any, name: str, spec: NetworkSpec, host: Host) -> None:
    host.sh("ip link add br-other type bridge; ip link set br-other up; nft add table ip other")
    before = host.snapshot()
    driver.create_network(spec)
    if is_repairable(driver):
        assert driver.restore(spec, []) == []
        assert not [item for item in driver.owned() if "other" in item.name]
    driver.delete_network(spec.id)
    assert host.snapshot() == before
