"""Addresses and routes: set and taken away by us, judged by ip, and the other way round."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network

import pytest
from kernel.namespaces import Namespace

from cnm.errors import KernelError
from cnm.runtime.kernel.netlink import OUR_PROTOCOL, Netlink

pytestmark = pytest.mark.kernel

V4 = ip_interface("10.9.0.2/24")
V6 = ip_interface("fd00:9::2/64")
GATEWAY_4 = ip_address("10.9.0.1")
GATEWAY_6 = ip_address("fd00:9::1")


@pytest.fixture
def netlink(host_ns: Namespace) -> Iterator[Netlink]:
    """Of a namespace with a veth pair that is up: v0 and v1."""
    host_ns.sh("link add v0 type veth peer name v1; link set v0 up; link set v1 up")
    with Netlink() as opened:
        yield opened


@pytest.fixture
def index(netlink: Netlink) -> int:
    found = netlink.index("v0")
    assert found is not None
    return found


def test_addresses(host_ns: Namespace, netlink: Netlink, index: int) -> None:
    link_local = ip_interface("169.254.7.7/16")
    netlink.batch().add_address(index, V4, broadcast=True).add_address(index, V6).add_address(
        index, link_local
    ).commit()
    shown = {
        item["local"]: item for item in host_ns.ip("address", "show", "dev", "v0")[0]["addr_info"]
    }
    assert shown["10.9.0.2"]["prefixlen"] == 24
    assert shown["10.9.0.2"]["broadcast"] == "10.9.0.255"
    assert shown["169.254.7.7"]["scope"] == "link"
    assert shown["fd00:9::2"]["nodad"] is True
    assert "tentative" not in shown["fd00:9::2"]
    assert {item.interface for item in netlink.addresses(index)} >= {V4, V6, link_local}
    assert all(item.index == index for item in netlink.addresses(index))
    assert len(netlink.addresses()) > len(netlink.addresses(index))
    batch = netlink.batch()
    for address in (V4, V6, link_local):
        batch.delete_address(index, address).delete_address(index, address)
    batch.commit()
    assert host_ns.addresses("v0") == set()


def test_an_address_that_is_there(netlink: Netlink, index: int) -> None:
    netlink.batch().add_address(index, V4).add_address(index, V6).commit()
    netlink.batch().add_address(index, V4, exist_ok=True).add_address(
        index, V6, exist_ok=True
    ).commit()
    for address in (V4, V6):
        with pytest.raises(KernelError, match=str(address)) as caught:
            netlink.batch().add_address(index, address).commit()
        assert caught.value.errno == errno.EEXIST


def test_addresses_of_a_link_that_is_gone(netlink: Netlink, index: int) -> None:
    netlink.delete_links([index])
    assert netlink.addresses(index) == []
    netlink.batch().delete_address(index, V4).delete_address(index, V6).commit()


def test_routes(host_ns: Namespace, netlink: Netlink, index: int) -> None:
    netlink.batch().add_address(index, V4).add_address(index, V6).add_route(
        None, gateway=GATEWAY_4, device_index=index
    ).add_route(None, gateway=GATEWAY_6, device_index=index).add_route(
        ip_network("10.50.0.0/16"), device_index=index
    ).add_route(
        ip_network("fd00:50::/32"), gateway=GATEWAY_6, device_index=index, metric=7
    ).commit()
    assert host_ns.routes() == {
        f"default 10.9.0.1 {OUR_PROTOCOL}",
        f"default fd00:9::1 {OUR_PROTOCOL}",
        f"10.50.0.0/16 {OUR_PROTOCOL}",
        f"fd00:50::/32 fd00:9::1 {OUR_PROTOCOL}",
    }
    ours = [route for route in netlink.routes() if route.protocol == OUR_PROTOCOL]
    assert {(route.destination, route.gateway) for route in ours} == {
        (None, GATEWAY_4),
        (None, GATEWAY_6),
        (ip_network("10.50.0.0/16"), None),
        (ip_network("fd00:50::/32"), GATEWAY_6),
    }
    assert {route.device_index for route in ours} == {index}
    assert 7 in {route.metric for route in ours}


def test_an_on_link_gateway(host_ns: Namespace, netlink: Netlink, index: int) -> None:
    gateway = IPv4Address("192.0.2.1")
    netlink.batch().add_address(index, V4).commit()
    with pytest.raises(KernelError, match=r"route add default via 192\.0\.2\.1") as caught:
        netlink.batch().add_route(None, gateway=gateway, device_index=index).commit()
    assert caught.value.errno == errno.ENETUNREACH
    netlink.batch().add_route(None, gateway=gateway, device_index=index, on_link=True).commit()
    assert next(iter(host_ns.ip("route", "show", "default")))["flags"] == ["onlink"]
    assert [route.on_link for route in netlink.routes() if route.destination is None] == [True]


@pytest.mark.parametrize("gateway", [GATEWAY_4, GATEWAY_6], ids=["IPv4", "IPv6"])
def test_a_foreign_route_is_neither_replaced_nor_deleted(
    gateway: IPv4Address, host_ns: Namespace, netlink: Netlink, index: int
) -> None:
    netlink.batch().add_address(index, V4).add_address(index, V6).commit()
    host_ns.sh(f"route add default via {gateway} dev v0 proto static")
    before = host_ns.routes()
    with pytest.raises(KernelError) as caught:
        netlink.batch().add_route(None, gateway=gateway, device_index=index).commit()
    assert caught.value.errno == errno.EEXIST
    netlink.batch().add_route(None, gateway=gateway, device_index=index, exist_ok=True).commit()
    netlink.batch().delete_route(None, gateway=gateway, device_index=index).commit()
    assert host_ns.routes() == before


def test_a_route_is_replaced_and_deleted(host_ns: Namespace, netlink: Netlink, index: int) -> None:
    netlink.batch().add_address(index, V4).commit()
    netlink.batch().add_route(None, gateway=GATEWAY_4, device_index=index).commit()
    other = ip_address("10.9.0.9")
    netlink.batch().add_route(None, gateway=other, device_index=index, replace=True).commit()
    assert host_ns.routes() == {f"default 10.9.0.9 {OUR_PROTOCOL}"}
    for _ in range(2):  # gone is success
        netlink.batch().delete_route(None, gateway=other, device_index=index).commit()
    assert host_ns.routes() == set()


def test_only_unicast_routes_and_no_local_ones_are_listed(
    host_ns: Namespace, netlink: Netlink, index: int
) -> None:
    host_ns.sh(
        "address add 10.9.0.2/24 dev v0; address add fd00:9::2/64 dev v0 nodad;"
        "route add blackhole 10.60.0.0/16; route add 10.61.0.0/16 dev v0 table 77;"
        "route add 10.62.0.0/16 nexthop via 10.9.0.3 nexthop via 10.9.0.4"
    )
    found = {route.destination: route for route in netlink.routes()}
    assert ip_network("10.60.0.0/16") not in found
    assert ip_network("127.0.0.0/8") not in found
    assert found[ip_network("10.61.0.0/16")].table == 77
    assert found[ip_network("10.9.0.0/24")].table == 254
    assert ip_network("fd00:9::/64") in found
    several = found[ip_network("10.62.0.0/16")]
    assert (several.device_index, several.gateway) == (index, ip_address("10.9.0.3"))
    main = {route.destination for route in netlink.routes(main_only=True)}
    assert ip_network("10.61.0.0/16") not in main
    assert {ip_network("10.9.0.0/24"), ip_network("fd00:9::/64")} <= main


def test_the_way_to_an_address(host_ns: Namespace, netlink: Netlink, index: int) -> None:
    assert netlink.route_to(ip_address("192.0.2.7")) is None
    assert netlink.outside_mtu() == 1500
    host_ns.sh(
        "address add 10.9.0.2/24 dev v0; link set v0 mtu 1400; route add default via 10.9.0.1"
    )
    found = netlink.route_to(ip_address("192.0.2.7"))
    assert found is not None
    assert (found.gateway, found.device_index) == (GATEWAY_4, index)
    assert netlink.outside_mtu() == 1400
