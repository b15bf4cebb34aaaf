"""The rtnetlink messages that we send, as bytes ready for the socket."""

from __future__ import annotations

import socket
from typing import Final

from cnm.runtime.kernel import encode
from cnm.runtime.kernel.encode import Attributes
from cnm.runtime.kernel.rtsocket import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
)
from cnm.types import IPAddress, IPInterface, IPNetwork

# linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_GETNSID = 90
IFF_UP = 0x1  # linux/if.h
IFA_F_NODAD = 0x2  # linux/if_addr.h
BRIDGE_VLAN_INFO_PVID, BRIDGE_VLAN_INFO_UNTAGGED = 0x2, 0x4  # linux/if_bridge.h
OUR_PROTOCOL: Final = 0xC4  # rtm_protocol of every route of ours; not in iproute2's rt_protos
MAIN_TABLE: Final = 254
_AF_BRIDGE: Final = 7  # linux/socket.h
_UNICAST: Final = 1  # RTN_UNICAST
_SCOPE_LINK: Final = 253
_SCOPE_NOWHERE: Final = 255  # in a deletion: any scope
_ONLINK: Final = 4  # RTNH_F_ONLINK
_FIB_MATCH: Final = 0x2000  # RTM_F_FIB_MATCH: answer with the route that was found
_SKIP_STATISTICS: Final = 1 << 3  # RTEXT_FILTER_SKIP_STATS: a third of the bytes
_ANY_PROTOCOL: Final = 0
_ADD = NLM_F_CREATE | NLM_F_EXCL


def link_target(link: int | str) -> tuple[int, Attributes]:
    """How a link message names its link: by index, or by name."""
    return (link, []) if isinstance(link, int) else (0, [("IFLA_IFNAME", link)])


def new_link(kind: str, attrs: Attributes, data: Attributes, *, up: bool) -> bytes:
    """RTM_NEWLINK that makes a link and fails when the name is taken."""
    info: Attributes = [("IFLA_INFO_KIND", kind)]
    if data:
        info.append(("IFLA_INFO_DATA", data))
    flag = IFF_UP if up else 0
    attrs = [*attrs, ("IFLA_LINKINFO", info)]
    return encode.link(RTM_NEWLINK, NLM_F_ACK | _ADD, attrs, up=flag, change=flag)


def set_link(index: int, attrs: Attributes, up: bool | None) -> bytes:
    """RTM_SETLINK; with index 0 the attribute IFLA_IFNAME says which link."""
    change = 0 if up is None else IFF_UP
    flag = IFF_UP if up else 0
    return encode.link(RTM_SETLINK, NLM_F_ACK, attrs, index=index, up=flag, change=change)


def change_link(index: int, kind: str, data: Attributes) -> bytes:
    """RTM_NEWLINK of a link that is there: what only its kind knows (RTM_SETLINK leaves it)."""
    info: Attributes = [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", data)]
    return encode.link(RTM_NEWLINK, NLM_F_ACK, [("IFLA_LINKINFO", info)], index=index)


def add_port_vlan(index: int, vlan: int, *, untagged: bool) -> bytes:
    """A VLAN that may pass a bridge's port; ``untagged``: its frames have no tag there."""
    flags = BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED if untagged else 0
    info: Attributes = [("IFLA_BRIDGE_VLAN_INFO", (flags, vlan))]
    attrs: Attributes = [("IFLA_AF_SPEC", info)]
    return encode.link(RTM_SETLINK, NLM_F_ACK, attrs, index=index, family=_AF_BRIDGE)


def delete_port_vlan(index: int, vlan: int) -> bytes:
    """A VLAN passes a bridge's port no longer."""
    attrs: Attributes = [("IFLA_AF_SPEC", [("IFLA_BRIDGE_VLAN_INFO", (0, vlan))])]
    return encode.link(RTM_DELLINK, NLM_F_ACK, attrs, index=index, family=_AF_BRIDGE)


def set_port_hairpin(index: int, *, on: bool) -> bytes:
    """Whether a frame may leave a bridge by the port that it came in by."""
    attrs: Attributes = [("IFLA_PROTINFO", [("IFLA_BRPORT_MODE", int(on))])]
    return encode.link(RTM_SETLINK, NLM_F_ACK, attrs, index=index, family=_AF_BRIDGE)


def delete_link(link: int | str) -> bytes:
    """RTM_DELLINK of one link."""
    index, attrs = link_target(link)
    return encode.link(RTM_DELLINK, NLM_F_ACK, attrs, index=index)


def delete_link_group(group: int) -> bytes:
    """All links of a group in one operation, and so one wait for RCU."""
    return encode.link(RTM_DELLINK, NLM_F_ACK, [("IFLA_GROUP", group)])


def get_link(link: int | str) -> bytes:
    """RTM_GETLINK of one link, without its statistics."""
    index, attrs = link_target(link)
    attrs.append(("IFLA_EXT_MASK", _SKIP_STATISTICS))
    return encode.link(RTM_GETLINK, 0, attrs, index=index)


def dump_links(kind: str | None, master: int | None, namespace: int | None = None) -> bytes:
    """RTM_GETLINK of all links, or of a kind, or of the ports of a master.

    ``namespace``: the number by which ours knows another one (Linux 5.0).
    """
    attrs: Attributes = [("IFLA_EXT_MASK", _SKIP_STATISTICS)]
    if namespace is not None:
        attrs.append(("IFLA_TARGET_NETNSID", namespace))
    if kind is not None:
        attrs.append(("IFLA_LINKINFO", [("IFLA_INFO_KIND", kind)]))
    if master is not None:
        attrs.append(("IFLA_MASTER", master))
    return encode.link(RTM_GETLINK, NLM_F_DUMP, attrs)


def dump_namespaces() -> bytes:
    """RTM_GETNSID: the numbers by which our namespace knows others."""
    return encode.bare(RTM_GETNSID, NLM_F_DUMP)


def _address(kind: int, flags: int, index: int, interface: IPInterface, attrs: Attributes) -> bytes:
    # link scope: else the kernel would use a link-local address as a source to anywhere
    scope = _SCOPE_LINK if interface.version == 4 and interface.ip.is_link_local else 0
    return encode.address(
        kind,
        flags,
        [("IFA_LOCAL", interface.ip), ("IFA_ADDRESS", interface.ip), *attrs],
        family=_family(interface),
        prefix_length=interface.network.prefixlen,
        scope=scope,
        index=index,
    )


def new_address(
    index: int, interface: IPInterface, *, nodad: bool, broadcast: bool, protocol: int = 0
) -> bytes:
    """RTM_NEWADDR. ``nodad``: IPv6 without duplicate address detection (RFC 4862, 5.4)."""
    attrs: Attributes = [("IFA_PROTO", protocol)] if protocol else []
    if nodad and interface.version == 6:
        attrs.append(("IFA_FLAGS", IFA_F_NODAD))
    if broadcast and interface.version == 4:
        attrs.append(("IFA_BROADCAST", interface.network.broadcast_address))
    return _address(RTM_NEWADDR, NLM_F_ACK | _ADD, index, interface, attrs)


def delete_address(index: int, interface: IPInterface) -> bytes:
    """RTM_DELADDR."""
    return _address(RTM_DELADDR, NLM_F_ACK, index, interface, [])


def dump_addresses(index: int) -> bytes:
    """RTM_GETADDR of one link, or of all with index 0."""
    return encode.address(RTM_GETADDR, NLM_F_DUMP, [], index=index)


def _route_attributes(
    destination: IPNetwork | None,
    gateway: IPAddress | None,
    device_index: int,
    metric: int | None,
) -> Attributes:
    attrs: Attributes = []
    if destination is not None:
        attrs.append(("RTA_DST", destination.network_address))
    if gateway is not None:
        attrs.append(("RTA_GATEWAY", gateway))
    if device_index:
        attrs.append(("RTA_OIF", device_index))
    if metric is not None:
        attrs.append(("RTA_PRIORITY", metric))
    return attrs


def new_route(
    destination: IPNetwork | None,
    gateway: IPAddress | None,
    device_index: int,
    *,
    family: int,
    protocol: int,
    on_link: bool,
    replace: bool,
    metric: int | None,
    source: IPAddress | None = None,
) -> bytes:
    """RTM_NEWROUTE into the main table."""
    attrs = _route_attributes(destination, gateway, device_index, metric)
    if source is not None:
        attrs.append(("RTA_PREFSRC", source))
    return encode.route(
        RTM_NEWROUTE,
        NLM_F_ACK | NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL),
        attrs,
        family=family,
        length=destination.prefixlen if destination is not None else 0,
        table=MAIN_TABLE,
        protocol=protocol,
        scope=_SCOPE_LINK if gateway is None and family == socket.AF_INET else 0,
        type=_UNICAST,
        route_flags=_ONLINK if on_link and gateway is not None else 0,
    )


def delete_route(
    destination: IPNetwork | None,
    gateway: IPAddress | None,
    device_index: int,
    *,
    family: int,
    protocol: int = _ANY_PROTOCOL,
    metric: int | None = None,
) -> bytes:
    """RTM_DELROUTE of the first route of the main table that matches what is given."""
    return encode.route(
        RTM_DELROUTE,
        NLM_F_ACK,
        _route_attributes(destination, gateway, device_index, metric),
        family=family,
        length=destination.prefixlen if destination is not None else 0,
        table=MAIN_TABLE,
        protocol=protocol,
        scope=_SCOPE_NOWHERE,
        type=_UNICAST,
    )


def dump_routes(family: int, main_only: bool) -> bytes:
    """RTM_GETROUTE of the unicast routes of one family.

    Asked for all families at once with a filter, the kernel lists IPv4 only.
    """
    table = MAIN_TABLE if main_only else 0
    return encode.route(RTM_GETROUTE, NLM_F_DUMP, [], family=family, table=table, type=_UNICAST)


def get_route(address: IPAddress) -> bytes:
    """RTM_GETROUTE: the route that a packet to this address would take."""
    return encode.route(
        RTM_GETROUTE,
        0,
        [("RTA_DST", address)],
        family=_family(address),
        length=address.max_prefixlen,
        route_flags=_FIB_MATCH,
    )


def family_of(*values: IPNetwork | IPAddress | None) -> int:
    """AF_INET or AF_INET6, after the first value that is given."""
    for value in values:
        if value is not None:
            return _family(value)
    raise ValueError("a route needs a destination or a gateway to tell its family")


def _family(value: IPNetwork | IPAddress | IPInterface) -> int:
    return socket.AF_INET if value.version == 4 else socket.AF_INET6
