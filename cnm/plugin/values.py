"""From the protocols' texts to values and back.

:raises InvalidParameter: from everything that reads: one line that names the field.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Any

from cnm import labels
from cnm.errors import InvalidParameter
from cnm.plugin import wire
from cnm.types import (
    EndpointInterface,
    IPAddress,
    IpamPool,
    IPInterface,
    IPNetwork,
    JoinInfo,
    NetworkID,
    NetworkSpec,
    PoolID,
    PortBinding,
    StaticRoute,
)

Document = dict[str, Any]

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NAME_LENGTH = 12  # as engines shorten ids
# What engines see to themselves, or say again elsewhere; all else is their user's --driver-opt.
_ENGINES_KEYS = (f"{labels.PREFIX}.endpoint.", labels.PORT_MAP, f"{labels.PREFIX}.driver.private.")


def network(text: str, what: str) -> IPNetwork:
    """A subnet."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise InvalidParameter(f"invalid {what}: {_shown(text)} is no subnet") from None


def interface(text: str, what: str, version: int | None = None) -> IPInterface:
    """An address with its prefix."""
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        raise InvalidParameter(f"invalid {what}: {_shown(text)} is no address") from None
    if version not in (None, found.version):
        raise InvalidParameter(f"invalid {what}: {_shown(text)} is not of IPv{version}")
    return found


def address(text: str, what: str) -> IPAddress:
    """An address without prefix."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise InvalidParameter(f"invalid {what}: {_shown(text)} is no address") from None


def mac(text: str) -> str:
    """A MAC address of one interface."""
    found = text.lower()
    if not _MAC.fullmatch(found) or int(found[:2], 16) & 1 or found == "00:00:00:00:00:00":
        raise InvalidParameter(f"invalid MacAddress: {_shown(text)}")
    return found


def _shown(text: str) -> str:
    return ascii(text[:80])


# what an engine tells of a network


def network_spec(body: wire.CreateNetwork) -> NetworkSpec:
    """A network; its name is not sent, so the short id stands for it."""
    found = _bare_spec(NetworkID(body.network_id), body.options)
    return NetworkSpec(
        *(found.id, found.id[:_NAME_LENGTH], found.enable_ipv4, found.enable_ipv6),
        *(found.internal, found.options),
        ipv4=tuple(_pool(item, 4) for item in body.ipv4),
        ipv6=tuple(_pool(item, 6) for item in body.ipv6),
    )


def gateway_question(body: wire.GatewayCheck) -> NetworkSpec:
    """A network that is not there yet."""
    return _bare_spec(NetworkID("0" * 64), body.options)


def _bare_spec(network_id: NetworkID, options: wire.NetworkOptions) -> NetworkSpec:
    return NetworkSpec(
        *(network_id, "", options.enable_ipv4, options.enable_ipv6, options.internal),
        options=options.generic,
    )


def _pool(data: wire.PoolData, version: int) -> IpamPool:
    pool = network(data.pool, "Pool")
    if pool.version != version:
        raise InvalidParameter(f"invalid Pool: {pool} is not of IPv{version}")
    reserved = {
        name: interface(text, f"AuxAddresses {name}", version)
        for name, text in data.aux_addresses.items()
    }
    gateway = interface(data.gateway, "Gateway", version) if data.gateway else None
    for item in (gateway, *reserved.values()):
        if item is not None and item.ip not in pool:
            raise InvalidParameter(f"invalid address: {item.ip} is not in {pool}")
    return IpamPool(
        *(PoolID(f"{data.address_space}/{pool}"), data.address_space, pool, gateway, reserved)
    )


def pool_data(pool: IpamPool) -> Document:
    """One element of ``IPv4Data`` or ``IPv6Data``."""
    document: Document = {"AddressSpace": pool.address_space, "Pool": str(pool.pool)}
    if pool.gateway is not None:
        document["Gateway"] = str(pool.gateway)
    if pool.aux_addresses:
        document["AuxAddresses"] = {key: str(item) for key, item in pool.aux_addresses.items()}
    return document


# endpoints


def endpoint_interface(body: wire.Interface) -> EndpointInterface:
    """An interface, as far as it is chosen."""
    v4 = interface(body.address, "Address", 4) if body.address else None
    v6 = interface(body.address_ipv6, "AddressIPv6", 6) if body.address_ipv6 else None
    return EndpointInterface(
        v4 if isinstance(v4, IPv4Interface) else None,
        v6 if isinstance(v6, IPv6Interface) else None,
        mac(body.mac) if body.mac else None,
    )


def chosen(before: EndpointInterface, after: EndpointInterface) -> Document:
    """Only what was open: an engine refuses to be told again what it has said itself."""
    document: Document = {}
    if before.address is None and after.address is not None:
        document["Address"] = str(after.address)
    if before.address_ipv6 is None and after.address_ipv6 is not None:
        document["AddressIPv6"] = str(after.address_ipv6)
    if before.mac is None and after.mac is not None:
        document["MacAddress"] = after.mac
    return document


def endpoint_options(options: Mapping[str, Any]) -> dict[str, str]:
    """The user's own."""
    found = {}
    for key, value in options.items():
        if key.startswith(_ENGINES_KEYS):
            continue
        if isinstance(value, dict | list):
            raise InvalidParameter(f"invalid option {_shown(key)}: must be a text")
        found[key] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def ports(options: wire.PortOptions) -> list[PortBinding]:
    """What is to be published."""
    return [_port(item, ipv4_only=options.no_proxy_6to4) for item in options.ports]


def _port(item: wire.Port, *, ipv4_only: bool) -> PortBinding:
    protocol = wire.PROTOCOLS.get(item.protocol)
    if protocol is None:
        raise InvalidParameter(f"invalid Proto: {item.protocol} has no ports")
    host_ip = address(item.host_ip, "HostIP") if item.host_ip else None
    if host_ip is None and ipv4_only:
        host_ip = IPv4Address(0)
    end = item.host_port_end if item.host_port_end > item.host_port else 0
    return PortBinding(protocol, item.port, host_ip, item.host_port, end)


def port_options(bindings: Sequence[PortBinding]) -> Document:
    """The two keys of ports, as an engine sends them."""
    numbers = {name: number for number, name in wire.PROTOCOLS.items()}
    mapped = [
        {
            "Proto": numbers[item.protocol],
            "IP": "",
            "Port": item.container_port,
            "HostIP": str(item.host_ip) if item.host_ip is not None else "",
            "HostPort": item.host_port,
            "HostPortEnd": item.host_port_end or item.host_port,
        }
        for item in bindings
    ]
    exposed = [{"Proto": item["Proto"], "Port": item["Port"]} for item in mapped]
    return {labels.ENDPOINT_EXPOSED_PORTS: exposed, labels.PORT_MAP: mapped}


def join_answer(info: JoinInfo) -> Document:
    """What an engine is told: the link that it is to move, and the way out."""
    document: Document = {"DisableGatewayService": info.disable_gateway_service}
    if info.source_name:
        document["InterfaceName"] = {"SrcName": info.source_name, "DstPrefix": info.interface_name}
    if info.gateway is not None:
        document["Gateway"] = str(info.gateway)
    if info.gateway_ipv6 is not None:
        document["GatewayIPv6"] = str(info.gateway_ipv6)
    if info.static_routes:
        document["StaticRoutes"] = [_route(route) for route in info.static_routes]
    return document


def _route(route: StaticRoute) -> Document:
    by_hop = route.next_hop is not None
    return {
        "Destination": str(route.destination),
        "RouteType": 0 if by_hop else wire.CONNECTED_ROUTE,
        "NextHop": str(route.next_hop) if by_hop else "",
    }


def gateway(text: str, what: str, version: int) -> IPv4Address | IPv6Address | None:
    """A gateway's bare address; empty: none."""
    if not text:
        return None
    found = address(text, what)
    if found.version != version:
        raise InvalidParameter(f"invalid {what}: {found} is not of IPv{version}")
    return found
