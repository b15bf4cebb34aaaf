"""Address spaces: which pools are held, and which default pool is next. No I/O.

Within one space and one family pools do not overlap, except that one pool may be
granted several times with different sub-pools. Two spaces know nothing of each other.

The lowest free default pool is found by jumping over runs of held addresses, so that
the four-thousandth /26 of a /8 costs what the first does.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network

from cnm.errors import InvalidParameter, PoolOverlap
from cnm.ipam.pool import Pool, Subnet
from cnm.ipam.runs import Runs
from cnm.ipamapi import StoredPool
from cnm.types import IPNetwork, PoolID

# Docker's: 15 networks of /16, 16 of /20; for overlays 65,536 of /24
LOCAL_POOLS: tuple[tuple[IPNetwork, int], ...] = (
    *((IPv4Network(f"172.{second}.0.0/16"), 16) for second in range(17, 32)),
    (IPv4Network("192.168.0.0/16"), 20),
)
GLOBAL_POOLS: tuple[tuple[IPNetwork, int], ...] = ((IPv4Network("10.0.0.0/8"), 24),)

_OVERLAP = "Pool overlaps with other one on this address space"

ULA_POOL_SIZE = 64  # what SLAAC needs (RFC 4862), and Docker gives


def ula_prefix(daemon_id: str) -> IPv6Network:
    """The unique-local /48 of a daemon: RFC 4193 with 40 bits of a hash of its id."""
    digest = hashlib.sha256(daemon_id.encode()).digest()
    return IPv6Network((bytes([0xFD]) + digest[3:8] + bytes(10), 48))


class AddressSpace:
    """The pools of one space.

    ``defaults``: (base, prefix length) pairs to choose from, lowest base first
    whatever their order.

    :raises InvalidParameter: a prefix length does not fit its base.
    """

    def __init__(self, name: str, defaults: Sequence[tuple[IPNetwork, int]]) -> None:
        for base, size in defaults:
            if not base.prefixlen <= size <= base.max_prefixlen:
                raise InvalidParameter(
                    f"default address pool {base}: size {size} must be from "
                    f"{base.prefixlen} to {base.max_prefixlen}"
                )
        self.name = name
        self._defaults = sorted(defaults, key=lambda pool: int(pool[0].network_address))
        self._families = {4: _Family(), 6: _Family()}
        self.pools: dict[PoolID, Pool] = {}

    def choose(self, version: int, size: int | None, exclude: Iterable[IPNetwork]) -> IPNetwork:
        """The lowest default pool that is free and overlaps nothing of ``exclude``.

        ``size``: of this prefix length in place of the default's.

        :raises InvalidParameter: none is free.
        """
        bases = [
            (base, default if size is None else size)
            for base, default in self._defaults
            if base.version == version and (size is None or base.prefixlen <= size)
        ]
        if size is not None and not bases:
            raise InvalidParameter(
                f"no predefined address pool can hold a /{size}: "
                "ask for a smaller subnet, or name one with its address"
            )
        held = self._families[version].held
        pool = _lowest_free(bases, (held, _routed(version, exclude)))
        if pool is None:
            raise InvalidParameter(_full(_lowest_free(bases, (held,))))
        return pool

    def check(self, pool: IPNetwork, sub_pool: IPNetwork | None) -> None:
        """Whether a pool may be granted.

        :raises PoolOverlap: another pool overlaps it, or the same one is held: with
            the same sub-pool, or at all if none is asked for.
        """
        self.check_others(pool)
        subnet = self._families[pool.version].subnets.get(pool)
        if subnet is not None and (sub_pool is None or sub_pool in subnet.sub_pools):
            raise PoolOverlap(_OVERLAP, pool)

    def check_others(self, pool: IPNetwork) -> None:
        """:raises PoolOverlap: a different pool overlaps this one."""
        other = self._families[pool.version].overlapping(pool)
        if other is not None and other != pool:
            raise PoolOverlap(_OVERLAP, other)

    def add(self, stored: StoredPool) -> Pool:
        """Hold a pool that :meth:`check` allows."""
        subnet = self._families[stored.pool.version].hold(stored)
        pool = self.pools[stored.pool_id] = Pool(subnet, stored)
        return pool

    def remove(self, pool: Pool) -> None:
        """Give up a pool and what it holds."""
        pool.close()
        del self.pools[pool.stored.pool_id]
        self._families[pool.stored.pool.version].drop(pool.stored)


class _Family:
    """The held subnets of one family: by network, in order, and as runs of addresses."""

    def __init__(self) -> None:
        self.subnets: dict[IPNetwork, Subnet] = {}
        self.held = Runs()
        self._order: list[int] = []  # first addresses
        self._networks: list[IPNetwork] = []

    def overlapping(self, network: IPNetwork) -> IPNetwork | None:
        """A held network that overlaps this one: the highest, if there are several."""
        place = bisect_right(self._order, int(network.broadcast_address)) - 1
        if place >= 0 and self._networks[place].overlaps(network):
            return self._networks[place]
        return None

    def hold(self, stored: StoredPool) -> Subnet:
        """The subnet of a pool, new or shared."""
        network = stored.pool
        subnet = self.subnets.get(network)
        if subnet is None:
            subnet = self.subnets[network] = Subnet(network)
            first = int(network.network_address)
            place = bisect_left(self._order, first)
            self._order.insert(place, first)
            self._networks.insert(place, network)
            self.held.add(first, int(network.broadcast_address))
        subnet.sub_pools.append(stored.sub_pool)
        return subnet

    def drop(self, stored: StoredPool) -> None:
        """One pool less; the last one frees the network."""
        network = stored.pool
        subnet = self.subnets[network]
        subnet.sub_pools.remove(stored.sub_pool)
        if subnet.sub_pools:
            return
        del self.subnets[network]
        first = int(network.network_address)
        place = bisect_left(self._order, first)
        del self._order[place], self._networks[place]
        self.held.remove(first, int(network.broadcast_address))


def _lowest_free(
    bases: Iterable[tuple[IPNetwork, int]], blocked: Sequence[Runs]
) -> IPNetwork | None:
    for base, size in bases:
        step = 1 << (base.max_prefixlen - size)
        start, last = int(base.network_address), int(base.broadcast_address)
        while start <= last:
            ends = [runs.hit(start, start + step - 1) for runs in blocked]
            end = max((end for end in ends if end is not None), default=None)
            if end is None:
                return type(base)((start, size))
            start = (end // step + 1) * step  # the block after the run
    return None


def _routed(version: int, networks: Iterable[IPNetwork]) -> Runs:
    runs = Runs()
    for network in sorted(networks, key=lambda item: int(item.network_address)):
        if network.version == version:
            runs.add(int(network.network_address), int(network.broadcast_address))
    return runs


def _full(routed: IPNetwork | None) -> str:
    text = "all predefined address pools have been fully subnetted"
    if routed is None:
        return text
    return f"{text}: {routed} is not used by a network, but the host has a route into it"
