"""The allocator against a naive model: random calls, restarts and failed transactions."""

from dataclasses import dataclass, field
from ipaddress import IPv6Network, ip_address, ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cnm.errors import Forbidden, InvalidParameter, PoolOverlap, Unavailable
from cnm.ipam.allocator import create
from cnm.ipam.memory import MemoryLeases
from cnm.ipamapi import IpamContext, PoolRequest
from cnm.types import IPAddress, IPNetwork, PoolID

SPACE = "LocalDefault"

# (pool, sub-pool): overlapping ranges of one subnet, its edges, both families
POOLS: list[tuple[str, str | None]] = [
    ("10.0.0.0/28", None),
    ("10.0.0.0/28", "10.0.0.0/30"),
    ("10.0.0.0/28", "10.0.0.0/29"),
    ("10.0.0.0/28", "10.0.0.12/30"),
    ("10.0.0.0/27", None),
    ("10.0.0.16/31", None),
    ("10.9.0.0/16", "10.9.1.0/30"),
    ("fd00::/124", None),
    ("fd00::/124", "fd00::4/126"),
    ("fd00::/64", "fd00::ffff:0/127"),
    ("fd00::10/127", None),
]


@dataclass
class Held:
    """One pool as a person with pencil and paper would keep it."""

    pool: IPNetwork
    sub_pool: IPNetwork | None
    mine: set[IPAddress] = field(default_factory=set)

    def reserved(self) -> set[IPAddress]:
        if self.pool.prefixlen >= self.pool.max_prefixlen - 1:
            return set()
        if self.pool.version == 6:
            return {self.pool.network_address}
        return {self.pool.network_address, self.pool.broadcast_address}


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryLeases()
        self.held: dict[PoolID, Held] = {}
        self.restart()

    def taken(self, pool: IPNetwork) -> set[IPAddress]:
        return {item for held in self.held.values() if held.pool == pool for item in held.mine}

    def lowest(self, held: Held) -> IPAddress | None:
        blocked = self.taken(held.pool) | held.reserved()
        candidates = (item for item in held.sub_pool or held.pool if item not in blocked)
        return next(candidates, None)

    @rule()
    def restart(self) -> None:
        self.allocator = create(IpamContext(self.store, IPv6Network("fd00:1::/48")))

    @rule(wanted=st.sampled_from(POOLS))
    def request_pool(self, wanted: tuple[str, str | None]) -> None:
        pool, sub_pool = ip_network(wanted[0]), ip_network(wanted[1]) if wanted[1] else None
        clash = any(
            held.pool.overlaps(pool)
            if held.pool != pool
            else sub_pool is None or held.sub_pool == sub_pool
            for held in self.held.values()
            if held.pool.version == pool.version
        )
        request = PoolRequest(SPACE, pool, sub_pool)
        if clash:
            with pytest.raises(PoolOverlap):
                self.allocator.request_pool(request)
            return
        granted = self.allocator.request_pool(request)
        assert granted.pool_id not in self.held
        self.held[granted.pool_id] = Held(pool, sub_pool)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release_pool(self, data: st.DataObject) -> None:
        pool_id = data.draw(st.sampled_from(sorted(self.held)))
        self.allocator.release_pool(pool_id)
        del self.held[pool_id]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), times=st.integers(1, 6))
    def request_any(self, data: st.DataObject, times: int) -> None:
        pool_id = data.draw(st.sampled_from(sorted(self.held)))
        held = self.held[pool_id]
        for _ in range(times):
            expected = self.lowest(held)
            if expected is None:
                with pytest.raises(Unavailable):
                    self.allocator.request_address(pool_id)
                return
            found = self.allocator.request_address(pool_id)
            assert found.ip == expected
            assert found.network == held.pool
            held.mine.add(found.ip)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), offset=st.integers(-1, 17))
    def request_wanted(self, data: st.DataObject, offset: int) -> None:
        pool_id = data.draw(st.sampled_from(sorted(self.held)))
        held = self.held[pool_id]
        wanted = ip_address(int(held.pool.network_address) + offset)
        if wanted not in held.pool or wanted in held.reserved():
            with pytest.raises(InvalidParameter):
                self.allocator.request_address(pool_id, wanted)
        elif wanted in self.taken(held.pool):
            with pytest.raises(Forbidden):
                self.allocator.request_address(pool_id, wanted)
        else:
            assert self.allocator.request_address(pool_id, wanted).ip == wanted
            held.mine.add(wanted)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), offset=st.integers(0, 16))
    def release_address(self, data: st.DataObject, offset: int) -> None:
        pool_id = data.draw(st.sampled_from(sorted(self.held)))
        held = self.held[pool_id]
        address = ip_address(int(held.pool.network_address) + offset)
        if held.mine and offset % 2:
            address = data.draw(st.sampled_from(sorted(held.mine, key=int)))
        self.allocator.release_address(pool_id, address)
        held.mine.discard(address)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def failed_transaction(self, data: st.DataObject) -> None:
        pool_id = data.draw(st.sampled_from(sorted(self.held)))
        with pytest.raises(KeyError):
            self.fail_half_way(pool_id)

    def fail_half_way(self, pool_id: PoolID) -> None:
        with self.allocator.transaction():
            for address in self.held[pool_id].mine:
                self.allocator.release_address(pool_id, address)
            if self.allocator.usage(pool_id).free:
                self.allocator.request_address(pool_id)
            self.allocator.release_pool(pool_id)
            raise KeyError

    @invariant()
    def same_as_the_model(self) -> None:
        assert dict(self.allocator.pools(SPACE)) == {
            pool_id: held.pool for pool_id, held in self.held.items()
        }
        for pool_id, held in self.held.items():
            assert self.allocator.leases(pool_id) == sorted(held.mine, key=int)
            usage = self.allocator.usage(pool_id)
            assert usage.in_use == len(self.taken(held.pool)) + len(held.reserved())
            area = held.sub_pool or held.pool
            blocked = self.taken(held.pool) | held.reserved()
            assert usage.free == area.num_addresses - sum(item in area for item in blocked)


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestModel = Model.TestCase
