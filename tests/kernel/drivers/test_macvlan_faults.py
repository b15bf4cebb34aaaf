"""The kernel refuses at each step in turn: what failed leaves nothing, and works again after."""

from __future__ import annotations

import pytest
from kernel.drivers.lab import Host, PlaceFactory, interface, new_id
from kernel.drivers.test_bridge_faults import (
    LATE,
    Trouble,
    TroubledNetlink,
    refusals,
)
from kernel.drivers.wire import attach, lan, wired

from cnm.driverapi import DriverContext
from cnm.drivers.macvlan.device import HostLinks
from cnm.drivers.macvlan.driver import Macvlan
from cnm.drivers.parentlink.driver import ParentLinkDriver
from cnm.drivers.reaper import Reaper
from cnm.errors import TeardownError
from cnm.runtime.kernel.departures import Departures
from cnm.runtime.kernel.sysctl import HostSysctls
from cnm.types import EndpointID, NetworkID, NetworkSpec

pytestmark = pytest.mark.kernel

SPECS = {
    "isolated": lambda: lan("10.7.0.254/24", "fd07::fe/64", parent=""),
    "host access": lambda: lan("10.7.0.254/24", "fd07::fe/64", host_access="true"),
}
KINDS = pytest.mark.parametrize("kind", SPECS)


@pytest.fixture
def trouble() -> Trouble:
    return Trouble()


@pytest.fixture
def driver(host: Host, make_place: PlaceFactory, trouble: Trouble) -> ParentLinkDriver:
    wired(host, make_place())
    netlink = TroubledNetlink(trouble)
    reaper = Reaper([TroubledNetlink(trouble)], Departures())
    context = DriverContext(HostSysctls(host.ledger))
    driver = ParentLinkDriver(Macvlan(), netlink, reaper, context, HostLinks(netlink, reaper))
    host.owns(driver)
    return driver


@LATE
@KINDS
def test_create_network(
    kind: str, late: bool, host: Host, driver: ParentLinkDriver, trouble: Trouble
) -> None:
    before, spec = host.snapshot(), SPECS[kind]()
    steps = 0
    for steps, error in refusals(trouble, lambda: driver.create_network(spec), late=late):
        assert not getattr(error, "__notes__", [])
        if error is None:  # a dummy, which this kernel has not: an ifb was made instead
            driver.delete_network(spec.id)
        assert host.snapshot() == before, f"step {steps}"
        assert driver.devices() == set()
    assert steps >= 2
    driver.delete_network(spec.id)
    assert host.snapshot() == before


@LATE
@KINDS
@pytest.mark.parametrize("placed", [True, False], ids=["placed", "for an engine"])
def test_join(
    kind: str,
    placed: bool,
    late: bool,
    host: Host,
    driver: ParentLinkDriver,
    trouble: Trouble,
    make_place: PlaceFactory,
) -> None:
    sandbox, spec = make_place(), SPECS[kind]()
    driver.create_network(spec)
    before = host.snapshot(), sandbox.snapshot(), host.sh("ip route; ip -6 route")
    endpoint_id = EndpointID(new_id())
    driver.create_endpoint(spec.id, endpoint_id, interface("10.7.0.2/24", "fd07::2/64"), {})

    def join() -> None:
        driver.join(spec.id, endpoint_id, sandbox.key if placed else None, "eth0", {})

    for step, _ in refusals(trouble, join, late=late):
        now = host.snapshot(), sandbox.snapshot(), host.sh("ip route; ip -6 route")
        assert now == before, f"step {step}"
    driver.leave(spec.id, endpoint_id)
    assert (host.snapshot(), sandbox.snapshot(), host.sh("ip route; ip -6 route")) == before


@LATE
@KINDS
def test_tear_down_goes_on_and_can_be_repeated(
    kind: str,
    late: bool,
    host: Host,
    driver: ParentLinkDriver,
    trouble: Trouble,
    make_place: PlaceFactory,
) -> None:
    before, sandbox = host.snapshot(), make_place()

    def made() -> NetworkID:
        spec: NetworkSpec = SPECS[kind]()
        driver.create_network(spec)
        attach(driver, spec, sandbox, "10.7.0.2/24")
        return spec.id

    network_id = made()

    def delete() -> None:
        driver.delete_network(network_id)

    for step, error in refusals(trouble, delete, late=late):
        assert isinstance(error, TeardownError) or late
        delete()
        assert host.snapshot() == before, f"step {step}"
        assert sandbox.link_names() == set()
        network_id = made()
    assert host.snapshot() == before
