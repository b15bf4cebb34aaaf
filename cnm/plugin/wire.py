"""The remote driver and IPAM protocols' messages, as they come: names and shapes, no meaning.

Requests and answers of both sides are read by the same rules as the Engine API's bodies:
keys match whatever their case, ``null`` means unset, unknown keys are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from cnm.engine.wire import Strings, Wire

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
NETWORK, IPAM = "NetworkDriver", "IpamDriver"  # what a plugin can implement
TCP, UDP, SCTP = 6, 17, 132  # IANA's protocol numbers
PROTOCOLS = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}
CONNECTED_ROUTE = 1  # a route on the device itself; 0: by its next hop

Identity = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _texts(value: object) -> object:
    """Options that somebody wrote without quotes: true, 1."""
    if not isinstance(value, dict):
        return value
    return {key: _text(item) for key, item in value.items()}


def _text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    return str(value) if isinstance(value, int | float) else value


Texts = Annotated[dict[str, str], BeforeValidator(_texts)]


def fault(error: ValidationError) -> str:
    """The first thing that is wrong with a message: the field and what it must be."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{where} is missing"
    reason = first["msg"].removeprefix("Value error, ")
    return f"invalid {where}: {reason[:1].lower()}{reason[1:]}"


class Empty(Wire):
    """A call without arguments, an answer that says nothing."""


class PoolData(Wire):
    """One pool of a network. Addresses are CIDR texts with the pool's prefix."""

    address_space: str = Field(default="", alias="AddressSpace")
    pool: str = Field(default="", alias="Pool")
    gateway: str = Field(default="", alias="Gateway")
    aux_addresses: Strings = Field(default={}, alias="AuxAddresses")


class NetworkOptions(Wire):
    """What the engine itself says of a network, and under ``generic`` what its user said."""

    generic: Texts = Field(default={}, alias="com.docker.network.generic")
    enable_ipv4: bool = Field(default=True, alias="com.docker.network.enable_ipv4")
    enable_ipv6: bool = Field(default=False, alias="com.docker.network.enable_ipv6")
    internal: bool = Field(default=False, alias="com.docker.network.internal")


class CreateNetwork(Wire):
    network_id: Identity = Field(alias="NetworkID")
    options: NetworkOptions = Field(default=NetworkOptions(), alias="Options")
    ipv4: list[PoolData] = Field(default=[], alias="IPv4Data")
    ipv6: list[PoolData] = Field(default=[], alias="IPv6Data")


class GatewayCheck(Wire):
    """``GwAllocCheck``."""

    options: NetworkOptions = Field(default=NetworkOptions(), alias="Options")


class OfNetwork(Wire):
    """``DeleteNetwork``."""

    network_id: Identity = Field(alias="NetworkID")


class Interface(Wire):
    """Addresses are CIDR texts; empty: not chosen, or of a family that is off."""

    address: str = Field(default="", alias="Address")
    address_ipv6: str = Field(default="", alias="AddressIPv6")
    mac: str = Field(default="", alias="MacAddress")


class OfEndpoint(Wire):
    """``DeleteEndpoint``, ``EndpointOperInfo``, ``Leave``, ``RevokeExternalConnectivity``."""

    network_id: Identity = Field(alias="NetworkID")
    endpoint_id: Identity = Field(alias="EndpointID")


class CreateEndpoint(OfEndpoint):
    interface: Interface = Field(default=Interface(), alias="Interface")
    options: dict[str, Any] = Field(default={}, alias="Options")


class Join(OfEndpoint):
    sandbox_key: str = Field(default="", alias="SandboxKey")
    options: dict[str, Any] = Field(default={}, alias="Options")


class Port(Wire):
    """A port map's entry. ``HostPort`` 0: any."""

    protocol: int = Field(alias="Proto")
    port: int = Field(alias="Port", ge=1, le=65535)
    host_ip: str = Field(default="", alias="HostIP")
    host_port: int = Field(default=0, alias="HostPort", ge=0, le=65535)
    host_port_end: int = Field(default=0, alias="HostPortEnd", ge=0, le=65535)


class PortOptions(Wire):
    ports: list[Port] = Field(default=[], alias="com.docker.network.portmap")
    no_proxy_6to4: bool = Field(
        default=False, alias="com.docker.network.driver.private.no_proxy_6to4"
    )


class Program(OfEndpoint):
    """``ProgramExternalConnectivity``."""

    options: PortOptions = Field(default=PortOptions(), alias="Options")


class Discovery(Wire):
    """``DiscoverNew``, ``DiscoverDelete``: of nodes, which our drivers learn elsewhere."""


# IPAM


class RequestPool(Wire):
    address_space: str = Field(default="", alias="AddressSpace")
    pool: str = Field(default="", alias="Pool")
    sub_pool: str = Field(default="", alias="SubPool")
    options: Texts = Field(default={}, alias="Options")
    v6: bool = Field(default=False, alias="V6")


class ReleasePool(Wire):
    pool_id: str = Field(alias="PoolID")


class RequestAddress(Wire):
    pool_id: str = Field(alias="PoolID")
    address: str = Field(default="", alias="Address")
    options: Texts = Field(default={}, alias="Options")


class ReleaseAddress(Wire):
    pool_id: str = Field(alias="PoolID")
    address: str = Field(alias="Address")


# answers of others' plugins


class Activated(Wire):
    implements: list[str] = Field(default=[], alias="Implements")


class NetworkCapabilities(Wire):
    scope: str = Field(default="", alias="Scope")
    connectivity_scope: str = Field(default="", alias="ConnectivityScope")
    gateway_checker: bool = Field(default=False, alias="GwAllocChecker")


class SkipGateway(Wire):
    skip_ipv4: bool = Field(default=False, alias="SkipIPv4")
    skip_ipv6: bool = Field(default=False, alias="SkipIPv6")


class EndpointCreated(Wire):
    interface: Interface = Field(default=Interface(), alias="Interface")


class OperInfo(Wire):
    value: dict[str, Any] = Field(default={}, alias="Value")


class InterfaceName(Wire):
    source: str = Field(default="", alias="SrcName")
    prefix: str = Field(default="", alias="DstPrefix")


class Route(Wire):
    destination: str = Field(alias="Destination")
    kind: int = Field(default=0, alias="RouteType")
    next_hop: str = Field(default="", alias="NextHop")


class Joined(Wire):
    interface_name: InterfaceName = Field(default=InterfaceName(), alias="InterfaceName")
    gateway: str = Field(default="", alias="Gateway")
    gateway_ipv6: str = Field(default="", alias="GatewayIPv6")
    routes: list[Route] = Field(default=[], alias="StaticRoutes")
    disable_gateway_service: bool = Field(default=False, alias="DisableGatewayService")


class IpamCapabilities(Wire):
    requires_mac: bool = Field(default=False, alias="RequiresMACAddress")


class AddressSpaces(Wire):
    local: str = Field(default="", alias="LocalDefaultAddressSpace")
    everywhere: str = Field(default="", alias="GlobalDefaultAddressSpace")


class PoolGranted(Wire):
    pool_id: str = Field(default="", alias="PoolID")
    pool: str = Field(default="", alias="Pool")
    data: Texts = Field(default={}, alias="Data")


class AddressGranted(Wire):
    address: str = Field(default="", alias="Address")
