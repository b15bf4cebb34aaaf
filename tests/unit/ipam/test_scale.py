"""Size: a million leases, kept and found again; thousands of networks."""

from collections.abc import Callable
from ipaddress import ip_address, ip_network

import pytest

from cnm.ipam.allocator import Allocator
from cnm.ipam.memory import MemoryLeases
from cnm.ipamapi import LeaseStore, PoolRequest, PoolUsage

Start = Callable[..., Allocator]

LOCAL = "LocalDefault"
MILLION = 1_000_000


@pytest.mark.timeout(300)  # some ten seconds each on a machine that does nothing else
@pytest.mark.parametrize(
    ("leases", "network"),
    [("sqlite", "10.0.0.0/8"), ("memory", "fd00::/64")],
    ids=["v4", "v6"],
    indirect=["leases"],
)
def test_a_million_leases(leases: LeaseStore, start: Start, network: str) -> None:
    allocator = start(leases)
    pool = allocator.request_pool(PoolRequest(LOCAL, ip_network(network))).pool_id
    first = int(ip_network(network).network_address) + 1
    with allocator.transaction():
        for number in range(first, first + MILLION):
            assert int(allocator.request_address(pool)) == number
    again = start(leases)
    assert again.usage(pool) == allocator.usage(pool)
    assert again.usage(pool).in_use - MILLION in (1, 2)
    again.release_address(pool, ip_address(first + 77))
    assert int(again.request_address(pool)) == first + 77
    assert int(again.request_address(pool)) == first + MILLION
    again.release_pool(pool)
    assert list(leases.leases(pool)) == []


def test_four_thousand_networks(start: Start) -> None:
    leases = MemoryLeases()
    allocator = start(leases, local=[("10.0.0.0/8", 26)])
    expected = ip_network("10.0.0.0/8").subnets(new_prefix=26)
    pools = []
    for _, network in zip(range(4000), expected, strict=False):
        granted = allocator.request_pool(PoolRequest(LOCAL))
        assert granted.pool == network
        pools.append(granted.pool_id)
        allocator.request_address(granted.pool_id)
    allocator.release_pool(pools[1234])
    again = start(leases, local=[("10.0.0.0/8", 26)])
    assert again.request_pool(PoolRequest(LOCAL)).pool_id == pools[1234]
    assert again.request_pool(PoolRequest(LOCAL)).pool == next(expected)
    assert again.usage(pools[0]) == PoolUsage(in_use=3, free=61)
