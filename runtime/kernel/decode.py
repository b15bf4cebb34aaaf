"""Links, addresses and routes as the kernel lists them.

Decoded by hand: pyroute2 takes 0.25 ms for a link because it decodes all of its sixty
attributes; a sweep over a thousand links would hold the interpreter for a quarter of
a second. We need ten of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
)
from socket import AF_INET, AF_INET6

from cnm.runtime.kernel import upper as uppers
from cnm.runtime.kernel.rtsocket import attributes, chosen
from cnm.runtime.kernel.upper import Upper
from cnm.types import IPAddress, IPInterface, IPNetwork

_IFF_UP = 0x1
# linux/if_link.h
_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINK = 5
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18
_IFLA_IFALIAS = 20
_IFLA_GROUP = 27
_IFLA_CARRIER = 33
_IFLA_INFO_KIND = 1
_IFLA_INFO_DATA = 2
_OF_LINKS = frozenset(
    {
        _IFLA_ADDRESS,
        _IFLA_IFNAME,
        _IFLA_MTU,
        _IFLA_LINK,
        _IFLA_MASTER,
        _IFLA_LINKINFO,
        _IFLA_IFALIAS,
        _IFLA_GROUP,
        _IFLA_CARRIER,
    }
)
_IFLA_VLAN_ID = 1
_OF_KINDS = frozenset({_IFLA_INFO_KIND, _IFLA_INFO_DATA})
_VLAN_ID = frozenset({_IFLA_VLAN_ID})
# linux/net_namespace.h
_NETNSA_NSID = 1
_NAMESPACE_NUMBER = frozenset({_NETNSA_NSID})
_GENERAL_HEADER_BYTES = 4  # rtgenmsg, padded
# linux/if_addr.h
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_PROTO = 11
# linux/rtnetlink.h
_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_PRIORITY = 6
_RTA_MULTIPATH = 9
_RTA_TABLE = 15
_RTN_UNICAST = 1
_RTM_F_CLONED = 0x200
_RTNH_F_ONLINK = 4
_LOCAL_TABLE = 255

_LINK_HEADER = struct.Struct("=BxHiII")  # ifinfomsg
_ADDRESS_HEADER = struct.Struct("=BBBBI")  # ifaddrmsg
_ROUTE_HEADER = struct.Struct("=BBBBBBBBI")  # rtmsg
_HOP_HEADER = struct.Struct("=HBBi")  # rtnexthop


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. ``master`` and ``peer_index`` (IFLA_LINK) are 0 where there is none.

    ``upper``: of a macvlan or ipvlan. ``vlan``: of an 802.1Q link; 0 if it is none.
    """

    index: int
    name: str
    kind: str  # bridge, veth, …; empty for physical ones and lo
    mac: str
    mtu: int
    up: bool  # set up by the administrator
    carrier: bool
    master: int
    alias: str
    group: int
    peer_index: int
    upper: Upper | None = None
    vlan: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """An address of the link with that index. ``protocol``: who made it; 0 if not said."""

    index: int
    interface: IPInterface
    protocol: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route; ``destination`` ``None`` is a default route (see ``family``)."""

    destination: IPNetwork | None
    gateway: IPAddress | None
    device_index: int
    protocol: int
    metric: int
    table: int
    on_link: bool
    family: int = AF_INET


def link(body: memoryview) -> Link:
    """Decode an RTM_NEWLINK."""
    _, _, index, flags, _ = _LINK_HEADER.unpack_from(body)
    found = chosen(body[_LINK_HEADER.size :], _OF_LINKS)
    kind, data = _info(found.get(_IFLA_LINKINFO))
    return Link(
        index=index,
        name=_text(found.get(_IFLA_IFNAME)),
        kind=kind,
        mac=bytes(found.get(_IFLA_ADDRESS, b"")).hex(":"),
        mtu=_number(found.get(_IFLA_MTU)),
        up=bool(flags & _IFF_UP),
        carrier=bool(found.get(_IFLA_CARRIER, b"\0")[0]),
        master=_number(found.get(_IFLA_MASTER)),
        alias=_text(found.get(_IFLA_IFALIAS)),
        group=_number(found.get(_IFLA_GROUP)),
        peer_index=_number(found.get(_IFLA_LINK)),
        upper=uppers.decode(kind, data) if kind in uppers.KINDS and data is not None else None,
        vlan=_vlan(data) if kind == "vlan" else 0,
    )


def namespace(body: memoryview) -> int:
    """The number in an RTM_NEWNSID."""
    return _number(chosen(body[_GENERAL_HEADER_BYTES:], _NAMESPACE_NUMBER)[_NETNSA_NSID])


def address(body: memoryview) -> Address | None:
    """Decode an RTM_NEWADDR; ``None`` for families other than IP."""
    family, prefix_length, _, _, index = _ADDRESS_HEADER.unpack_from(body)
    found = dict(attributes(body[_ADDRESS_HEADER.size :]))
    # On a point-to-point link IFA_ADDRESS is the other end's.
    raw = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
    if raw is None or family not in (AF_INET, AF_INET6):
        return None
    protocol = _number(found.get(_IFA_PROTO))
    if family == AF_INET:
        return Address(index, IPv4Interface((bytes(raw), prefix_length)), protocol)
    return Address(index, IPv6Interface((bytes(raw), prefix_length)), protocol)


def route(body: memoryview) -> Route | None:
    """Decode an RTM_NEWROUTE; ``None`` for what is not unicast, or in table ``local``."""
    family, length, _, _, short_table, protocol, _, kind, flags = _ROUTE_HEADER.unpack_from(body)
    if kind != _RTN_UNICAST or flags & _RTM_F_CLONED or family not in (AF_INET, AF_INET6):
        return None
    found = dict(attributes(body[_ROUTE_HEADER.size :]))
    table = _number(found.get(_RTA_TABLE)) or short_table
    if table == _LOCAL_TABLE:
        return None
    device_index = _number(found.get(_RTA_OIF))
    gateway = found.get(_RTA_GATEWAY)
    if _RTA_MULTIPATH in found:
        device_index, gateway = _first_hop(found[_RTA_MULTIPATH])
    return Route(
        destination=_network(family, found.get(_RTA_DST), length),
        gateway=None if gateway is None else ip_address(bytes(gateway)),
        device_index=device_index,
        protocol=protocol,
        metric=_number(found.get(_RTA_PRIORITY)),
        table=table,
        on_link=bool(flags & _RTNH_F_ONLINK),
        family=family,
    )


def _first_hop(hops: memoryview) -> tuple[int, memoryview | None]:
    """Device and gateway of the first of several next hops."""
    length, _, _, device_index = _HOP_HEADER.unpack_from(hops)
    found = dict(attributes(hops[_HOP_HEADER.size : length]))
    return device_index, found.get(_RTA_GATEWAY)


def _network(family: int, raw: memoryview | None, length: int) -> IPNetwork | None:
    if length == 0:
        return None
    if family == AF_INET:
        return IPv4Network((IPv4Address(bytes(raw or bytes(4))), length))
    return IPv6Network((IPv6Address(bytes(raw or bytes(16))), length))


def _info(raw: memoryview | None) -> tuple[str, memoryview | None]:
    """The kind of a link, and what only its kind knows."""
    found = chosen(raw, _OF_KINDS) if raw is not None else {}
    return _text(found.get(_IFLA_INFO_KIND)), found.get(_IFLA_INFO_DATA)


def _vlan(data: memoryview | None) -> int:
    return _number(chosen(data, _VLAN_ID).get(_IFLA_VLAN_ID)) if data is not None else 0


def _text(raw: memoryview | None) -> str:
    return bytes(raw).rstrip(b"\0").decode(errors="replace") if raw is not None else ""


def _number(raw: memoryview | None) -> int:
    return int.from_bytes(raw, "little" if _LITTLE else "big") if raw is not None else 0


_LITTLE = struct.pack("=H", 1) == b"\1\0"
