"""What an IPAM driver is. It follows libnetwork's remote IPAM protocol.

Register one with an entry point in the group ``cnm.ipam_drivers``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cnm.types import IPAddress, IPInterface, IPNetwork, PoolID

ENTRY_POINT_GROUP = "cnm.ipam_drivers"

REQUEST_ADDRESS_TYPE = "RequestAddressType"
GATEWAY_ADDRESS = "com.docker.network.gateway"
SERIAL_ALLOCATION = "com.docker.network.ipam.serial"


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """A wish for a pool.

    ``pool`` None: choose one from the defaults. A pool with a zero address
    (``0.0.0.0/24``, ``::/64``): choose one of that size. ``exclude``: what the host
    routes elsewhere; a chosen pool overlaps none of it. (Explicit pools are checked
    against the host's routes by the core, which can name the route.)
    """

    address_space: str
    pool: IPNetwork | None = None
    sub_pool: IPNetwork | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    v6: bool = False
    exclude: Sequence[IPNetwork] = ()


@dataclass(frozen=True, slots=True)
class AllocatedPool:
    """A pool that was granted. ``data`` may name the gateway (``com.docker.network.gateway``)."""

    pool_id: PoolID
    pool: IPNetwork
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """Use of a pool: addresses in use (reserved ones too) and still free for dynamic choice."""

    in_use: int
    free: int


@runtime_checkable
class IpamDriver(Protocol):
    """Pools and addresses."""

    @property
    def name(self) -> str: ...

    def default_address_spaces(self) -> tuple[str, str]:
        """Names of the local and of the global address space."""

    def request_pool(self, request: PoolRequest) -> AllocatedPool:
        """:raises Forbidden: it overlaps a pool of the same space.

        :raises InvalidParameter: malformed, or no default pool is free.
        """

    def release_pool(self, pool_id: PoolID) -> None:
        """Unknown ids are success."""

    def request_address(
        self,
        pool_id: PoolID,
        address: IPAddress | None = None,
        options: Mapping[str, str] | None = None,
    ) -> IPInterface:
        """The wanted address, or the lowest free one, with the pool's prefix.

        :raises Forbidden: the wanted address is taken (``Address already in use``).
        :raises InvalidParameter: it is outside, the network's or the broadcast address.
        :raises Unavailable: none is free (``no available IPv4 addresses on this network's
            address pools: …``).
        """

    def release_address(self, pool_id: PoolID, address: IPAddress) -> None:
        """An address that is not leased is success."""


@runtime_checkable
class PoolStatus(Protocol):
    """Optional: use of pools, for inspect and metrics."""

    def usage(self, pool_id: PoolID) -> PoolUsage: ...


@runtime_checkable
class LeaseAudit(Protocol):
    """Optional: lets the core compare leases with its records (crash repair)."""

    def pools(self, address_space: str) -> Mapping[PoolID, IPNetwork]:
        """All pools held in one address space."""

    def leases(self, pool_id: PoolID) -> Sequence[IPAddress]:
        """All leased addresses of one pool, lowest first."""

    def restore_pool(self, pool_id: PoolID, request: PoolRequest) -> None:
        """Take up a pool that the store knows and the allocator lost."""
