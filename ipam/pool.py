"""One pool: which addresses of a subnet are leased, and which is next. No I/O.

A :class:`Subnet` keeps the addresses in use; a :class:`Pool` is one grant of it,
perhaps with a sub-pool. Several pools with different sub-pools may share a subnet:
then no address is handed out twice, and each pool gives back only what is its own.

Choosing and taking are two steps (:meth:`Pool.choose`, then :meth:`Pool.take`), so
that the lease can be written down between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from cnm.errors import Forbidden, InvalidParameter, Unavailable
from cnm.ipam.runs import Runs
from cnm.ipamapi import PoolUsage, StoredPool
from cnm.types import IPAddress, IPInterface, IPNetwork


class Subnet:
    """The addresses of one network, shared by the pools that were granted of it.

    ``first`` and ``last`` bound what may be handed out: without network and broadcast
    address in IPv4 (RFC 3021: a /31 has neither), without the subnet-router anycast
    address in IPv6 (RFC 4291, 2.6.1; RFC 6164: a /127 has none).
    """

    def __init__(self, network: IPNetwork) -> None:
        self.network = network
        self.first = int(network.network_address)
        self.last = int(network.broadcast_address)
        self.taken = Runs()
        self.sub_pools: list[IPNetwork | None] = []  # of the pools that share it
        if network.prefixlen < network.max_prefixlen - 1:
            self.first += 1
            self.last -= network.version == 4

    def check(self, address: IPAddress) -> None:
        """:raises InvalidParameter: outside, or not an endpoint's. :raises Forbidden: in use."""
        if address not in self.network:
            raise InvalidParameter(f"address {address} is not in pool {self.network}")
        number = int(address)
        if not self.first <= number <= self.last:
            kind = "broadcast" if number > self.last else "network"
            if self.network.version == 6:
                kind = "subnet-router anycast"
            raise InvalidParameter(f"address {address} is the {kind} address of {self.network}")
        if number in self.taken:
            raise Forbidden("Address already in use")

    def address(self, number: int) -> IPAddress:
        """The address with this number."""
        return IPv4Address(number) if self.network.version == 4 else IPv6Address(number)

    def interface(self, address: IPAddress) -> IPInterface:
        """The address with the network's prefix length."""
        size = self.network.prefixlen
        if isinstance(address, IPv4Address):
            return IPv4Interface((int(address), size))
        return IPv6Interface((int(address), size))


class Pool:
    """One grant of a subnet. Dynamic choice keeps to the sub-pool, if there is one."""

    def __init__(self, subnet: Subnet, stored: StoredPool) -> None:
        self.subnet = subnet
        self.stored = stored
        self._own = Runs()
        self._low, self._high = subnet.first, subnet.last
        if stored.sub_pool is not None:
            # the sub-pool's own network and broadcast addresses are ordinary
            self._low = max(self._low, int(stored.sub_pool.network_address))
            self._high = min(self._high, int(stored.sub_pool.broadcast_address))
        self._next = self._low  # where a serial search starts

    def choose(self, *, serial: bool = False) -> IPAddress:
        """The lowest free address; ``serial``: the next free one after the last chosen.

        :raises Unavailable: there is none.
        """
        taken, number = self.subnet.taken, None
        if serial:
            number = taken.gap(self._next, self._high)
        if number is None:
            number = taken.gap(self._low, self._high)
        if number is None:
            raise Unavailable(self._exhausted())
        return self.subnet.address(number)

    def take(self, address: IPAddress, *, chosen: bool = False) -> None:
        """Put an address in use. ``chosen``: a serial search goes on from it."""
        number = int(address)
        self.subnet.taken.add(number, number)
        self._own.add(number, number)
        if chosen:
            self._next = number + 1

    def give_back(self, address: IPAddress) -> None:
        """Free an address that this pool holds."""
        number = int(address)
        self._own.remove(number, number)
        self.subnet.taken.remove(number, number)

    def holds(self, address: IPAddress) -> bool:
        """Whether the address was leased from this pool."""
        return address.version == self.subnet.network.version and int(address) in self._own

    def leases(self) -> Iterator[IPAddress]:
        """What this pool holds, lowest first."""
        return map(self.subnet.address, self._own)

    def restore(self, leases: Iterator[IPAddress]) -> None:
        """Take up leases that were written down.

        The place of a serial search is not written down with each lease; it goes on
        after the highest one.
        """
        for address in leases:
            self.take(address)
        highest = self._own.hit(self._low, self._high)
        self._next = self._low if highest is None else highest + 1

    def close(self) -> None:
        """Free all that this pool holds."""
        for first, last in self._own.spans():
            self.subnet.taken.remove(first, last)
        self._own = Runs()

    def usage(self) -> PoolUsage:
        """Use of the whole subnet, reserved addresses included; free ones of the sub-pool."""
        subnet = self.subnet
        reserved = subnet.network.num_addresses - (subnet.last - subnet.first + 1)
        room = max(0, self._high - self._low + 1)
        return PoolUsage(
            in_use=subnet.taken.size + reserved,
            free=room - subnet.taken.count(self._low, self._high),
        )

    def _exhausted(self) -> str:
        network, sub_pool = self.stored.pool, self.stored.sub_pool
        where = f"{network}" if sub_pool is None else f"{sub_pool} of {network}"
        return (
            f"no available IPv{network.version} addresses on this network's address pools: {where}"
        )
