"""Which endpoint gives a sandbox its default routes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

from cnm.core import gateway
from cnm.sandboxapi import DefaultRoute
from cnm.types import (
    Endpoint,
    EndpointID,
    EndpointRequest,
    JoinInfo,
    NetworkID,
    Phase,
    SandboxID,
    StaticRoute,
)

V4, V6 = IPv4Address("10.1.0.1"), IPv6Address("fd01::1")
OUT_OF_THE_DEVICE = (StaticRoute(ip_network("0.0.0.0/0")), StaticRoute(ip_network("::/0")))


def endpoint(name: str, join: JoinInfo | None, priority: int = 0) -> Endpoint:
    return Endpoint(
        EndpointID(name),
        NetworkID(name),
        SandboxID("box"),
        Phase.ACTIVE,
        0,
        EndpointRequest(gw_priority=priority),
        interface_name=f"if-{name}",
        join=join,
    )


def choose(*endpoints: Endpoint) -> tuple[DefaultRoute | None, DefaultRoute | None]:
    names = {item.network_id: item.network_id for item in endpoints}
    return gateway.routes(*gateway.choose(endpoints, names))


def test_each_family_apart_by_name() -> None:
    a = endpoint("a", JoinInfo("eth0", gateway_ipv6=V6))
    b = endpoint("b", JoinInfo("eth1", gateway=V4, gateway_ipv6=V6))
    assert choose(b, a) == (DefaultRoute("if-b", V4), DefaultRoute("if-a", V6))


def test_the_device_is_a_way_out_like_another() -> None:
    a = endpoint("a", JoinInfo("eth0", static_routes=OUT_OF_THE_DEVICE))
    b = endpoint("b", JoinInfo("eth1", gateway=V4), priority=1)
    assert choose(a) == (DefaultRoute("if-a", None), DefaultRoute("if-a", None))
    assert choose(a, b) == (DefaultRoute("if-b", V4), DefaultRoute("if-a", None))


def test_other_static_routes_are_none() -> None:
    routes = (StaticRoute(ip_network("10.0.0.0/8")),)
    assert choose(endpoint("a", JoinInfo("eth0", static_routes=routes))) == (None, None)
    assert choose(endpoint("a", None)) == (None, None)
