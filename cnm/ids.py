"""Ids and addresses: what they are made of, and no more, for processes that must stay small.

:mod:`cnm.types` has them too, and everything that is described by them.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import NewType

NetworkID = NewType("NetworkID", str)  # 64 hex digits
EndpointID = NewType("EndpointID", str)  # 64 hex digits
SandboxID = NewType("SandboxID", str)  # 64 hex digits: the container's id
SandboxKey = NewType("SandboxKey", str)  # path of the network namespace
PoolID = NewType("PoolID", str)  # opaque, the IPAM driver's

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
IPInterface = IPv4Interface | IPv6Interface


@lru_cache(maxsize=256)
def address_text(address: IPAddress) -> str:
    """Fifty ports have the same few addresses, and writing one takes 5 µs."""
    return str(address)
