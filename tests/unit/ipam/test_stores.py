"""What every lease store keeps, and what a store that cannot write leaves as it was."""

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from cnm.errors import StoreError
from cnm.ipam.allocator import Allocator
from cnm.ipamapi import LeaseStore, PoolRequest, StoredPool
from cnm.store import SqliteStore
from cnm.types import IPAddress, PoolID

Start = Callable[..., Allocator]

LOCAL = "LocalDefault"
POOL = PoolID("LocalDefault/10.0.0.0/8")
STORED = StoredPool(POOL, LOCAL, ip_network("10.0.0.0/8"), ip_network("10.2.0.0/16"), {"a": "b"})
HIGH, LOW = ip_address("10.200.0.1"), ip_address("10.3.0.1")


def kept(leases: LeaseStore) -> list[IPAddress]:
    return list(leases.leases(POOL))


def test_pools(leases: LeaseStore) -> None:
    other = StoredPool(PoolID("x"), "GlobalDefault", ip_network("fd00::/64"))
    leases.put_pool(STORED)
    leases.put_pool(other)
    assert list(leases.pools()) == [STORED, other]
    leases.delete_pool(POOL)
    leases.delete_pool(POOL)
    assert list(leases.pools()) == [other]


def test_leases(leases: LeaseStore) -> None:
    leases.put_pool(STORED)
    leases.add_leases(POOL, [HIGH, LOW])
    leases.add_leases(POOL, iter([LOW]))
    assert kept(leases) == [LOW, HIGH]
    leases.remove_leases(POOL, [LOW, ip_address("10.0.0.9")])
    assert kept(leases) == [HIGH]
    leases.delete_pool(POOL)
    assert kept(leases) == []


def fail_inside(leases: LeaseStore) -> None:
    with leases.transaction(), leases.transaction():
        leases.add_leases(POOL, [LOW])
        leases.remove_leases(POOL, [HIGH])
        leases.put_pool(StoredPool(PoolID("x"), LOCAL, ip_network("10.0.0.0/8")))
        raise KeyError


def test_a_transaction_is_all_or_nothing(leases: LeaseStore) -> None:
    leases.put_pool(STORED)
    leases.add_leases(POOL, [HIGH])
    with pytest.raises(KeyError):
        fail_inside(leases)
    assert (list(leases.pools()), kept(leases)) == ([STORED], [HIGH])
    with leases.transaction():
        leases.add_leases(POOL, [LOW])
    assert kept(leases) == [LOW, HIGH]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "cnm.db")
    yield store
    store.close()


def fill(sqlite: SqliteStore) -> None:
    """Let the database grow no further: its disk is full."""
    pages = sqlite.query("PRAGMA page_count")[0][0]
    sqlite.query(f"PRAGMA max_page_count = {pages}")


def lease_until_full(allocator: Allocator, pool: PoolID) -> list[IPAddress]:
    given: list[IPAddress] = []
    while len(given) < 10_000:
        try:
            given.append(allocator.request_address(pool).ip)
        except StoreError as error:
            assert "full: free some space" in str(error)  # noqa: PT017 (when it comes is open)
            return given
    pytest.fail("the disk never filled up")


def test_full_disk(sqlite: SqliteStore, start: Start) -> None:
    allocator = start(sqlite.leases)
    pool = allocator.request_pool(PoolRequest(LOCAL)).pool_id
    fill(sqlite)
    given = lease_until_full(allocator, pool)
    assert allocator.leases(pool) == given == start(sqlite.leases).leases(pool)
    allocator.release_address(pool, given[3])
    assert allocator.request_address(pool).ip == given[3]


def test_full_disk_in_a_transaction(sqlite: SqliteStore, start: Start) -> None:
    allocator = start(sqlite.leases)
    pool = allocator.request_pool(PoolRequest(LOCAL)).pool_id
    before = [allocator.request_address(pool).ip]
    fill(sqlite)

    def many() -> None:
        with allocator.transaction():
            for _ in range(10_000):
                allocator.request_address(pool)

    with pytest.raises(StoreError, match="full"):
        many()
    assert allocator.leases(pool) == before == start(sqlite.leases).leases(pool)


def test_a_write_that_fails_changes_nothing(sqlite: SqliteStore, start: Start) -> None:
    allocator = start(sqlite.leases)
    pool = allocator.request_pool(PoolRequest(LOCAL)).pool_id
    address = allocator.request_address(pool).ip
    usage = allocator.usage(pool)
    sqlite.query("PRAGMA query_only = on")
    writes: list[Callable[[], object]] = [
        lambda: allocator.request_pool(PoolRequest(LOCAL)),
        lambda: allocator.release_pool(pool),
        lambda: allocator.request_address(pool),
        lambda: allocator.request_address(pool, ip_address("172.17.9.9")),
        lambda: allocator.release_address(pool, address),
    ]
    for write in writes:
        with pytest.raises(StoreError):
            write()
        assert list(allocator.pools(LOCAL)) == [pool]
        assert allocator.leases(pool) == [address]
        assert allocator.usage(pool) == usage
    sqlite.query("PRAGMA query_only = off")
    allocator.release_pool(pool)
    assert not allocator.pools(LOCAL)
