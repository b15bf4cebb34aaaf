"""What every driver must do, ours and others': the same suite for each that is registered."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from kernel.drivers.lab import (
    Namespace,
    NamespaceFactory,
    OnHost,
    interface,
    load_driver,
    network,
    new_id,
    remove_namespace,
)

from cnm import driverapi
from cnm.driverapi import NetworkDriver
from cnm.errors import NotFound
from cnm.repairapi import Repairable
from cnm.types import EndpointID, EndpointState, NetworkSpec, SandboxKey

DRIVERS = sorted(entry_points(group=driverapi.ENTRY_POINT_GROUP).names)


@pytest.fixture(params=DRIVERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def driver(name: str, host_ns: Namespace) -> OnHost:
    return load_driver(host_ns, name)


@pytest.fixture
def spec(driver: OnHost) -> NetworkSpec:
    if not driver.capability.addressed:
        return NetworkSpec(network().id, "blue")
    return network("10.77.0.1/24", "fd77::1/64")


@pytest.fixture
def sandbox(make_ns: NamespaceFactory) -> Namespace:
    return make_ns()


def join(driver: OnHost, spec: NetworkSpec, key: SandboxKey | None) -> EndpointState:
    endpoint_id = EndpointID(new_id())
    wanted = interface("10.77.0.2/24", "fd77::2/64")
    chosen = driver.create_endpoint(spec.id, endpoint_id, wanted, {})
    driver.join(spec.id, endpoint_id, key, "eth0", {})
    return EndpointState(endpoint_id, chosen, key, "eth0")


def test_it_keeps_the_contract(driver: OnHost, name: str) -> None:
    assert isinstance(driver.driver, NetworkDriver)
    assert driver.name == name


def test_a_whole_life_leaves_nothing(
    driver: OnHost, spec: NetworkSpec, host_ns: Namespace, sandbox: Namespace
) -> None:
    before, before_inside = host_ns.snapshot(), sandbox.snapshot()
    driver.create_network(spec)
    state = join(driver, spec, sandbox.key)
    driver.leave(spec.id, state.endpoint_id)
    driver.delete_endpoint(spec.id, state.endpoint_id)
    assert sandbox.snapshot() == before_inside
    driver.delete_network(spec.id)
    assert host_ns.snapshot() == before


def test_everything_twice(
    driver: OnHost, spec: NetworkSpec, host_ns: Namespace, sandbox: Namespace
) -> None:
    before = host_ns.snapshot()
    driver.create_network(spec)
    once = host_ns.snapshot()
    driver.create_network(spec)
    assert host_ns.snapshot() == once
    endpoint_id, wanted = EndpointID(new_id()), interface("10.77.0.2/24", "fd77::2/64")
    chosen = driver.create_endpoint(spec.id, endpoint_id, wanted, {})
    assert driver.create_endpoint(spec.id, endpoint_id, wanted, {}) == chosen
    joined = driver.join(spec.id, endpoint_id, sandbox.key, "eth0", {})
    with_link = host_ns.snapshot(), sandbox.snapshot()
    assert driver.join(spec.id, endpoint_id, sandbox.key, "eth0", {}) == joined
    assert (host_ns.snapshot(), sandbox.snapshot()) == with_link
    for _ in range(2):
        driver.leave(spec.id, endpoint_id)
    for _ in range(2):
        driver.delete_endpoint(spec.id, endpoint_id)
    for _ in range(2):
        driver.delete_network(spec.id)
    assert host_ns.snapshot() == before


def test_unknown_things_are_gone_already(driver: OnHost, host_ns: Namespace) -> None:
    before = host_ns.snapshot()
    driver.leave(network().id, new_id())
    driver.delete_endpoint(network().id, new_id())
    driver.delete_network(network().id)
    assert driver.endpoint_oper_info(network().id, new_id()) == {}
    assert host_ns.snapshot() == before


def test_joining_unknown_things_is_refused(driver: OnHost, sandbox: Namespace) -> None:
    if not driver.capability.attachable:
        return
    with pytest.raises(NotFound, match="network"):
        driver.create_endpoint(network().id, new_id(), interface("10.77.0.2/24"), {})
    with pytest.raises(NotFound, match="network"):
        driver.join(network().id, new_id(), sandbox.key, "eth0", {})


def test_what_is_given_is_not_changed(driver: OnHost, spec: NetworkSpec) -> None:
    driver.create_network(spec)
    wanted = interface("10.77.0.2/24", "fd77::2/64", mac="02:11:22:33:44:55")
    assert driver.create_endpoint(spec.id, new_id(), wanted, {}) == wanted
    driver.delete_network(spec.id)


def test_the_namespace_is_gone(
    driver: OnHost, spec: NetworkSpec, host_ns: Namespace, sandbox: Namespace
) -> None:
    before = host_ns.snapshot()
    driver.create_network(spec)
    state = join(driver, spec, sandbox.key)
    sandbox.entered.close()
    remove_namespace(sandbox.name)
    driver.leave(spec.id, state.endpoint_id)
    driver.delete_endpoint(spec.id, state.endpoint_id)
    driver.delete_network(spec.id)
    assert host_ns.snapshot() == before


def test_the_network_goes_with_an_endpoint_left(
    driver: OnHost, spec: NetworkSpec, host_ns: Namespace, sandbox: Namespace
) -> None:
    before = host_ns.snapshot()
    driver.create_network(spec)
    join(driver, spec, sandbox.key)
    driver.delete_network(spec.id)
    assert host_ns.snapshot() == before


def test_for_an_engine_the_link_waits_outside(
    driver: OnHost, spec: NetworkSpec, host_ns: Namespace
) -> None:
    before = host_ns.snapshot()
    driver.create_network(spec)
    endpoint_id = EndpointID(new_id())
    driver.create_endpoint(spec.id, endpoint_id, interface("10.77.0.2/24"), {})
    joined = driver.join(spec.id, endpoint_id, None, "eth0", {})
    assert not joined.placed
    if joined.source_name:
        assert not host_ns.addresses(joined.source_name)
    driver.leave(spec.id, endpoint_id)
    driver.delete_network(spec.id)
    assert host_ns.snapshot() == before


def test_a_restarted_driver_changes_nothing(
    driver: OnHost, name: str, spec: NetworkSpec, host_ns: Namespace, sandbox: Namespace
) -> None:
    if not isinstance(driver.driver, Repairable):
        return
    before = host_ns.snapshot()
    driver.create_network(spec)
    state = join(driver, spec, sandbox.key)
    made, inside = host_ns.snapshot(), sandbox.snapshot()
    again = load_driver(host_ns, name)
    assert again.restore(spec, [state]) == []
    assert (host_ns.snapshot(), sandbox.snapshot()) == (made, inside)
    again.leave(spec.id, state.endpoint_id)
    again.delete_network(spec.id)
    assert host_ns.snapshot() == before


def test_a_rebooted_host_is_made_again(
    driver: OnHost, name: str, spec: NetworkSpec, host_ns: Namespace, make_ns: NamespaceFactory
) -> None:
    if not isinstance(driver.driver, Repairable):
        return
    state = EndpointState(EndpointID(new_id()), interface("10.77.0.2/24"), None, "eth0")
    repairs = driver.restore(spec, [state])
    assert repairs
    restored = host_ns.snapshot()
    driver.delete_network(spec.id)
    driver.create_network(spec)
    assert host_ns.snapshot() == restored
    driver.delete_network(spec.id)


def test_orphans_are_found_and_removed(
    driver: OnHost, name: str, spec: NetworkSpec, host_ns: Namespace, sandbox: Namespace
) -> None:
    if not isinstance(driver.driver, Repairable):
        return
    before = host_ns.snapshot()
    driver.create_network(spec)
    state = join(driver, spec, sandbox.key)
    again = load_driver(host_ns, name)
    orphans = again.owned()
    assert {item.network_id for item in orphans} >= {spec.id}
    assert {item.endpoint_id for item in orphans} >= {state.endpoint_id}
    for item in orphans:
        again.remove_orphan(item)
    for item in orphans:
        again.remove_orphan(item)  # gone is success
    assert not again.owned()
    assert {**host_ns.snapshot(), "sysctls": ""} == {**before, "sysctls": ""}


def test_what_is_not_ours_is_left(
    driver: OnHost, name: str, spec: NetworkSpec, host_ns: Namespace
) -> None:
    host_ns.sh("ip link add br-other type bridge; ip link set br-other up; nft add table ip other")
    before = host_ns.snapshot()
    driver.create_network(spec)
    if isinstance(driver.driver, Repairable):
        assert driver.restore(spec, []) == []
        assert not [item for item in driver.owned() if "other" in item.name]
    driver.delete_network(spec.id)
    assert host_ns.snapshot() == before
