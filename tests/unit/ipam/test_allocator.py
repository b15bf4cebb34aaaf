"""The IPAM driver ``default`` through its contract, on both lease stores."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_address, ip_network

import pytest

from cnm.errors import InvalidParameter, NotFound, PoolOverlap, StoreError
from cnm.ipam.allocator import Allocator
from cnm.ipam.memory import MemoryLeases
from cnm.ipamapi import (
    SERIAL_ALLOCATION,
    IpamDriver,
    LeaseAudit,
    LeaseStore,
    PoolRequest,
    PoolStatus,
    PoolUsage,
    StoredPool,
    Transactional,
)
from cnm.types import PoolID

Start = Callable[..., Allocator]

LOCAL = "LocalDefault"
SERIAL = {SERIAL_ALLOCATION: "true"}


def wish(
    pool: str | None = None, sub_pool: str | None = None, *, space: str = LOCAL, v6: bool = False
) -> PoolRequest:
    return PoolRequest(
        space,
        ip_network(pool) if pool else None,
        ip_network(sub_pool) if sub_pool else None,
        v6=v6,
    )


def take(allocator: Allocator, pool: str | None = None, sub_pool: str | None = None) -> PoolID:
    return allocator.request_pool(wish(pool, sub_pool)).pool_id


@pytest.mark.parametrize("contract", [IpamDriver, PoolStatus, LeaseAudit, Transactional])
def test_keeps_the_contracts(allocator: Allocator, contract: type) -> None:
    assert isinstance(allocator, contract)
    assert allocator.name == "default"
    assert allocator.default_address_spaces() == ("LocalDefault", "GlobalDefault")


@pytest.mark.parametrize(
    ("request_", "pool_id", "pool"),
    [
        pytest.param(wish(), "LocalDefault/172.17.0.0/16", "172.17.0.0/16", id="default"),
        pytest.param(
            wish(space="GlobalDefault"), "GlobalDefault/10.0.0.0/24", "10.0.0.0/24", id="global"
        ),
        pytest.param(
            wish("172.27.0.0/16"), "LocalDefault/172.27.0.0/16", "172.27.0.0/16", id="named"
        ),
        pytest.param(
            wish("172.27.0.0/16", "172.27.3.0/24"),
            "LocalDefault/172.27.0.0/16/172.27.3.0/24",
            "172.27.0.0/16",
            id="sub-pool",
        ),
        pytest.param(
            wish("0.0.0.0/24"), "LocalDefault/172.17.0.0/24", "172.17.0.0/24", id="size-only"
        ),
        pytest.param(
            wish(v6=True), "LocalDefault/fd12:3456:789a::/64", "fd12:3456:789a::/64", id="v6"
        ),
        pytest.param(
            wish("::/80"), "LocalDefault/fd12:3456:789a::/80", "fd12:3456:789a::/80", id="v6-size"
        ),
        pytest.param(
            wish(v6=True, space="GlobalDefault"),
            "GlobalDefault/fd12:3456:789a:8000::/64",
            "fd12:3456:789a:8000::/64",
            id="v6-global-upper-half",
        ),
    ],
)
def test_pool_ids(allocator: Allocator, request_: PoolRequest, pool_id: str, pool: str) -> None:
    granted = allocator.request_pool(request_)
    assert (granted.pool_id, granted.pool) == (pool_id, ip_network(pool))


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        pytest.param(wish(space="x"), "unknown address space: x", id="space"),
        pytest.param(
            wish(None, "10.0.0.0/24"), "ip-range 10.0.0.0/24 without a subnet", id="range-alone"
        ),
        pytest.param(wish("0.0.0.0/24", "10.0.0.0/25"), "without a subnet", id="range-of-a-size"),
        pytest.param(
            wish("10.0.0.0/24", "10.0.1.0/25"),
            "invalid ip-range 10.0.1.0/25: parent subnet 10.0.0.0/24 doesn't contain ip-range",
            id="range-outside",
        ),
        pytest.param(wish("10.0.0.0/24", "10.0.0.0/16"), "doesn't contain", id="range-around"),
        pytest.param(wish("10.0.0.0/24", "fd00::/64"), "doesn't contain", id="range-family"),
        pytest.param(wish("::/47"), "can hold a /47", id="too-big"),
    ],
)
def test_malformed_requests(allocator: Allocator, request_: PoolRequest, text: str) -> None:
    with pytest.raises(InvalidParameter, match=text):
        allocator.request_pool(request_)
    assert not allocator.pools(LOCAL)


def test_configured_pools_replace_those_of_their_family(start: Start) -> None:
    allocator = start(local=[("10.0.0.0/8", 26)])
    assert [take(allocator) for _ in range(2)] == [
        "LocalDefault/10.0.0.0/26",
        "LocalDefault/10.0.0.64/26",
    ]
    assert allocator.request_pool(wish(v6=True)).pool == ip_network("fd12:3456:789a::/64")
    other = start(local=[("fd00:7::/48", 56)], global_=[("10.7.0.0/16", 20)])
    assert other.request_pool(wish(v6=True)).pool == ip_network("fd00:7::/56")
    assert other.request_pool(wish()).pool == ip_network("172.17.0.0/16")
    assert other.request_pool(wish(space="GlobalDefault")).pool == ip_network("10.7.0.0/20")


def test_exclude_counts_for_chosen_pools_only(allocator: Allocator) -> None:
    routed = (ip_network("172.17.0.0/16"),)
    assert allocator.request_pool(PoolRequest(LOCAL, exclude=routed)).pool == ip_network(
        "172.18.0.0/16"
    )
    named = PoolRequest(LOCAL, routed[0], exclude=routed)
    assert allocator.request_pool(named).pool == routed[0]


def test_spaces_do_not_see_each_other(allocator: Allocator) -> None:
    allocator.request_pool(wish("10.0.0.0/8"))
    allocator.request_pool(wish("10.0.0.0/8", space="GlobalDefault"))
    with pytest.raises(PoolOverlap):
        allocator.request_pool(wish("10.0.0.0/8"))


def test_addresses_have_the_pools_prefix(allocator: Allocator) -> None:
    v4, v6 = take(allocator, "10.0.0.0/16", "10.0.3.0/24"), take(allocator, "fd00::/64")
    assert allocator.request_address(v4) == IPv4Interface("10.0.3.0/16")
    assert allocator.request_address(v4, ip_address("10.0.9.9")) == IPv4Interface("10.0.9.9/16")
    assert allocator.request_address(v6) == IPv6Interface("fd00::1/64")
    assert allocator.usage(v4) == PoolUsage(in_use=4, free=255)


@pytest.mark.parametrize("of_the_pool", [True, False], ids=["pool", "request"])
def test_serial(allocator: Allocator, of_the_pool: bool) -> None:
    pool = allocator.request_pool(
        PoolRequest(LOCAL, ip_network("10.0.0.0/29"), options=SERIAL if of_the_pool else {})
    ).pool_id
    drawn = []
    for _ in range(8):
        address = allocator.request_address(pool, options=None if of_the_pool else SERIAL).ip
        allocator.release_address(pool, address)
        drawn.append(int(address) & 7)
    assert drawn == [1, 2, 3, 4, 5, 6, 1, 2]


def test_serial_goes_on_after_the_highest_lease_when_restarted(start: Start) -> None:
    leases = MemoryLeases()
    allocator = start(leases)
    pool = take(allocator, "10.0.0.0/24")
    for _ in range(5):
        allocator.request_address(pool, options=SERIAL)
    allocator.release_address(pool, ip_address("10.0.0.2"))
    assert start(leases).request_address(pool, options=SERIAL).ip == IPv4Address("10.0.0.6")


def test_unknown_pools(allocator: Allocator) -> None:
    unknown = PoolID("LocalDefault/10.0.0.0/8")
    allocator.release_pool(unknown)
    allocator.release_address(unknown, ip_address("10.0.0.1"))
    questions: list[Callable[[PoolID], object]] = [
        allocator.request_address,
        allocator.usage,
        allocator.leases,
    ]
    for ask in questions:
        with pytest.raises(NotFound, match="address pool LocalDefault/10.0.0.0/8 not found"):
            ask(unknown)


def test_releasing_what_another_pool_of_the_subnet_holds_changes_nothing(
    allocator: Allocator,
) -> None:
    one = take(allocator, "10.0.0.0/24", "10.0.0.0/25")
    two = take(allocator, "10.0.0.0/24", "10.0.0.128/25")
    held = allocator.request_address(one).ip
    for other in (held, ip_address("10.0.0.77"), ip_address("fd00::1")):
        allocator.release_address(two, other)
    assert allocator.leases(one) == [held]


def test_a_released_pool_takes_its_leases_along(leases: LeaseStore, start: Start) -> None:
    allocator = start(leases)
    pool = take(allocator, "10.0.0.0/24")
    allocator.request_address(pool)
    allocator.release_pool(pool)
    allocator.release_pool(pool)
    for again in (allocator, start(leases)):
        assert not again.pools(LOCAL)
    assert take(allocator, "10.0.0.0/24") == pool
    assert allocator.leases(pool) == []
    assert start(leases).leases(pool) == []


def test_restart_finds_everything(leases: LeaseStore, start: Start) -> None:
    before = start(leases)
    pools = [take(before), take(before, "10.0.0.0/8", "10.7.0.0/16"), take(before, "fd00::/64")]
    pools.append(take(before, "10.0.0.0/8", "10.8.0.0/16"))
    for pool in pools:
        for _ in range(20):
            before.request_address(pool)
        before.release_address(pool, before.leases(pool)[7])
    before.request_address(pools[1], ip_address("10.200.0.1"))
    after = start(leases)
    assert after.pools(LOCAL) == before.pools(LOCAL)
    for pool in pools:
        assert after.leases(pool) == before.leases(pool)
        assert after.usage(pool) == before.usage(pool)
        assert after.request_address(pool) == before.request_address(pool)


def test_a_failed_transaction_leaves_no_trace(leases: LeaseStore, start: Start) -> None:
    allocator = start(leases)
    kept = take(allocator, "10.0.0.0/24")
    address = allocator.request_address(kept).ip

    def half_made() -> None:
        with allocator.transaction():
            gone = take(allocator)
            allocator.request_address(gone)
            allocator.request_address(kept)
            allocator.release_address(kept, address)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_made()
    for found in (allocator, start(leases)):
        assert list(found.pools(LOCAL)) == [kept]
        assert found.leases(kept) == [address]


def test_a_transaction_is_kept(leases: LeaseStore, start: Start) -> None:
    allocator = start(leases)
    with allocator.transaction():
        pool = take(allocator)
        addresses = [allocator.request_address(pool).ip for _ in range(300)]
        allocator.release_address(pool, addresses.pop(0))
    assert start(leases).leases(pool) == allocator.leases(pool) == addresses


def test_restore_pool(leases: LeaseStore, start: Start) -> None:
    allocator = start(leases)
    pool_id = PoolID("LocalDefault/10.0.0.0/24/10.0.0.0/25")
    request = wish("10.0.0.0/24", "10.0.0.0/25")
    allocator.restore_pool(pool_id, request)
    allocator.request_address(pool_id)
    allocator.restore_pool(pool_id, request)
    assert len(allocator.leases(pool_id)) == 1
    allocator.restore_pool(PoolID("LocalDefault/10.0.0.0/24"), wish("10.0.0.0/24"))
    assert start(leases).pools(LOCAL) == allocator.pools(LOCAL)
    assert len(allocator.pools(LOCAL)) == 2


@pytest.mark.parametrize(
    ("pool_id", "request_", "error"),
    [
        ("LocalDefault/10.1.0.0/24", wish("10.0.0.0/24"), InvalidParameter),
        ("LocalDefault/10.1.0.0/24", wish(), InvalidParameter),
        ("x/10.0.0.0/24", wish("10.0.0.0/24", space="x"), InvalidParameter),
        ("LocalDefault/10.9.8.0/24", wish("10.9.8.0/24"), PoolOverlap),
    ],
    ids=["other-pool", "no-pool", "space", "overlap"],
)
def test_restore_refused(
    allocator: Allocator, pool_id: str, request_: PoolRequest, error: type[Exception]
) -> None:
    take(allocator, "10.9.0.0/16")
    with pytest.raises(error):
        allocator.restore_pool(PoolID(pool_id), request_)
    assert len(allocator.pools(LOCAL)) == 1


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (StoredPool(PoolID("a"), "x", ip_network("10.0.0.0/8")), "a: unknown address space"),
        (StoredPool(PoolID("a"), LOCAL, ip_network("10.9.0.0/16")), "a overlaps 10.0.0.0/8"),
    ],
    ids=["space", "overlap"],
)
def test_a_store_that_contradicts_itself_is_refused(
    start: Start, stored: StoredPool, text: str
) -> None:
    leases = MemoryLeases()
    take(start(leases), "10.0.0.0/8")
    leases.put_pool(stored)
    with pytest.raises(StoreError, match=text):
        start(leases)
