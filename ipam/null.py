"""The IPAM driver ``null``: for networks whose addresses come from elsewhere, or not at all.

One pool a family, the whole of it, held by any number of networks; no address is
ever leased, and nothing is kept. Its answer to every request is the unspecified
address: "none is needed".
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_interface

from cnm.errors import InvalidParameter, NotFound
from cnm.ipamapi import AllocatedPool, IpamContext, PoolRequest
from cnm.types import IPAddress, IPInterface, IPNetwork, PoolID

SPACE = "null"

_POOL_V4 = IPv4Network("0.0.0.0/0")
_POOL_V6 = IPv6Network("::/0")
_POOLS: Mapping[PoolID, IPNetwork] = {
    PoolID(f"{SPACE}/{pool}"): pool for pool in (_POOL_V4, _POOL_V6)
}


def create(_context: IpamContext) -> NullIpam:
    """The factory in the group ``cnm.ipam_drivers``."""
    return NullIpam()


class NullIpam:
    """Gives everybody the same pool, and nobody an address."""

    @property
    def name(self) -> str:
        return "null"

    def default_address_spaces(self) -> tuple[str, str]:
        """One space for both scopes."""
        return SPACE, SPACE

    def request_pool(self, request: PoolRequest) -> AllocatedPool:
        """``0.0.0.0/0`` or ``::/0``.

        :raises InvalidParameter: a subnet or ip-range is asked for.
        """
        if request.address_space != SPACE:
            raise InvalidParameter(f"unknown address space: {request.address_space}")
        pool: IPNetwork = _POOL_V6 if request.v6 else _POOL_V4
        if request.pool not in (None, pool):
            raise InvalidParameter(
                "null ipam driver does not handle specific address pool requests"
            )
        if request.sub_pool is not None:
            raise InvalidParameter(
                "null ipam driver does not handle specific address subpool requests"
            )
        return AllocatedPool(PoolID(f"{SPACE}/{pool}"), pool)

    def release_pool(self, pool_id: PoolID) -> None:
        """Nothing is held."""

    def request_address(
        self,
        pool_id: PoolID,
        address: IPAddress | None = None,
        options: Mapping[str, str] | None = None,
    ) -> IPInterface:
        """The unspecified address.

        :raises NotFound: the pool is not this driver's.
        :raises InvalidParameter: an address is asked for.
        """
        pool = _POOLS.get(pool_id)
        if pool is None:
            raise NotFound(f"address pool {pool_id} not found")
        if address is not None and not address.is_unspecified:
            raise InvalidParameter(
                f"address {address}: the null IPAM driver gives none; use another --ipam-driver"
            )
        return ip_interface(pool)

    def release_address(self, pool_id: PoolID, address: IPAddress) -> None:
        """Nothing is leased."""
