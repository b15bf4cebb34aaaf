"""Attributes of rtnetlink messages (rtnetlink(7)): number and type by name.

pyroute2's tables are the source. But its package imports all of itself, which costs a
process 6 MB and 0.13 s, and a daemon sends thirty attributes of a thousand. Those are here, and
tests compare them with the source; any other is looked up there when it is first sent.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# linux/if_link.h, if_addr.h, rtnetlink.h, veth.h
DAILY: Mapping[str, tuple[int, str]] = {
    "IFLA_ADDRESS": (1, "l2addr"),
    "IFLA_IFNAME": (3, "asciiz"),
    "IFLA_MTU": (4, "uint32"),
    "IFLA_LINK": (5, "uint32"),
    "IFLA_MASTER": (10, "uint32"),
    "IFLA_PROTINFO": (12, "protinfo"),
    "IFLA_LINKINFO": (18, "ifinfo"),
    "IFLA_IFALIAS": (20, "asciiz"),
    "IFLA_AF_SPEC": (26, "af_spec"),
    "IFLA_GROUP": (27, "uint32"),
    "IFLA_NET_NS_FD": (28, "netns_fd"),
    "IFLA_EXT_MASK": (29, "uint32"),
    "IFLA_INFO_KIND": (1, "asciiz"),
    "IFLA_INFO_DATA": (2, "info_data"),
    "IFLA_INFO_SLAVE_KIND": (4, "asciiz"),
    "IFLA_INFO_SLAVE_DATA": (5, "info_slave_data"),
    "IFLA_BR_FORWARD_DELAY": (1, "uint32"),
    "IFLA_BR_STP_STATE": (5, "uint32"),
    "IFLA_BR_VLAN_FILTERING": (7, "uint8"),
    "IFLA_BR_MCAST_SNOOPING": (23, "uint8"),
    "IFLA_BRIDGE_VLAN_INFO": (2, "vlan_info"),
    "IFLA_BRPORT_MODE": (4, "uint8"),
    "IFLA_BRPORT_GUARD": (5, "uint8"),
    "IFLA_VLAN_ID": (1, "uint16"),
    "VETH_INFO_PEER": (1, "info_peer"),
    "IFA_ADDRESS": (1, "ipaddr"),
    "IFA_LOCAL": (2, "ipaddr"),
    "IFA_BROADCAST": (4, "ipaddr"),
    "IFA_FLAGS": (8, "uint32"),
    "IFA_PROTO": (11, "uint8"),
    "RTA_DST": (1, "target"),
    "RTA_OIF": (4, "uint32"),
    "RTA_GATEWAY": (5, "target"),
    "RTA_PRIORITY": (6, "uint32"),
    "RTA_PREFSRC": (7, "target"),
}


def find(name: str) -> tuple[int, str]:
    """Number and pyroute2's name of the type. :raises KeyError: there is no such attribute."""
    return DAILY.get(name) or all_known()[name]


@functools.cache
def all_known() -> Mapping[str, tuple[int, str]]:
    """What pyroute2 knows of links, addresses and routes."""
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.ifinfmsg.plugins.vlan import vlan
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    info = ifinfmsg.ifinfo
    tables = (
        ifinfmsg,
        info,
        info.bridge_data,
        info.bridge_slave_data,
        info.veth_data,
        vlan,
        ifinfmsg.af_spec_bridge,
        ifaddrmsg,
        rtmsg,
    )
    return dict(numbered for table in tables for numbered in _numbered(table.nla_map))


def _numbered(table: Iterable[tuple[Any, ...]]) -> Iterator[tuple[str, tuple[int, str]]]:
    """A table numbers its attributes, or their order does."""
    for position, entry in enumerate(table):
        is_numbered = isinstance(entry[0], int)
        number, name, kind = entry[:3] if is_numbered else (position, *entry[:2])
        yield name, (number, kind)
