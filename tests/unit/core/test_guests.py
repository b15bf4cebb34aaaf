"""What engines keep with us: repeats, faults at each step, what a killed engine forgot."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.core.conftest import FakeDriver, FakeRoutes, World

from cnm.core.guestpools import FORGOTTEN_AFTER_S, GuestPools
from cnm.core.guestrecords import GuestRecords
from cnm.core.guests import Guests
from cnm.core.locks import Locks
from cnm.core.registry import Registry
from cnm.core.state import State
from cnm.errors import Conflict, Forbidden, KernelError, NotFound
from cnm.ipam.allocator import Allocator
from cnm.ipamapi import GATEWAY_ADDRESS, REQUEST_ADDRESS_TYPE, IpamContext, PoolRequest
from cnm.store import SqliteStore
from cnm.types import (
    EndpointID,
    EndpointInterface,
    IpamPool,
    NetworkID,
    NetworkSpec,
    PoolID,
    PortBinding,
)

POOL = ipaddress.IPv4Network("10.50.0.0/24")
SPACE = "cnm-LocalDefault"
NETWORK, ONE, TWO = NetworkID("a" * 64), EndpointID("b" * 64), EndpointID("c" * 64)


class WatchedDriver(FakeDriver):
    """Sees the links that engines have."""

    def in_use(self, network_id: NetworkID, endpoint_id: EndpointID) -> bool:
        return endpoint_id in self.kernel.links


class Place:
    """Guests over the real store and allocator, with a clock of the test's."""

    def __init__(self, world: World, folder: Path) -> None:
        self.kernel = world.kernel
        self.now = 1000.0
        self._folder = folder
        self.store: SqliteStore | None = None
        self.start()

    def start(self) -> None:
        """A new life of the daemon."""
        self.close()
        self.store = store = SqliteStore(self._folder / "guests.db")
        ipam = Allocator(IpamContext(store.leases, ipaddress.IPv6Network("fd00:1:2::/48")))
        registry = Registry({"bridge": WatchedDriver(self.kernel)}, {"default": ipam})
        records, locks = GuestRecords(store), Locks()

        def clock() -> float:
            return self.now

        self.pools = GuestPools(records, registry, locks, FakeRoutes(self.kernel), clock)
        self.guests = Guests(records, self.pools, State(store), registry, locks, clock)
        self.records = records

    def close(self) -> None:
        if self.store is not None:
            self.store.close()

    def leased(self) -> set[str]:
        assert self.store is not None
        leases = self.store.leases
        return {str(item) for pool in leases.pools() for item in leases.leases(pool.pool_id)}

    def network(self) -> PoolID:
        """A network as an engine makes it, with its pool and gateway."""
        pool = self.pools.request_pool("default", PoolRequest(SPACE, POOL))
        options = {REQUEST_ADDRESS_TYPE: GATEWAY_ADDRESS}
        gateway = self.pools.request_address("default", pool.pool_id, None, options)
        held = IpamPool(pool.pool_id, SPACE, POOL, gateway)
        self.guests.create_network("bridge", NetworkSpec(NETWORK, "a", ipv4=(held,)))
        return pool.pool_id

    def endpoint(self, endpoint_id: EndpointID, address: str) -> EndpointInterface:
        wanted = EndpointInterface(ipaddress.IPv4Interface(f"{address}/24"))
        return self.guests.create_endpoint("bridge", NETWORK, endpoint_id, wanted, {})

    def container(self, pool_id: PoolID, endpoint_id: EndpointID) -> str:
        address = self.pools.request_address("default", pool_id, None, {})
        self.endpoint(endpoint_id, str(address.ip))
        self.guests.join("bridge", NETWORK, endpoint_id)
        return str(address.ip)


@pytest.fixture
def place(world: World, tmp_path: Path) -> Iterator[Place]:
    found = Place(world, tmp_path)
    yield found
    found.close()


def test_a_repeated_creation_is_one_and_another_of_the_same_id_is_none(place: Place) -> None:
    place.network()
    spec = place.records.networks()[0].spec
    place.guests.create_network("bridge", spec)
    assert len(place.records.networks()) == 1
    with pytest.raises(Conflict):
        place.guests.create_network("bridge", NetworkSpec(NETWORK, "a"))


def test_subnets_of_two_engines_networks_do_not_overlap(place: Place) -> None:
    place.network()
    held = IpamPool(PoolID("x"), "LocalDefault", ipaddress.IPv4Network("10.50.0.128/25"))
    with pytest.raises(Forbidden, match="10.50.0.128/25 overlaps 10.50.0.0/24"):
        place.guests.create_network("bridge", NetworkSpec(NetworkID("d" * 64), "d", ipv4=(held,)))


@pytest.mark.parametrize("step", [1, 2])
def test_a_failed_step_leaves_nothing(place: Place, step: int) -> None:
    place.network()
    place.kernel.fault.arm(step)

    def attach() -> None:
        place.endpoint(ONE, "10.50.0.2")
        place.guests.join("bridge", NETWORK, ONE)

    with pytest.raises(KernelError):
        attach()
    assert len(place.records.endpoints()) == step - 1  # a failed join leaves the endpoint
    assert place.kernel.links == {}
    place.guests.delete_endpoint("bridge", NETWORK, ONE)
    assert place.records.endpoints() == []


def test_a_failed_network_leaves_nothing(place: Place) -> None:
    place.kernel.fault.arm(1)
    with pytest.raises(KernelError):
        place.guests.create_network("bridge", NetworkSpec(NETWORK, "a"))
    assert place.records.networks() == []
    assert place.kernel.networks == {}


def test_a_dead_container_s_endpoint_goes_at_the_second_look(place: Place) -> None:
    pool = place.network()
    place.container(pool, ONE)
    place.container(pool, TWO)
    del place.kernel.links[ONE]  # with its container; nobody told us
    assert place.guests.sweep() == []
    (repair,) = place.guests.sweep()
    assert repair.action == "removed: its engine forgot it"
    assert [item.id for item in place.records.endpoints()] == [TWO]
    assert place.leased() == {"10.50.0.1", "10.50.0.3"}


def test_a_link_that_is_handed_over_again_is_not_a_dead_container_s(place: Place) -> None:
    pool = place.network()
    place.container(pool, ONE)
    link = place.kernel.links.pop(ONE)  # not moved yet: we were killed before the answer was read
    assert place.guests.sweep() == []
    place.guests.join("bridge", NETWORK, ONE)  # repeated
    place.kernel.links.pop(ONE)  # the engine is about to move it
    assert place.guests.sweep() == []
    place.kernel.links[ONE] = link
    assert place.guests.sweep() == []
    assert [item.id for item in place.records.endpoints()] == [ONE]


def test_a_dead_container_s_ports_are_free_and_stay_so(place: Place) -> None:
    pool_id = place.network()
    place.container(pool_id, ONE)
    place.container(pool_id, TWO)
    ports = [PortBinding("tcp", 80, None, 5005)]
    place.guests.program("bridge", NETWORK, ONE, ports)
    with pytest.raises(Conflict):
        place.guests.program("bridge", NETWORK, TWO, ports)
    del place.kernel.links[ONE]  # with its container; the engine has forgotten it
    place.guests.program("bridge", NETWORK, TWO, ports)
    assert set(place.kernel.ports.held.values()) == {TWO}
    one, two = place.records.endpoints()
    assert (one.ports, bool(two.ports)) == ((), True)  # else the next start gives them back to ONE


def test_an_endpoint_that_is_never_joined_goes_after_a_minute(place: Place) -> None:
    pool = place.network()
    address = place.pools.request_address("default", pool, None, {})
    place.endpoint(ONE, str(address.ip))
    for _ in range(3):
        assert place.guests.sweep() == []
    place.now += FORGOTTEN_AFTER_S + 1
    place.guests.sweep()
    assert len(place.guests.sweep()) == 1
    assert place.leased() == {"10.50.0.1"}


def test_an_address_that_no_endpoint_took_goes_after_a_minute(place: Place) -> None:
    pool = place.network()
    place.container(pool, ONE)
    place.pools.request_address("default", pool, None, {})
    place.guests.sweep()
    assert place.leased() == {"10.50.0.1", "10.50.0.2", "10.50.0.3"}
    place.now += FORGOTTEN_AFTER_S + 1
    assert [item.name for item in place.guests.sweep()] == ["10.50.0.3"]
    assert place.leased() == {"10.50.0.1", "10.50.0.2"}


def test_a_late_release_does_not_take_a_living_container_s_address(place: Place) -> None:
    pool = place.network()
    address = place.container(pool, ONE)
    place.pools.release_address("default", pool, ipaddress.ip_address(address))
    assert address in place.leased()
    place.guests.delete_endpoint("bridge", NETWORK, ONE)
    place.pools.release_address("default", pool, ipaddress.ip_address(address))
    assert address not in place.leased()


def test_an_address_is_had_again_after_a_cut_but_not_by_a_second_container(place: Place) -> None:
    pool = place.network()
    wanted = ipaddress.ip_address("10.50.0.9")
    place.pools.request_address("default", pool, wanted, {})
    with pytest.raises(Forbidden):
        place.pools.request_address("default", pool, wanted, {})
    place.start()  # we were killed before the answer was read: the engine asks again
    place.guests.sweep()  # in between: it finds an address that nobody has
    assert str(place.pools.request_address("default", pool, wanted, {})) == "10.50.0.9/24"
    place.endpoint(ONE, "10.50.0.9")
    place.start()
    with pytest.raises(Forbidden):
        place.pools.request_address("default", pool, wanted, {})


def test_forgotten_pools_are_found_when_there_are_no_others(place: Place) -> None:
    wish = PoolRequest(SPACE)
    granted = [place.pools.request_pool("default", wish) for _ in range(3)]
    place.pools.request_address("default", granted[1].pool_id, None, {})  # in use
    place.now += FORGOTTEN_AFTER_S + 1
    seen = {item.pool_id for item in granted}
    while True:
        found = place.pools.request_pool("default", wish)
        if found.pool_id in seen:
            break
        seen.add(found.pool_id)
    assert found.pool_id == granted[0].pool_id
    assert granted[1].pool_id in place.pools.ids("default")


def test_a_booted_host_has_no_endpoints(place: Place) -> None:
    pool = place.network()
    place.container(pool, ONE)
    place.kernel.links.clear()
    place.kernel.networks.clear()
    place.start()
    place.guests.forget_endpoints()
    (network,) = place.guests.networks()
    place.guests.restore(network)
    assert set(place.kernel.networks) == {NETWORK}
    assert place.records.endpoints() == []
    assert place.leased() == {"10.50.0.1"}


def test_ids_of_another_driver_are_unknown(place: Place) -> None:
    place.network()
    with pytest.raises(NotFound):
        place.guests.join("bridge", NetworkID("e" * 64), ONE)
    assert place.guests.oper_info("bridge", NETWORK, TWO) == {}
    place.guests.delete_endpoint("bridge", NetworkID("e" * 64), ONE)
    place.guests.delete_network("bridge", NetworkID("e" * 64))
    assert len(place.guests.networks()) == 1


def test_a_network_whose_driver_asks_for_it_is_looked_after_at_once(world: World) -> None:
    """As where a parent is there again."""
    world.core.guests.create_network("bridge", NetworkSpec(NETWORK, "a"))
    world.kernel.networks.clear()
    (repair,) = world.core.reconciler.network_changed(NETWORK)
    assert repair.action == "created again"
    assert NETWORK in world.kernel.networks
