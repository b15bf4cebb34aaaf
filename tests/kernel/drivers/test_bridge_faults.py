"""The kernel refuses at each step in turn: what failed leaves nothing, and works again after."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kernel.drivers.exchange import is_free
from kernel.drivers.lab import (
    Host,
    PlaceFactory,
    attach,
    interface,
    network,
    new_id,
)

from cnm.drivers.bridge.driver import BridgeDriver
from cnm.drivers.bridge.porthelper import PortHelper
from cnm.drivers.reaper import Reaper
from cnm.errors import KernelError, TeardownError
from cnm.runtime.kernel.departures import Departures
from cnm.runtime.kernel.netlink import Batch as LinkBatch
from cnm.runtime.kernel.netlink import Netlink
from cnm.runtime.kernel.nft import Batch, LibNft, Table
from cnm.runtime.kernel.sysctl import HostSysctls
from cnm.types import EndpointID, NetworkID, PortBinding

POOLS = ("10.77.0.1/24", "fd77::1/64")
STEPS_MAX = 30


class Trouble:
    """Refuses one step, counted from when it was armed, before or after the kernel did it."""

    def __init__(self) -> None:
        self.late = False
        self._left = 0

    def arm(self, step: int, *, late: bool) -> None:
        self._left, self.late = step, late

    @property
    def struck(self) -> bool:
        return self._left <= 0

    def disarm(self) -> None:
        self._left = 0

    def around(self, step: Callable[[], None], *, whole: bool = False) -> None:
        """Do one step, or refuse it. ``whole``: a transaction that is refused was not done."""
        self._left -= 1
        if self._left != 0:
            step()
            return
        if self.late and not whole:
            step()
        raise KernelError(errno.EIO, "test")


class TroubledBatch(LinkBatch):
    trouble: Trouble

    def commit(self) -> None:
        self.trouble.around(super().commit)


class TroubledNetlink(Netlink):
    """The kernel's netlink, with commits that can be refused."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__()
        self._trouble = trouble

    def batch(self) -> LinkBatch:
        batch = TroubledBatch(self._socket, self.index)
        batch.trouble = self._trouble
        return batch


class TroubledNft(LibNft):
    """The kernel's nftables, with transactions that can be refused."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__()
        self._trouble = trouble

    def replace(self, table: Table) -> None:
        self._trouble.around(lambda: super(TroubledNft, self).replace(table), whole=True)

    def apply(self, batch: Batch) -> None:
        self._trouble.around(lambda: super(TroubledNft, self).apply(batch), whole=True)

    def delete(self, family: str, name: str) -> None:
        self._trouble.around(lambda: super(TroubledNft, self).delete(family, name), whole=True)


class TroubledSettings(HostSysctls):
    """The host's sysctls, with needs that can be refused."""

    trouble: Trouble

    def need(self, name: str, value: str, *, holder: str, reason: str) -> None:
        needed = super().need
        self.trouble.around(lambda: needed(name, value, holder=holder, reason=reason))


@pytest.fixture
def trouble() -> Trouble:
    return Trouble()


@pytest.fixture
def driver(host: Host, trouble: Trouble) -> BridgeDriver:
    settings = TroubledSettings(host.ledger)
    settings.trouble = trouble

    reaper = Reaper([TroubledNetlink(trouble) for _ in range(2)], Departures())
    netlink, nft = TroubledNetlink(trouble), TroubledNft(trouble)
    driver = BridgeDriver(netlink, nft, reaper, PortHelper(host.exec_root), settings, {})
    host.owns(driver)
    return driver


def refusals(
    trouble: Trouble, call: Callable[[], Any], *, late: bool
) -> Iterator[tuple[int, Exception | None]]:
    """Call it with the first step refused, the second, … until it goes through.

    No error: a deletion was seen to be done before it was refused.
    """
    for step in range(1, STEPS_MAX):
        trouble.arm(step, late=late)
        try:
            call()
        except (KernelError, TeardownError) as error:
            yield step, error
            continue
        else:
            if not trouble.struck:
                return
            yield step, None
        finally:
            trouble.disarm()
    raise AssertionError(f"still refused at step {STEPS_MAX}")


LATE = pytest.mark.parametrize("late", [False, True], ids=["refused", "done and refused"])


@LATE
@pytest.mark.parametrize("others", [0, 1], ids=["first network", "second network"])
def test_create_network(
    others: int, late: bool, host: Host, driver: BridgeDriver, trouble: Trouble
) -> None:
    if others:
        driver.create_network(network("10.99.0.1/24"))
    before = host.snapshot()
    spec = network(*POOLS)
    steps = 0
    for steps, error in refusals(trouble, lambda: driver.create_network(spec), late=late):
        assert not getattr(error, "__notes__", [])
        assert host.snapshot() == before, f"step {steps}"
        assert len(driver.devices()) == others
    assert steps >= 5 - others
    driver.delete_network(spec.id)
    assert host.snapshot() == before


@LATE
def test_create_on_an_existing_bridge(
    late: bool, host: Host, driver: BridgeDriver, trouble: Trouble
) -> None:
    host.sh("ip link add lan type bridge; ip link set lan up; ip addr add 10.9.0.1/24 dev lan")
    before = host.snapshot()
    spec = network(*POOLS, options={"bridge.name": "lan"})
    for step, _ in refusals(trouble, lambda: driver.create_network(spec), late=late):
        assert host.snapshot() == before, f"step {step}"
    driver.delete_network(spec.id)
    assert host.snapshot() == before


@LATE
@pytest.mark.parametrize("placed", [True, False], ids=["placed", "for an engine"])
def test_join(
    placed: bool,
    late: bool,
    host: Host,
    driver: BridgeDriver,
    trouble: Trouble,
    make_place: PlaceFactory,
) -> None:
    sandbox = make_place()
    spec = network(*POOLS)
    driver.create_network(spec)
    before = host.snapshot(), sandbox.snapshot()
    endpoint_id = EndpointID(new_id())
    driver.create_endpoint(spec.id, endpoint_id, interface("10.77.0.2/24"), {})

    def join() -> None:
        driver.join(spec.id, endpoint_id, sandbox.key if placed else None, "eth0", {})

    for step, _ in refusals(trouble, join, late=late):
        assert (host.snapshot(), sandbox.snapshot()) == before, f"step {step}"
    driver.leave(spec.id, endpoint_id)
    assert (host.snapshot(), sandbox.snapshot()) == before


def test_a_name_that_the_sandbox_has(
    host: Host, driver: BridgeDriver, make_place: PlaceFactory
) -> None:
    sandbox = make_place()
    sandbox.sh("ip link add eth0 type bridge")
    spec = network()
    driver.create_network(spec)
    before = host.snapshot(), sandbox.snapshot()
    with pytest.raises(KernelError, match="link eth0 in /run/netns/.*File exists") as refusal:
        attach(driver, spec, sandbox, "10.77.0.2/24")
    assert refusal.value.errno == errno.EEXIST
    assert (host.snapshot(), sandbox.snapshot()) == before


@LATE
def test_tear_down_goes_on_and_can_be_repeated(
    late: bool,
    host: Host,
    driver: BridgeDriver,
    trouble: Trouble,
    make_place: PlaceFactory,
) -> None:
    before = host.snapshot()
    sandbox = make_place()

    def made() -> NetworkID:
        spec = network(*POOLS)
        driver.create_network(spec)
        attach(driver, spec, sandbox, "10.77.0.2/24")
        return spec.id

    network_id = made()

    def delete() -> None:
        driver.delete_network(network_id)

    for step, error in refusals(trouble, delete, late=late):
        assert isinstance(error, TeardownError) or late
        delete()
        assert host.snapshot() == before, f"step {step}"
        network_id = made()
    assert host.snapshot() == before


@LATE
@pytest.mark.parametrize("first", [True, False], ids=["first", "more"])
def test_publish(
    first: bool,
    late: bool,
    host: Host,
    driver: BridgeDriver,
    trouble: Trouble,
    make_place: PlaceFactory,
) -> None:
    """Of a port that cannot be published nothing is left, and what was there stays."""
    spec = network(*POOLS)
    driver.create_network(spec)
    one = attach(driver, spec, make_place(), "10.77.0.2/24")
    stay = [] if first else [PortBinding("tcp", 80, None, 5005)]
    held = driver.program_external_connectivity(spec.id, one.endpoint_id, stay)
    before = host.snapshot()

    def publish() -> None:
        more = [*stay, PortBinding("udp", 53, None, 5006), PortBinding("tcp", 80, None, 5007)]
        driver.program_external_connectivity(spec.id, one.endpoint_id, more)

    for step, _ in refusals(trouble, publish, late=late):
        assert host.snapshot() == before, f"step {step}"
        assert (is_free(5005), is_free(5007)) == (first, True), f"step {step}"
        assert is_free(5006, kind=socket.SOCK_DGRAM), f"step {step}"
    assert not is_free(5007)
    back = driver.program_external_connectivity(spec.id, one.endpoint_id, stay)
    assert (tuple(back), host.snapshot()) == (tuple(held), before)


@LATE
def test_revoke_goes_on_and_can_be_repeated(
    late: bool, host: Host, driver: BridgeDriver, trouble: Trouble, make_place: PlaceFactory
) -> None:
    spec = network(*POOLS)
    driver.create_network(spec)
    one = attach(driver, spec, make_place(), "10.77.0.2/24")
    before = host.snapshot()

    def publish() -> None:
        ports = [PortBinding("tcp", 80, None, 5005), PortBinding("udp", 53, None, 5006)]
        driver.program_external_connectivity(spec.id, one.endpoint_id, ports)

    def revoke() -> None:
        driver.revoke_external_connectivity(spec.id, one.endpoint_id)

    publish()
    for step, error in refusals(trouble, revoke, late=late):
        assert isinstance(error, TeardownError) or late
        revoke()
        assert host.snapshot() == before, f"step {step}"
        assert is_free(5005), f"step {step}"
        publish()
    assert host.snapshot() == before
