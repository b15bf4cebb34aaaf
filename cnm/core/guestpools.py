"""Pools and addresses that engines ask of our IPAM drivers, through the plugin.

They come out of the same spaces as those of our own networks, so that the two never
overlap; for engines the spaces have names of their own (``cnm-LocalDefault``), by which a
network is known that uses our IPAM. Who asked for a pool is kept; addresses are the IPAM
driver's leases, and whose they are is seen from the endpoints of engines' networks.

What an engine forgot (it was killed in between) is found where that can be told for
sure: on networks of our drivers each address belongs to a gateway, an auxiliary
address or an endpoint, so any other goes after a minute. With drivers of the
engine's own nobody tells us what is in use: those addresses stay until the pool is released.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from cnm.core import subnets
from cnm.core.guestrecords import GuestRecords
from cnm.core.locks import Locks
from cnm.core.registry import Registry
from cnm.errors import Forbidden, InvalidParameter, NotFound
from cnm.guestapi import GuestPool
from cnm.hostapi import HostRoutes
from cnm.ipamapi import (
    GATEWAY_ADDRESS,
    REQUEST_ADDRESS_TYPE,
    AllocatedPool,
    IpamDriver,
    LeaseAudit,
    PoolRequest,
)
from cnm.types import EndpointInterface, IPAddress, IpamPool, IPInterface, PoolID, Repair
from cnm.undo import Undo

log = logging.getLogger(__name__)

SPACE_PREFIX = "cnm-"
# Between the request of an address and the endpoint that has it an engine does little, and
# it repeats a call that was cut off for 30 s at most.
FORGOTTEN_AFTER_S = 60.0


class GuestPools:
    """The IPAM half of what engines ask."""

    def __init__(
        self,
        records: GuestRecords,
        registry: Registry,
        locks: Locks,
        host_routes: HostRoutes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records = records
        self._registry = registry
        self._locks = locks
        self._host_routes = host_routes
        self._clock = clock
        # when a pool (None) or an address was granted in this life
        self._since: dict[tuple[PoolID, IPAddress | None], float] = {}
        # when an address of an earlier life was first found without an owner
        self._found: dict[tuple[PoolID, IPAddress], float] = {}

    def address_spaces(self, ipam_name: str) -> tuple[str, str]:
        """What engines call the local and the global space."""
        local, everywhere = self._registry.ipam(ipam_name).default_address_spaces()
        return f"{SPACE_PREFIX}{local}", f"{SPACE_PREFIX}{everywhere}"

    # pools

    def request_pool(self, ipam_name: str, request: PoolRequest) -> AllocatedPool:
        """As :meth:`IpamDriver.request_pool`; asked again for the same before it is used, the same.

        :raises InvalidParameter: :raises PoolOverlap:
        """
        if not request.address_space.startswith(SPACE_PREFIX):
            raise InvalidParameter(f"unknown address space: {request.address_space}")
        space = request.address_space.removeprefix(SPACE_PREFIX)
        request = replace(request, address_space=space)
        ipam = self._registry.ipam(ipam_name)
        with self._locks.space(ipam_name), Undo() as undo:
            if request.pool is not None and not subnets.is_size_only(request.pool):
                again = self._unused(ipam_name, request)
                if again is not None:
                    return AllocatedPool(again.id, again.pool)
                granted = ipam.request_pool(request)
            else:
                granted = self._choose(ipam_name, ipam, replace(request, exclude=self._routed()))
            undo.push(ipam.release_pool, granted.pool_id)
            record = GuestPool(granted.pool_id, ipam_name, space, granted.pool, request.sub_pool)
            self._records.write(put=[record])
            self._since[granted.pool_id, None] = self._clock()
        return granted

    def _unused(self, ipam_name: str, request: PoolRequest) -> GuestPool | None:
        """The same pool, granted to a call whose network was never made."""
        for pool in self._records.pools():
            place = (pool.ipam, pool.address_space, pool.pool, pool.sub_pool)
            wanted = (ipam_name, request.address_space, request.pool, request.sub_pool)
            if place == wanted and self._is_unused(pool):
                return pool
        return None

    def _is_unused(self, pool: GuestPool) -> bool:
        routes = self._host_routes.routes()
        return not (
            pool.used
            or self._claims(pool)
            or any(subnets.overlaps_route(pool.pool, route) for route in routes)
        )

    def _choose(self, ipam_name: str, ipam: IpamDriver, request: PoolRequest) -> AllocatedPool:
        try:
            return ipam.request_pool(request)
        except InvalidParameter:
            forgotten = [
                pool
                for pool in self._records.pools()
                if pool.ipam == ipam_name and self._is_unused(pool) and self._is_old(pool.id, None)
            ]
            if not forgotten:
                raise
        for pool in forgotten:
            log.warning("pool %s: released: no network was made of it", pool.pool)
            self._release(ipam, pool)
        return ipam.request_pool(request)

    def _routed(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        found = (route.destination for route in self._host_routes.routes())
        return tuple(destination for destination in found if destination.prefixlen > 1)

    def release_pool(self, ipam_name: str, pool_id: PoolID) -> None:
        """Unknown ids, and pools that no engine holds, are success."""
        with self._locks.space(ipam_name):
            pool = self._records.pool(pool_id)
            if pool is not None and pool.ipam == ipam_name:
                self._release(self._registry.ipam(ipam_name), pool)

    def _release(self, ipam: IpamDriver, pool: GuestPool) -> None:
        # the record first: what is left of a pool without one goes at the next start
        self._records.write(remove=[pool])
        ipam.release_pool(pool.id)
        self._since = {key: since for key, since in self._since.items() if key[0] != pool.id}
        self._found = {key: since for key, since in self._found.items() if key[0] != pool.id}

    # addresses

    def request_address(
        self,
        ipam_name: str,
        pool_id: PoolID,
        address: IPAddress | None,
        options: Mapping[str, str],
    ) -> IPInterface:
        """As :meth:`IpamDriver.request_address`; one that was granted and forgotten, again.

        :raises NotFound: :raises Forbidden: :raises InvalidParameter: :raises Unavailable:
        """
        ipam = self._registry.ipam(ipam_name)
        gateway = options.get(REQUEST_ADDRESS_TYPE) == GATEWAY_ADDRESS
        with self._locks.space(ipam_name):
            pool = self._records.pool(pool_id)
            if pool is None or pool.ipam != ipam_name:
                raise NotFound(f"address pool {pool_id} not found")
            try:
                found = ipam.request_address(pool_id, address, options)
            except Forbidden:
                if address is None or not self._may_have_again(pool, address, gateway=gateway):
                    raise
                found = ipaddress.ip_interface(f"{address}/{pool.pool.prefixlen}")
            self._since[pool_id, found.ip] = self._clock()
            self._found.pop((pool_id, found.ip), None)
            if not gateway and not pool.used:
                self._records.write(put=[replace(pool, used=True)])
        return found

    def _may_have_again(self, pool: GuestPool, address: IPAddress, *, gateway: bool) -> bool:
        """Whether a taken address is taken by a call that came to nothing."""
        claims = self._claims(pool)
        if not claims:
            return gateway and not pool.used
        return address not in self._claimed(claims) and self._is_old(pool.id, address)

    def release_address(self, ipam_name: str, pool_id: PoolID, address: IPAddress) -> None:
        """Unknown ones are success, and one that an endpoint has by now: it was not meant."""
        with self._locks.space(ipam_name):
            pool = self._records.pool(pool_id)
            if pool is None or pool.ipam != ipam_name:
                return
            if address in self._of_endpoints(self._claims(pool)):
                log.info("%s is kept: an endpoint has it; its release comes late", address)
                return
            self._release_address(self._registry.ipam(ipam_name), pool_id, address)

    def _release_address(self, ipam: IpamDriver, pool_id: PoolID, address: IPAddress) -> None:
        ipam.release_address(pool_id, address)
        self._since.pop((pool_id, address), None)
        self._found.pop((pool_id, address), None)

    # whose is what

    def ids(self, ipam_name: str) -> set[PoolID]:
        """Pools that engines hold: for the audit of leases."""
        return {pool.id for pool in self._records.pools() if pool.ipam == ipam_name}

    def _claims(self, pool: GuestPool) -> list[tuple[IpamPool, Collection[EndpointInterface]]]:
        """What networks of our drivers say of a pool, with the interfaces of their endpoints."""
        return [
            (item, [endpoint.interface for endpoint in self._records.endpoints_of(network.id)])
            for network in self._records.networks()
            for item in (*network.spec.ipv4, *network.spec.ipv6)
            if item.pool == pool.pool
            and item.address_space == f"{SPACE_PREFIX}{pool.address_space}"
        ]

    def _of_endpoints(
        self, claims: Iterable[tuple[IpamPool, Collection[EndpointInterface]]]
    ) -> set[IPAddress]:
        return {
            address.ip
            for _, interfaces in claims
            for interface in interfaces
            for address in (interface.address, interface.address_ipv6)
            if address is not None
        }

    def _claimed(
        self, claims: Collection[tuple[IpamPool, Collection[EndpointInterface]]]
    ) -> set[IPAddress]:
        reserved = [
            interface.ip
            for pool, _ in claims
            for interface in (pool.gateway, *pool.aux_addresses.values())
            if interface is not None
        ]
        return {*reserved, *self._of_endpoints(claims)}

    def _is_old(self, pool_id: PoolID, address: IPAddress | None) -> bool:
        """Whether it was granted long ago, or in an earlier life of ours."""
        since = self._since.get((pool_id, address))
        return since is None or self._clock() - since > FORGOTTEN_AFTER_S

    def sweep(self) -> list[Repair]:
        """Release addresses that an engine was given and has forgotten."""
        repairs: list[Repair] = []
        for pool in self._records.pools():
            ipam = self._registry.ipam(pool.ipam)
            if isinstance(ipam, LeaseAudit):
                with self._locks.space(pool.ipam):
                    repairs += self._sweep(ipam, pool)
        return repairs

    def _sweep(self, audit: LeaseAudit, pool: GuestPool) -> list[Repair]:
        claims = self._claims(pool)
        if self._records.pool(pool.id) is None or not claims:
            return []
        repairs = []
        now = self._clock()
        for address in set(audit.leases(pool.id)) - self._claimed(claims):
            key = pool.id, address
            since = self._since.get(key) or self._found.setdefault(key, now)
            if now - since > FORGOTTEN_AFTER_S:
                self._release_address(self._registry.ipam(pool.ipam), *key)
                repairs.append(Repair("lease", str(address), "released: an engine forgot it"))
        return repairs

    def release(self, addresses: Iterable[IPInterface | None]) -> None:
        """Give back what an endpoint had whose engine never will: it died with its container."""
        wanted = {item.ip for item in addresses if item is not None}
        for pool in self._records.pools():
            with self._locks.space(pool.ipam):
                held = self._of_endpoints(self._claims(pool))
                for address in wanted - held:
                    if address in pool.pool and self._records.pool(pool.id) is not None:
                        ipam = self._registry.ipam(pool.ipam)
                        self._release_address(ipam, pool.id, address)
