"""Our messages, read by pyroute2's own decoder."""

from __future__ import annotations

import re
import struct
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl import ifaddrmsg as ifaddrmsg_module
from pyroute2.netlink.rtnl import ifinfmsg as ifinfmsg_module
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cnm.runtime.kernel import attributes, messages
from cnm.runtime.kernel.encode import Attributes

MAC = "02:42:0a:00:00:07"


def decoded(codec: Any, data: bytes) -> Any:
    message = codec(data)
    message.decode()
    assert message["header"]["length"] == len(data)
    assert len(data) % 4 == 0
    return message


def test_daily_attributes_are_pyroute2s() -> None:
    source = attributes.all_known()
    assert {name: source[name] for name in attributes.DAILY} == attributes.DAILY
    assert attributes.find("IFLA_BRPORT_ISOLATED") == source["IFLA_BRPORT_ISOLATED"]
    with pytest.raises(KeyError, match="IFLA_NONSENSE"):
        attributes.find("IFLA_NONSENSE")


def test_nothing_that_we_send_needs_pyroute2() -> None:
    """The first published port of a daemon once cost it 0.13 s and 6 MB (IFLA_PROTINFO)."""
    sources = Path(messages.__file__).parent.glob("*.py")
    names = re.compile(r'"((?:IFLA|IFA|RTA|VETH)_[A-Z0-9_]+)"')
    sent = {name for path in sources for name in names.findall(path.read_text())}
    assert len(sent) > 30
    assert {
        name for name in sent - set(attributes.DAILY) if name in attributes.all_known()
    } == set()


def test_message_numbers_are_pyroute2s() -> None:
    ours = {name: value for name, value in vars(messages).items() if name.startswith("RTM_")}
    assert len(ours) == 11
    assert ours == {name: getattr(rtnl, name) for name in ours}
    assert messages.IFF_UP == ifinfmsg_module.IFF_UP
    assert messages.BRIDGE_VLAN_INFO_PVID == ifinfmsg_module.BRIDGE_VLAN_INFO_PVID
    assert messages.BRIDGE_VLAN_INFO_UNTAGGED == ifinfmsg_module.BRIDGE_VLAN_INFO_UNTAGGED
    assert messages.IFA_F_NODAD == ifaddrmsg_module.IFA_F_NODAD


def test_a_bridge() -> None:
    settings: Attributes = [("IFLA_IFNAME", "br-a"), ("IFLA_ADDRESS", MAC)]
    data = messages.new_link("bridge", settings, [("IFLA_BR_MCAST_SNOOPING", 0)], up=True)
    message = decoded(ifinfmsg, data)
    assert message["header"]["type"] == 16
    assert message["header"]["flags"] == 0x605  # request, acknowledge, create, exclusive
    assert (message["flags"], message["change"]) == (1, 1)
    assert message.get_attr("IFLA_IFNAME") == "br-a"
    assert message.get_attr("IFLA_ADDRESS") == MAC
    assert message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "bridge"
    assert message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_BR_MCAST_SNOOPING") == 0


def test_a_veth_pair() -> None:
    peer = [("IFLA_IFNAME", "eth0"), ("IFLA_NET_NS_FD", 5), ("IFLA_MTU", 1400)]
    data = messages.new_link(
        "veth", [("IFLA_IFNAME", "v0"), ("IFLA_MASTER", 3)], [("VETH_INFO_PEER", peer)], up=False
    )
    message = decoded(ifinfmsg, data)
    assert (message["flags"], message["change"]) == (0, 0)
    assert message.get_attr("IFLA_MASTER") == 3
    inner = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "VETH_INFO_PEER")
    assert inner.get_attr("IFLA_IFNAME") == "eth0"
    assert inner.get_attr("IFLA_MTU") == 1400


@pytest.mark.parametrize(("up", "flags"), [(True, (1, 1)), (False, (0, 1)), (None, (0, 0))])
def test_up_down_and_neither(up: bool | None, flags: tuple[int, int]) -> None:
    message = decoded(ifinfmsg, messages.set_link(7, [("IFLA_IFALIAS", "ä")], up))
    assert (message["flags"], message["change"]) == flags
    assert message["index"] == 7
    assert message.get_attr("IFLA_IFALIAS") == "ä"


@pytest.mark.parametrize(
    ("text", "family", "scope"),
    [("10.9.0.2/24", 2, 0), ("169.254.1.2/16", 2, 253), ("fd00::2/64", 10, 0)],
)
def test_an_address(text: str, family: int, scope: int) -> None:
    interface = ip_interface(text)
    data = messages.new_address(7, interface, nodad=True, broadcast=True)
    message = decoded(ifaddrmsg, data)
    assert (message["family"], message["scope"], message["index"]) == (family, scope, 7)
    assert message["prefixlen"] == interface.network.prefixlen
    assert message.get_attr("IFA_LOCAL") == message.get_attr("IFA_ADDRESS") == str(interface.ip)
    if family == 2:
        assert message.get_attr("IFA_BROADCAST") == str(interface.network.broadcast_address)
        assert message.get_attr("IFA_FLAGS") is None
    else:
        assert message.get_attr("IFA_FLAGS") == 2  # IFA_F_NODAD


@pytest.mark.parametrize(
    ("net", "gateway"), [("10.5.0.0/16", "10.9.0.1"), ("fd05::/48", "fd00::1")]
)
def test_a_route(net: str, gateway: str) -> None:
    data = messages.new_route(
        ip_network(net),
        ip_address(gateway),
        7,
        family=messages.family_of(ip_network(net)),
        protocol=messages.OUR_PROTOCOL,
        on_link=True,
        replace=True,
        metric=9,
    )
    message = decoded(rtmsg, data)
    assert message["header"]["flags"] == 0x505  # request, acknowledge, create, replace
    assert (message["table"], message["proto"], message["flags"]) == (254, 0xC4, 4)
    assert message.get_attr("RTA_DST") == net.partition("/")[0]
    assert message["dst_len"] == int(net.partition("/")[2])
    assert message.get_attr("RTA_GATEWAY") == gateway
    assert message.get_attr("RTA_OIF") == 7
    assert message.get_attr("RTA_PRIORITY") == 9


def test_a_route_without_destination_and_gateway_has_no_family() -> None:
    with pytest.raises(ValueError, match="family"):
        messages.family_of(None, None)


def test_a_number_where_attributes_belong_is_refused() -> None:
    with pytest.raises(TypeError, match="takes attributes"):
        messages.set_link(1, [("IFLA_LINKINFO", 1)], None)
    with pytest.raises(struct.error):
        messages.set_link(1, [("IFLA_MTU", -1)], None)
