"""The IPAM driver ``default``: Docker's pools and choices, kept in a lease store.

Owns pools and leases of the spaces ``LocalDefault`` and ``GlobalDefault``. Does not
know networks, routes or containers: who holds a pool is the core's knowledge, and
what the host routes comes in with each request (``PoolRequest.exclude``).

It has no locks. The core holds the address-space lock around every call (and around
a whole :meth:`Allocator.transaction`), whoever asks: the daemon's own networks and
the engines that our plugin serves come through the same lock.

Memory follows the store: each change is checked, then written, then made in memory,
so that a failed write (disk full) has changed nothing. After a failed transaction
everything is read from the store again. A log of steps to take back was left: it
costs every lease of a large transaction some memory for what hardly ever happens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from cnm.errors import InvalidParameter, NotFound, PoolOverlap, StoreError
from cnm.ipam.addrspace import GLOBAL_POOLS, LOCAL_POOLS, ULA_POOL_SIZE, AddressSpace
from cnm.ipam.pool import Pool
from cnm.ipamapi import (
    SERIAL_ALLOCATION,
    AllocatedPool,
    IpamContext,
    PoolRequest,
    PoolUsage,
    StoredPool,
)
from cnm.types import IPAddress, IPInterface, IPNetwork, PoolID

LOCAL_SPACE = "LocalDefault"
GLOBAL_SPACE = "GlobalDefault"

Defaults = Sequence[tuple[IPNetwork, int]]


def create(context: IpamContext) -> Allocator:
    """The factory in the group ``cnm.ipam_drivers``."""
    return Allocator(context)


class Allocator:
    """The built-in IPAM driver; also ``PoolStatus``, ``LeaseAudit`` and ``Transactional``.

    :raises InvalidParameter: a default pool is malformed.
    :raises StoreError: the leases cannot be read, or contradict themselves.
    """

    def __init__(self, context: IpamContext) -> None:
        self._store = context.store
        # a network of each space can be on one host, so they share no prefix
        lower, upper = context.ula_prefix.subnets()
        self._defaults: Mapping[str, Defaults] = {
            LOCAL_SPACE: _defaults(context.local_pools, LOCAL_POOLS, lower),
            GLOBAL_SPACE: _defaults(context.global_pools, GLOBAL_POOLS, upper),
        }
        self._load()

    @property
    def name(self) -> str:
        return "default"

    def default_address_spaces(self) -> tuple[str, str]:
        """Docker's names of the local and of the global space."""
        return LOCAL_SPACE, GLOBAL_SPACE

    def request_pool(self, request: PoolRequest) -> AllocatedPool:
        """Hold the wanted pool, or the lowest free default one; see ``IpamDriver``."""
        space = self._space(request.address_space)
        if request.pool is None or request.pool.network_address.is_unspecified:
            pool = _choose(space, request)
        else:
            pool = request.pool
            _check_sub_pool(pool, request.sub_pool)
            space.check(pool, request.sub_pool)
        return self._hold(space, pool, request)

    def release_pool(self, pool_id: PoolID) -> None:
        """Give up a pool and its leases. Unknown ids are success."""
        pool = self._pools.get(pool_id)
        if pool is None:
            return
        self._store.delete_pool(pool_id)
        self._space(pool.stored.address_space).remove(pool)
        del self._pools[pool_id]

    def request_address(
        self,
        pool_id: PoolID,
        address: IPAddress | None = None,
        options: Mapping[str, str] | None = None,
    ) -> IPInterface:
        """Lease the wanted address, or the lowest free one; see ``IpamDriver``.

        With the option ``com.docker.network.ipam.serial`` (of the request or of the
        pool) the search starts after the last address given.
        """
        pool = self._pool(pool_id)
        if address is None:
            leased = pool.choose(serial=_is_serial(pool.stored, options))
        else:
            pool.subnet.check(address)
            leased = address
        self._store.add_leases(pool_id, (leased,))
        pool.take(leased, chosen=address is None)
        return pool.subnet.interface(leased)

    def release_address(self, pool_id: PoolID, address: IPAddress) -> None:
        """Free an address. One that this pool has not leased is success."""
        pool = self._pools.get(pool_id)
        if pool is None or not pool.holds(address):
            return
        self._store.remove_leases(pool_id, (address,))
        pool.give_back(address)

    def usage(self, pool_id: PoolID) -> PoolUsage:
        """Use of a pool. :raises NotFound:"""
        return self._pool(pool_id).usage()

    def pools(self, address_space: str) -> Mapping[PoolID, IPNetwork]:
        """All pools of one space, oldest first. :raises InvalidParameter: no such space."""
        space = self._space(address_space)
        return {pool_id: pool.stored.pool for pool_id, pool in space.pools.items()}

    def leases(self, pool_id: PoolID) -> Sequence[IPAddress]:
        """All leased addresses of one pool, lowest first. :raises NotFound:"""
        return list(self._pool(pool_id).leases())

    def restore_pool(self, pool_id: PoolID, request: PoolRequest) -> None:
        """Take up a pool that a network's record names and the lease store has lost.

        :raises InvalidParameter: the id does not belong to the request.
        :raises PoolOverlap: a different pool is in its place by now.
        """
        if pool_id in self._pools:
            return
        space = self._space(request.address_space)
        if request.pool is None or pool_id != _pool_id(space.name, request.pool, request.sub_pool):
            raise InvalidParameter(f"pool {pool_id} cannot be restored from {request.pool}")
        _check_sub_pool(request.pool, request.sub_pool)
        space.check_others(request.pool)
        self._hold(space, request.pool, request)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Group calls into one commit; see ``Transactional``."""
        try:
            with self._store.transaction():
                yield
        except BaseException:
            self._load()
            raise

    def _hold(self, space: AddressSpace, pool: IPNetwork, request: PoolRequest) -> AllocatedPool:
        pool_id = _pool_id(space.name, pool, request.sub_pool)
        stored = StoredPool(pool_id, space.name, pool, request.sub_pool, dict(request.options))
        self._store.put_pool(stored)
        self._pools[pool_id] = space.add(stored)
        return AllocatedPool(pool_id, pool)

    def _load(self) -> None:
        spaces = {name: AddressSpace(name, pools) for name, pools in self._defaults.items()}
        pools: dict[PoolID, Pool] = {}
        for stored in self._store.pools():
            pool = pools[stored.pool_id] = _restore(spaces, stored)
            pool.restore(iter(self._store.leases(stored.pool_id)))
        self._spaces, self._pools = spaces, pools

    def _space(self, name: str) -> AddressSpace:
        try:
            return self._spaces[name]
        except KeyError:
            raise InvalidParameter(f"unknown address space: {name}") from None

    def _pool(self, pool_id: PoolID) -> Pool:
        try:
            return self._pools[pool_id]
        except KeyError:
            raise NotFound(f"address pool {pool_id} not found") from None


def _defaults(configured: Defaults, ours: Defaults, ula: IPNetwork) -> Defaults:
    families = {base.version for base, _ in configured}
    fallback = [*ours, (ula, ULA_POOL_SIZE)]
    return [*configured, *(pool for pool in fallback if pool[0].version not in families)]


def _choose(space: AddressSpace, request: PoolRequest) -> IPNetwork:
    if request.sub_pool is not None:
        raise InvalidParameter(
            f"ip-range {request.sub_pool} without a subnet: name the subnet that contains it"
        )
    if request.pool is not None:
        return space.choose(request.pool.version, request.pool.prefixlen, request.exclude)
    return space.choose(6 if request.v6 else 4, None, request.exclude)


def _check_sub_pool(pool: IPNetwork, sub_pool: IPNetwork | None) -> None:
    if sub_pool is None:
        return
    first, last = sub_pool.network_address, sub_pool.broadcast_address
    if first not in pool or last not in pool:
        raise InvalidParameter(
            f"invalid ip-range {sub_pool}: parent subnet {pool} doesn't contain ip-range"
        )


def _pool_id(space: str, pool: IPNetwork, sub_pool: IPNetwork | None) -> PoolID:
    return PoolID(f"{space}/{pool}" if sub_pool is None else f"{space}/{pool}/{sub_pool}")


def _is_serial(stored: StoredPool, options: Mapping[str, str] | None) -> bool:
    wanted = options.get(SERIAL_ALLOCATION) if options else None
    return (wanted or stored.options.get(SERIAL_ALLOCATION)) == "true"


def _restore(spaces: Mapping[str, AddressSpace], stored: StoredPool) -> Pool:
    space = spaces.get(stored.address_space)
    if space is None:
        raise StoreError(f"stored pool {stored.pool_id}: unknown address space")
    try:
        space.check_others(stored.pool)
    except PoolOverlap as error:
        raise StoreError(f"stored pool {stored.pool_id} overlaps {error.pool}") from error
    return space.add(stored)
