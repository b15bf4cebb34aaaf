"""What an IPAM driver is. It follows libnetwork's remote IPAM protocol.

Register one with an entry point in the group ``cnm.ipam_drivers`` whose value is a
factory: a callable that takes an :class:`IpamContext` and returns the driver.

The core asks one IPAM driver one thing at a time (it holds the address-space lock
around each call), so that a driver needs no locks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from typing import Protocol, runtime_checkable

from cnm.ability import Ability
from cnm.types import IPAddress, IPInterface, IPNetwork, PoolID, StaticRoute

ENTRY_POINT_GROUP = "cnm.ipam_drivers"

REQUEST_ADDRESS_TYPE = "RequestAddressType"
GATEWAY_ADDRESS = "com.docker.network.gateway"
SERIAL_ALLOCATION = "com.docker.network.ipam.serial"
# of request_address, for drivers that ask for them (IpamCapability.requires_mac)
ENDPOINT_MAC = "com.docker.network.endpoint.macaddress"  # as libnetwork passes it
ENDPOINT_LINK = "com.cnm.network.endpoint.link"  # the host's link that leads to the wire
ENDPOINT_SHARES_MAC = "com.cnm.network.endpoint.sharesmac"  # "true": frames carry the link's MAC
ENDPOINT_HOSTNAME = "com.cnm.network.endpoint.hostname"


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
class StoredPool:
    """A granted pool as a :class:`LeaseStore` keeps it."""

    pool_id: PoolID
    address_space: str
    pool: IPNetwork
    sub_pool: IPNetwork | None = None
    options: Mapping[str, str] = field(default_factory=dict)


class LeaseStore(Protocol):
    """Where an IPAM driver keeps pools and leases.

    Every write is committed when it returns, except inside :meth:`transaction`.
    A write that raises has changed nothing.

    :raises StoreError: from every method: the database is damaged, locked or full.
    """

    def pools(self) -> Sequence[StoredPool]:
        """All pools, oldest first."""

    def put_pool(self, pool: StoredPool) -> None:
        """Keep a pool, in the place of one with the same id."""

    def delete_pool(self, pool_id: PoolID) -> None:
        """Forget a pool and its leases. Unknown ids are success."""

    def leases(self, pool_id: PoolID) -> Iterable[IPAddress]:
        """The addresses leased from one pool, lowest first."""

    def add_leases(self, pool_id: PoolID, addresses: Iterable[IPAddress]) -> None:
        """Keep leases; those that are kept already stay."""

    def remove_leases(self, pool_id: PoolID, addresses: Iterable[IPAddress]) -> None:
        """Forget leases; unknown ones are success."""

    def transaction(self) -> AbstractContextManager[None]:
        """Group writes into one commit. An exception, of the commit too, takes all of them back."""


@dataclass(frozen=True, slots=True)
class IpamContext:
    """What an IPAM driver's factory is given.

    ``notes``: where a driver keeps what no table of pools and leases holds, by its own name.
    ``local_pools`` and ``global_pools``: (base, prefix length) pairs that pools are
    chosen from, by ``--default-address-pool``; a family that none names has Docker's.
    ``ula_prefix``: the unique-local /48 of this daemon (RFC 4193), for IPv6 pools.
    """

    store: LeaseStore
    ula_prefix: IPv6Network
    local_pools: Sequence[tuple[IPNetwork, int]] = ()
    global_pools: Sequence[tuple[IPNetwork, int]] = ()
    notes: Callable[[str], Notes] | None = None


class Notes(Protocol):
    """Texts that outlive the daemon, by key. Each write is committed when it returns.

    :raises StoreError: from every method: the database is damaged, locked or full.
    """

    def all(self) -> Mapping[str, str]: ...

    def put(self, key: str, text: str) -> None: ...

    def delete(self, key: str) -> None:
        """Unknown keys are success."""


@dataclass(frozen=True, slots=True)
class IpamCapability:
    """What an IPAM driver says of itself; names as in libnetwork's GetCapabilities."""

    requires_mac: bool = False  # request_address is told the endpoint's MAC, made up if need be


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
        """:raises PoolOverlap: it overlaps a pool of the same space (named by ``pool``).

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

        An unspecified one (``0.0.0.0/0``, ``::/0``) means that none is needed: the
        endpoint gets its address elsewhere, or has none.

        :raises NotFound: there is no such pool.
        :raises Forbidden: the wanted address is taken (``Address already in use``).
        :raises InvalidParameter: it is outside, the network's or the broadcast address.
        :raises Unavailable: none is free (``no available IPv4 addresses on this network's
            address pools: …``).
        """

    def release_address(self, pool_id: PoolID, address: IPAddress) -> None:
        """An address that is not leased is success."""


@runtime_checkable
class PoolStatus(Protocol, metaclass=Ability):
    """Optional: use of pools, for inspect and metrics."""

    def usage(self, pool_id: PoolID) -> PoolUsage: ...


@runtime_checkable
class LeaseAudit(Protocol, metaclass=Ability):
    """Optional: lets the core compare leases with its records (crash repair)."""

    def pools(self, address_space: str) -> Mapping[PoolID, IPNetwork]:
        """All pools held in one address space."""

    def leases(self, pool_id: PoolID) -> Sequence[IPAddress]:
        """All leased addresses of one pool, lowest first."""

    def restore_pool(self, pool_id: PoolID, request: PoolRequest) -> None:
        """Take up a pool that the store knows and the allocator lost."""


@runtime_checkable
class PoolChecker(Protocol, metaclass=Ability):
    """Optional: tells before anything is made what it would refuse."""

    def check_pool(self, request: PoolRequest) -> None:
        """:raises CNMError: as ``request_pool``, as far as the request alone decides."""


@runtime_checkable
class PresenceChecker(Protocol, metaclass=Ability):
    """Optional: a driver that may not be there (it runs in somebody else's process)."""

    def check_present(self) -> None:
        """:raises InvalidParameter: with Docker's text. :raises CNMError: it does not answer."""


@runtime_checkable
class Transactional(Protocol, metaclass=Ability):
    """Optional: many calls, one commit."""

    def transaction(self) -> AbstractContextManager[None]:
        """Group calls. If the block or its commit fails, all that they did is taken back.

        Hold the address-space lock for the whole block. Grouping with the store's own
        transaction instead would leave the driver with leases that were rolled back.
        """


@runtime_checkable
class IpamCapable(Protocol, metaclass=Ability):
    """Optional: an IPAM driver that wants more than the plain protocol gives."""

    @property
    def capability(self) -> IpamCapability: ...


@dataclass(frozen=True, slots=True)
class LeasedFrom:
    """What came with an address from a server outside."""

    server: IPAddress
    gateway: IPAddress | None = None
    routes: tuple[StaticRoute, ...] = ()
    dns_servers: tuple[IPAddress, ...] = ()
    search: tuple[str, ...] = ()  # domains


@dataclass(frozen=True, slots=True)
class LeaseChange:
    """A lease that is not what it was.

    ``address`` and ``was`` are what the endpoint has. ``becomes``: what it has to have from now on,
    with what came with it. None: no server was heard in time; the endpoint keeps the address
    (docs/lan-addresses.md).
    """

    pool_id: PoolID
    address: IPAddress
    was: LeasedFrom
    becomes: IPInterface | None = None
    leased_from: LeasedFrom | None = None


@runtime_checkable
class Leasing(Protocol, metaclass=Ability):
    """Optional: addresses come from a server outside, for a time; the driver renews them.

    Needs no address-space lock: a server may take seconds to answer, and one wire need not wait
    for another. So it serialises its own callers.
    """

    def begin(self, changed: Callable[[LeaseChange], None]) -> None:
        """Renew from now on. ``changed`` is called on a thread of the driver's own.

        A change that could not be carried out (it raises) is told again later.
        """

    def leased_from(self, pool_id: PoolID, address: IPAddress) -> LeasedFrom | None:
        """What came with an address; None: it is not leased here."""

    def decline_address(self, pool_id: PoolID, address: IPAddress) -> None:
        """Give an address back that somebody on the wire has already."""

    def close(self) -> None:
        """The daemon stops: leases stay, and are renewed by the next one."""
