"""The IPAM driver ``dhcp``: addresses from the DHCP server of the LAN that a network is on.

Each endpoint is a client of its own, with its own MAC, heard on the network's parent. A network
without ``--subnet`` has the pool ``0.0.0.0/0``: the server says what the subnet is. With one, only
addresses of it are taken. Gateway, routes and name servers come with the lease (``Leasing``).

What is kept (``Notes``): pools, and for each endpoint its lease. A lease is written when it is
given and when it is renewed, so that the next daemon goes on with it. Addresses that the network
itself names (``--gateway``, ``--aux-address``) are noted only: they are somebody else's.

pyroute2's client was weighed and left; ``docs/decisions.md`` says why.
"""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_interface

from cnm import codec
from cnm.errors import Conflict, Forbidden, InvalidParameter, NotFound
from cnm.ipam.dhcpagent import Agent
from cnm.ipam.dhcpclient import Client, Identity, Lease
from cnm.ipamapi import (
    ENDPOINT_HOSTNAME,
    ENDPOINT_LINK,
    ENDPOINT_MAC,
    ENDPOINT_SHARES_MAC,
    AllocatedPool,
    IpamCapability,
    IpamContext,
    LeaseChange,
    LeasedFrom,
    PoolRequest,
)
from cnm.types import IPAddress, IPInterface, IPNetwork, PoolID

SPACE = "dhcp"
TIMEOUT = "timeout"  # --ipam-opt: seconds that a container waits for the server
# A server that pings an address before it offers it takes 3 s, and a lost message 2 s more.
TIMEOUT_S, LONGEST_TIMEOUT_S = 20, 300

_ANYWHERE = IPv4Network("0.0.0.0/0")
_HARDWARE_ID = b"\x01"  # type 1 of a client id: an Ethernet address (RFC 2132, 9.14)
_HOSTNAME_BYTES = 63  # one label (RFC 1035)
_POOL, _LEASE = "pool ", "lease "  # keys of notes


@dataclass(frozen=True, slots=True)
class _Pool:
    """A network's pool. ``fixed``: addresses that are named, not leased."""

    pool_id: PoolID
    pool: IPv4Network = _ANYWHERE
    timeout_s: int = TIMEOUT_S
    fixed: tuple[IPv4Address, ...] = ()


@dataclass(frozen=True, slots=True)
class _Binding:
    """An endpoint's lease. ``known``: what the core was told of it; ``wanted``: by the user."""

    pool_id: PoolID
    link: str
    shares_mac: bool
    identity: Identity
    lease: Lease
    known: Lease
    wanted: IPv4Address | None = None

    @property
    def key(self) -> str:
        return _key(self.pool_id, self.identity.mac)


def create(context: IpamContext) -> DhcpIpam:
    """The factory in the group ``cnm.ipam_drivers``."""
    return DhcpIpam(context)


class DhcpIpam:
    """``IpamDriver``, ``IpamCapable``, ``PoolChecker``, ``Leasing`` and ``LeaseAudit``.

    :raises StoreError: what was kept cannot be read.
    """

    def __init__(self, context: IpamContext) -> None:
        if context.notes is None:
            raise InvalidParameter("the dhcp IPAM driver needs a place for its leases")
        self._notes = context.notes(SPACE)
        self._mutex = threading.Lock()  # guards the two tables and the notes of them
        self._pools: dict[PoolID, _Pool] = {}
        self._bindings: dict[str, _Binding] = {}
        self._asking: set[str] = set()
        self._changed: Callable[[LeaseChange], None] | None = None
        self._agent = Agent(self._told)
        self._load()

    def _load(self) -> None:
        for key, text in self._notes.all().items():
            if key.startswith(_POOL):
                pool = codec.loads(_Pool, text)
                self._pools[pool.pool_id] = pool
            else:
                binding = codec.loads(_Binding, text)
                self._bindings[binding.key] = binding
        for key, binding in self._bindings.items():
            within = self._pools[binding.pool_id].pool
            client = Client(binding.identity, random.random, binding.lease, binding.wanted, within)
            self._agent.resume(key, client, binding.link, shares_mac=binding.shares_mac)

    @property
    def name(self) -> str:
        return SPACE

    @property
    def capability(self) -> IpamCapability:
        """A server tells clients apart by their MAC."""
        return IpamCapability(requires_mac=True)

    def default_address_spaces(self) -> tuple[str, str]:
        """One space for both scopes."""
        return SPACE, SPACE

    # pools

    def check_pool(self, request: PoolRequest) -> None:
        """See ``PoolChecker``: what ``request_pool`` would refuse."""
        _checked(request)
        _timeout(request.options)

    def request_pool(self, request: PoolRequest) -> AllocatedPool:
        """The wanted subnet, or ``0.0.0.0/0``: whatever the server gives.

        :raises InvalidParameter: IPv6, an ip-range, an unknown ``--ipam-opt``.
        """
        pool = _Pool(
            PoolID(f"{SPACE}/{secrets.token_hex(8)}"), _checked(request), _timeout(request.options)
        )
        with self._mutex:
            self._put(pool)
        return AllocatedPool(pool.pool_id, pool.pool)

    def release_pool(self, pool_id: PoolID) -> None:
        """Give back a pool and its leases. Unknown ids are success."""
        for binding in [*self._bindings.values()]:
            if binding.pool_id == pool_id:
                self._give_back(binding, decline=False)
        with self._mutex:
            self._notes.delete(f"{_POOL}{pool_id}")
            self._pools.pop(pool_id, None)

    def pools(self, address_space: str) -> Mapping[PoolID, IPNetwork]:
        """All pools."""
        return {pool_id: pool.pool for pool_id, pool in self._pools.items()}

    def leases(self, pool_id: PoolID) -> Sequence[IPAddress]:
        """All addresses of a pool that endpoints have or the network names, lowest first."""
        with self._mutex:
            pool = self._pool(pool_id)
            leased = [item.known.address.ip for item in self._bindings_of(pool_id)]
        return sorted({*leased, *pool.fixed})

    def restore_pool(self, pool_id: PoolID, request: PoolRequest) -> None:
        """Take up a pool that a network's record names and the notes have lost."""
        with self._mutex:
            if pool_id not in self._pools:
                self._put(_Pool(pool_id, _checked(request), _timeout(request.options)))

    def _put(self, pool: _Pool) -> None:
        self._notes.put(f"{_POOL}{pool.pool_id}", codec.dumps(pool))
        self._pools[pool.pool_id] = pool

    def _pool(self, pool_id: PoolID) -> _Pool:
        try:
            return self._pools[pool_id]
        except KeyError:
            raise NotFound(f"address pool {pool_id} not found") from None

    # addresses

    def request_address(
        self,
        pool_id: PoolID,
        address: IPAddress | None = None,
        options: Mapping[str, str] | None = None,
    ) -> IPInterface:
        """Lease an address for the MAC in the options; without one, note a named address.

        :raises Unavailable: no server answered in time, or it gives another than the wanted one.
        :raises Conflict: an endpoint of the same network has this MAC.
        :raises KernelError: the parent is down or gone.
        """
        mac = options.get(ENDPOINT_MAC) if options else None
        if options is None or mac is None:
            return self._fix(pool_id, address)
        if address is not None and not isinstance(address, IPv4Address):
            raise InvalidParameter(f"address {address}: the dhcp IPAM driver gives IPv4 only")
        return self._lease(pool_id, mac, address, options)

    def _fix(self, pool_id: PoolID, address: IPAddress | None) -> IPInterface:
        """An address that the network names: noted, not leased. None is needed of our own."""
        with self._mutex:
            pool = self._pool(pool_id)
            if not isinstance(address, IPv4Address):
                return ip_interface("0.0.0.0/0")
            if address not in pool.fixed:
                self._put(replace(pool, fixed=(*pool.fixed, address)))
            return IPv4Interface((address, pool.pool.prefixlen))

    def _lease(
        self, pool_id: PoolID, mac: str, wanted: IPv4Address | None, options: Mapping[str, str]
    ) -> IPInterface:
        link, key = options[ENDPOINT_LINK], _key(pool_id, mac)
        shares_mac = options.get(ENDPOINT_SHARES_MAC) == "true"
        identity = _identity(mac, options.get(ENDPOINT_HOSTNAME, ""))
        with self._mutex:
            pool = self._pool(pool_id)
            if key in self._bindings or key in self._asking:
                raise Conflict(f"MAC {mac} is in use on this network: choose another one")
            self._asking.add(key)
        try:
            client = Client(identity, random.random, wanted=wanted, within=pool.pool)
            lease = self._agent.acquire(
                key, client, link, shares_mac=shares_mac, timeout_s=pool.timeout_s
            )
            self._bind(_Binding(pool_id, link, shares_mac, identity, lease, lease, wanted))
        finally:
            with self._mutex:
                self._asking.discard(key)
        return lease.address

    def _bind(self, binding: _Binding) -> None:
        try:
            with self._mutex:
                held = {item.known.address.ip for item in self._bindings_of(binding.pool_id)}
                if binding.lease.address.ip in held | {*self._pool(binding.pool_id).fixed}:
                    raise Forbidden(
                        f"Address already in use: the DHCP server gives "
                        f"{binding.lease.address.ip}, which an endpoint of this network has"
                    )
                self._keep(binding)
        except BaseException:
            self._agent.end(binding.key)
            raise

    def _keep(self, binding: _Binding) -> None:
        self._notes.put(f"{_LEASE}{binding.key}", codec.dumps(binding))
        self._bindings[binding.key] = binding

    def release_address(self, pool_id: PoolID, address: IPAddress) -> None:
        """Tell the server. One that is not leased is success."""
        self._end(pool_id, address, decline=False)

    def decline_address(self, pool_id: PoolID, address: IPAddress) -> None:
        """Tell the server that somebody else has it: it will give another one."""
        self._end(pool_id, address, decline=True)

    def _end(self, pool_id: PoolID, address: IPAddress, *, decline: bool) -> None:
        with self._mutex:
            pool = self._pools.get(pool_id)
            if pool is not None and address in pool.fixed:
                left = tuple(item for item in pool.fixed if item != address)
                self._put(replace(pool, fixed=left))
            found = [
                item for item in self._bindings_of(pool_id) if item.known.address.ip == address
            ]
        for binding in found:
            self._give_back(binding, decline=decline)

    def _give_back(self, binding: _Binding, *, decline: bool) -> None:
        with self._mutex:
            self._notes.delete(f"{_LEASE}{binding.key}")
            self._bindings.pop(binding.key, None)
        self._agent.end(binding.key, decline=decline)

    def _bindings_of(self, pool_id: PoolID) -> list[_Binding]:
        return [item for item in self._bindings.values() if item.pool_id == pool_id]

    # leases in the course of time

    def begin(self, changed: Callable[[LeaseChange], None]) -> None:
        """Renew from now on; see ``Leasing``."""
        self._changed = changed
        self._agent.begin()

    def leased_from(self, pool_id: PoolID, address: IPAddress) -> LeasedFrom | None:
        """What came with an address."""
        with self._mutex:
            for item in self._bindings_of(pool_id):
                if item.known.address.ip == address:
                    return _facts(item.known)
        return None

    def close(self) -> None:
        """Leases stay. Again is fine."""
        self._agent.close()

    def _told(self, key: str, lease: Lease, expired: bool) -> None:
        """On the agent's second thread: a lease was renewed, has changed, or has ended."""
        with self._mutex:
            binding = self._bindings.get(key)
            if binding is None:
                return
            binding = replace(binding, lease=lease)
            self._keep(binding)
        known = binding.known
        change = LeaseChange(binding.pool_id, known.address.ip, _facts(known))
        if self._changed is None:
            return
        if expired:
            self._changed(change)
        elif (known.address, _facts(known)) != (lease.address, _facts(lease)):
            self._changed(replace(change, becomes=lease.address, leased_from=_facts(lease)))
        with self._mutex:
            current = self._bindings.get(key)
            if current is not None and current.lease == lease and not expired:
                self._keep(replace(current, known=lease))


def _key(pool_id: PoolID, mac: str) -> str:
    return f"{pool_id} {mac}"


def _identity(mac: str, hostname: str) -> Identity:
    """As most clients tell themselves: servers that fix addresses by MAC know them."""
    client_id = _HARDWARE_ID + bytes.fromhex(mac.replace(":", ""))
    return Identity(mac, client_id.hex(), hostname[:_HOSTNAME_BYTES])


def _facts(lease: Lease) -> LeasedFrom:
    return LeasedFrom(lease.server, lease.gateway, lease.routes, lease.dns_servers, lease.search)


def _checked(request: PoolRequest) -> IPv4Network:
    if request.address_space != SPACE:
        raise InvalidParameter(f"unknown address space: {request.address_space}")
    if request.v6 or request.pool is not None and not isinstance(request.pool, IPv4Network):
        raise InvalidParameter(
            "DHCPv6 is not supported: the dhcp IPAM driver gives IPv4 addresses only; leave --ipv6 "
            "out, or use another --ipam-driver"
        )
    if request.sub_pool is not None:
        raise InvalidParameter(
            f"ip-range {request.sub_pool}: with the dhcp IPAM driver the server chooses the range"
        )
    pool = request.pool or _ANYWHERE
    if pool.network_address.is_unspecified and pool.prefixlen:
        raise InvalidParameter(f"subnet {pool}: the dhcp IPAM driver chooses none of a size")
    return pool


def _timeout(options: Mapping[str, str]) -> int:
    for key in options.keys() - {TIMEOUT}:
        raise InvalidParameter(f"unknown option {key} of the dhcp IPAM driver: it has {TIMEOUT}")
    text = options.get(TIMEOUT, str(TIMEOUT_S))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= LONGEST_TIMEOUT_S:
        raise InvalidParameter(
            f'invalid value "{text}" for option {TIMEOUT}: must be from 1 to {LONGEST_TIMEOUT_S}'
        )
    return int(text)
