"""A lease store in memory, for a daemon that keeps nothing and for pure logic.

It keeps the contract of the one on disk: a group of writes that fails is taken back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from cnm.ipamapi import StoredPool
from cnm.types import IPAddress, PoolID


class MemoryLeases:
    """``LeaseStore`` with nothing behind it."""

    def __init__(self) -> None:
        self._pools: dict[PoolID, StoredPool] = {}
        self._leases: dict[PoolID, set[IPAddress]] = {}
        self._nested = False

    def pools(self) -> Sequence[StoredPool]:
        """All pools, oldest first."""
        return list(self._pools.values())

    def put_pool(self, pool: StoredPool) -> None:
        """Keep a pool."""
        self._pools[pool.pool_id] = pool

    def delete_pool(self, pool_id: PoolID) -> None:
        """Forget a pool and its leases."""
        self._pools.pop(pool_id, None)
        self._leases.pop(pool_id, None)

    def leases(self, pool_id: PoolID) -> Sequence[IPAddress]:
        """All leased addresses of a pool, lowest first."""
        return sorted(self._leases.get(pool_id, ()), key=int)

    def add_leases(self, pool_id: PoolID, addresses: Iterable[IPAddress]) -> None:
        """Keep leases."""
        self._leases.setdefault(pool_id, set()).update(addresses)

    def remove_leases(self, pool_id: PoolID, addresses: Iterable[IPAddress]) -> None:
        """Forget leases."""
        self._leases.setdefault(pool_id, set()).difference_update(addresses)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Take all back if the block fails; nested calls join the outer one."""
        if self._nested:
            yield
            return
        pools = dict(self._pools)
        leases = {pool_id: set(held) for pool_id, held in self._leases.items()}
        self._nested = True
        try:
            yield
        except BaseException:
            self._pools, self._leases = pools, leases
            raise
        finally:
            self._nested = False
