"""Drivers of others: the driver contracts over the plugin protocols.

What a plugin answers is believed no further than it has to be: every text becomes a value
or an error, and what it was told itself it may not change. As with Docker, a plugin cannot
veto a deletion: its failures there are told in the log, and ours goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from cnm import labels
from cnm.driverapi import Capability
from cnm.errors import CNMError, InvalidParameter, NotFound, NotImplementedByDriver, Unavailable
from cnm.ipamapi import GATEWAY_ADDRESS, AllocatedPool, PoolRequest
from cnm.plugin import finding, values, wire
from cnm.plugin.caller import A, Caller
from cnm.plugin.values import Document
from cnm.types import (
    EndpointID,
    EndpointInterface,
    IPAddress,
    IPInterface,
    IPNetwork,
    JoinInfo,
    NetworkID,
    NetworkSpec,
    PoolID,
    PortBinding,
    SandboxKey,
    Scope,
    StaticRoute,
)
from cnm.undo import Undo

log = logging.getLogger(__name__)

_LAST_INTERFACE = 999  # a number is put behind a plugin's prefix
_POOLS_TRIED = 16  # a plugin that chooses what the host routes elsewhere is asked again


class Plugins:
    """Drivers of others by name; made once, asked whenever a network of theirs is."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._callers: dict[str, Caller] = {}

    def driver(self, name: str) -> RemoteDriver | None:
        """A network driver; ``None``: no plugin can have that name. Asks nobody yet."""
        caller = self._caller(name)
        return RemoteDriver(caller) if caller is not None else None

    def ipam(self, name: str) -> RemoteIpam | None:
        """An IPAM driver, in the same way."""
        caller = self._caller(name)
        return RemoteIpam(caller) if caller is not None else None

    def _caller(self, name: str) -> Caller | None:
        if not finding.NAME.fullmatch(name):
            return None
        with self._mutex:
            return self._callers.setdefault(name, Caller(name))


class RemoteDriver:
    """NetworkDriver, NetworkChecker and ExternalConnectivity by somebody else's plugin."""

    capability = Capability()

    def __init__(self, caller: Caller) -> None:
        self.name = caller.name
        self._caller = caller

    def _call(self, method: str, body: Document | None, answer: type[A]) -> A:
        return self._caller.call(wire.NETWORK, method, body, answer)

    def _tell(self, method: str, body: Document) -> None:
        """A deletion."""
        try:
            self._call(method, body, wire.Empty)
        except CNMError as error:
            log.warning("%s: %s: %s; it is removed all the same", self._caller, method, error)

    # networks

    def check_network(self, network: NetworkSpec) -> None:
        """That it is there and what it says it is. :raises CNMError:"""
        self._capabilities()

    def _capabilities(self) -> wire.NetworkCapabilities:
        found = self._call("GetCapabilities", None, wire.NetworkCapabilities)
        if found.scope not in (Scope.LOCAL, Scope.GLOBAL):
            raise CNMError(f"{self._caller}: invalid capability: scope {ascii(found.scope)}")
        return found

    def skip_gateway(self, network: NetworkSpec) -> tuple[bool, bool]:
        """``GwAllocCheck``, of those that have it."""
        if not self._capabilities().gateway_checker:
            return False, False
        found = self._call("GwAllocCheck", {"Options": _options(network)}, wire.SkipGateway)
        return found.skip_ipv4, found.skip_ipv6

    def create_network(self, network: NetworkSpec) -> None:
        """:raises CNMError: what the plugin says."""
        body = {
            "NetworkID": network.id,
            "Options": _options(network),
            "IPv4Data": [values.pool_data(pool) for pool in network.ipv4],
            "IPv6Data": [values.pool_data(pool) for pool in network.ipv6],
        }
        with Undo() as undo:
            undo.push(self.delete_network, network.id)  # whether it came that far, nobody tells
            self._call("CreateNetwork", body, wire.Empty)

    def delete_network(self, network_id: NetworkID) -> None:
        """A plugin cannot veto it."""
        self._tell("DeleteNetwork", {"NetworkID": network_id})

    # endpoints

    def create_endpoint(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        interface: EndpointInterface,
        options: Mapping[str, Any],
    ) -> EndpointInterface:
        """:raises CNMError: it refuses, or answers what cannot be."""
        asked = {
            "Address": str(interface.address or ""),
            "AddressIPv6": str(interface.address_ipv6 or ""),
            "MacAddress": interface.mac or "",
        }
        body = {**_ids(network_id, endpoint_id), "Interface": asked, "Options": dict(options)}
        with Undo() as undo:
            undo.push(self.delete_endpoint, network_id, endpoint_id)
            found = self._call("CreateEndpoint", body, wire.EndpointCreated).interface
            return self._merged(interface, found)

    def _merged(self, asked: EndpointInterface, answer: wire.Interface) -> EndpointInterface:
        """:raises CNMError: with Docker's text if it changes what it was told."""
        for what, before, after in (
            ("IP", asked.address, answer.address),
            ("IPv6", asked.address_ipv6, answer.address_ipv6),
            ("MAC", asked.mac, answer.mac),
        ):
            if before is not None and after:
                raise CNMError(
                    f"driver modified interface address: endpoint interface {what} present "
                    f"({before}). Cannot be modified with ({ascii(after)[1:-1]})."
                )
        try:
            chosen = values.endpoint_interface(answer)
        except InvalidParameter as error:
            raise CNMError(f"{self._caller}: CreateEndpoint: its answer: {error}") from error
        return EndpointInterface(
            asked.address or chosen.address,
            asked.address_ipv6 or chosen.address_ipv6,
            asked.mac or chosen.mac,
            asked.link_local,
        )

    def delete_endpoint(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """A plugin cannot veto it."""
        self._tell("DeleteEndpoint", _ids(network_id, endpoint_id))

    def endpoint_oper_info(
        self, network_id: NetworkID, endpoint_id: EndpointID
    ) -> Mapping[str, Any]:
        """What it likes to tell."""
        return self._call("EndpointOperInfo", _ids(network_id, endpoint_id), wire.OperInfo).value

    def join(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        sandbox_key: SandboxKey | None,
        interface_name: str,
        options: Mapping[str, Any],
    ) -> JoinInfo:
        """The link that it has made, to be moved. Its prefix of names stands in ``name_prefix``."""
        body = {
            **_ids(network_id, endpoint_id),
            "SandboxKey": sandbox_key or "",
            "Options": values.port_options(()),
        }
        with Undo() as undo:
            undo.push(self.leave, network_id, endpoint_id)
            answer = self._call("Join", body, wire.Joined)
            try:
                return _join_info(answer, interface_name)
            except InvalidParameter as error:
                raise CNMError(f"{self._caller}: Join: its answer: {error}") from error

    def leave(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """A plugin cannot veto it."""
        self._tell("Leave", _ids(network_id, endpoint_id))

    # ports

    def program_external_connectivity(
        self, network_id: NetworkID, endpoint_id: EndpointID, ports: Sequence[PortBinding]
    ) -> Sequence[PortBinding]:
        """What is asked; which ports it chose, a plugin does not tell."""
        if not ports:
            self.revoke_external_connectivity(network_id, endpoint_id)
            return ()
        body = {**_ids(network_id, endpoint_id), "Options": values.port_options(ports)}
        try:
            self._call("ProgramExternalConnectivity", body, wire.Empty)
        except NotImplementedByDriver:
            log.info("%s publishes no ports", self._caller)
            return ()
        return tuple(ports)

    def revoke_external_connectivity(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """A plugin cannot veto it."""
        try:
            self._call("RevokeExternalConnectivity", _ids(network_id, endpoint_id), wire.Empty)
        except NotImplementedByDriver:
            return
        except CNMError as error:
            log.warning("%s: ports are not revoked: %s", self._caller, error)


def _ids(network_id: NetworkID, endpoint_id: EndpointID) -> Document:
    return {"NetworkID": network_id, "EndpointID": endpoint_id}


def _options(network: NetworkSpec) -> Document:
    options: Document = {
        labels.ENABLE_IPV4: network.enable_ipv4,
        labels.ENABLE_IPV6: network.enable_ipv6,
        labels.GENERIC: dict(network.options),
    }
    if network.internal:
        options[labels.INTERNAL] = True
    return options


def _join_info(answer: wire.Joined, interface_name: str) -> JoinInfo:
    source, prefix = answer.interface_name.source, answer.interface_name.prefix
    if source:
        labels.parse_ifname("SrcName", source)
    if prefix:
        labels.parse_ifname("DstPrefix", f"{prefix}{_LAST_INTERFACE}")
    v4 = values.gateway(answer.gateway, "Gateway", 4)
    v6 = values.gateway(answer.gateway_ipv6, "GatewayIPv6", 6)
    return JoinInfo(
        interface_name,
        source,
        gateway=v4 if isinstance(v4, IPv4Address) else None,
        gateway_ipv6=v6 if isinstance(v6, IPv6Address) else None,
        static_routes=tuple(_route(route) for route in answer.routes),
        disable_gateway_service=answer.disable_gateway_service,
        name_prefix=prefix,
    )


def _route(route: wire.Route) -> StaticRoute:
    destination = values.network(route.destination, "Destination")
    if route.kind == wire.CONNECTED_ROUTE:
        return StaticRoute(destination)
    return StaticRoute(destination, values.address(route.next_hop, "NextHop"))


class RemoteIpam:
    """IpamDriver and PresenceChecker by somebody else's plugin."""

    def __init__(self, caller: Caller) -> None:
        self.name = caller.name
        self._caller = caller

    def _call(self, method: str, body: Document | None, answer: type[A]) -> A:
        return self._caller.call(wire.IPAM, method, body, answer)

    def _tell(self, method: str, body: Document) -> None:
        try:
            self._call(method, body, wire.Empty)
        except CNMError as error:
            log.warning("%s: %s: %s; it is released all the same", self._caller, method, error)

    def check_present(self) -> None:
        """See ``PresenceChecker``."""
        try:
            self._caller.activate(wire.IPAM)
        except NotFound as error:
            text = f"could not find plugin {self.name} in v2 registry: {error}"
            raise InvalidParameter(text) from error

    def default_address_spaces(self) -> tuple[str, str]:
        """:raises CNMError: it does not answer."""
        found = self._call("GetDefaultAddressSpaces", None, wire.AddressSpaces)
        return found.local, found.everywhere

    def request_pool(self, request: PoolRequest) -> AllocatedPool:
        """As Docker: one that the host routes elsewhere is held until a better one is found.

        :raises CNMError: it has none, or answers what was not asked for.
        """
        rejected: list[AllocatedPool] = []
        try:
            for _ in range(_POOLS_TRIED):
                granted = self._granted(request)
                if any(granted.pool_id == other.pool_id for other in rejected):
                    raise CNMError(
                        f"{self._caller}: has no pool but {granted.pool}, which is in use"
                    )
                if request.pool is not None or not _excluded(granted.pool, request.exclude):
                    return granted
                rejected.append(granted)
            raise Unavailable(f"{self._caller}: every pool that it offers is routed elsewhere")
        finally:
            for pool in rejected:
                self.release_pool(pool.pool_id)

    def _granted(self, request: PoolRequest) -> AllocatedPool:
        body = {
            "AddressSpace": request.address_space,
            "Pool": str(request.pool or ""),
            "SubPool": str(request.sub_pool or ""),
            "Options": dict(request.options),
            "V6": request.v6,
        }
        answer = self._call("RequestPool", body, wire.PoolGranted)
        with Undo() as undo:
            undo.push(self.release_pool, PoolID(answer.pool_id))
            return self._checked(request, answer)

    def _checked(self, request: PoolRequest, answer: wire.PoolGranted) -> AllocatedPool:
        try:
            pool = values.network(answer.pool, "Pool")
            gateway = answer.data.get(GATEWAY_ADDRESS)
            offered = values.interface(gateway, "gateway", pool.version) if gateway else None
        except InvalidParameter as error:
            raise CNMError(f"{self._caller}: RequestPool: its answer: {error}") from error
        wanted = request.pool
        fits = (
            pool.version == (6 if request.v6 else 4)
            if wanted is None or wanted.network_address.is_unspecified
            else pool == wanted
        )
        if not fits or (offered is not None and offered.ip not in pool):
            raise CNMError(f"{self._caller}: RequestPool: {pool} is not what was asked for")
        return AllocatedPool(PoolID(answer.pool_id), pool, answer.data)

    def release_pool(self, pool_id: PoolID) -> None:
        """A plugin cannot veto it."""
        self._tell("ReleasePool", {"PoolID": pool_id})

    def request_address(
        self,
        pool_id: PoolID,
        address: IPAddress | None = None,
        options: Mapping[str, str] | None = None,
    ) -> IPInterface:
        """:raises CNMError: it has none, or answers another than was asked for."""
        body = {
            "PoolID": pool_id,
            "Address": str(address or ""),
            "Options": dict(options) if options is not None else None,
        }
        answer = self._call("RequestAddress", body, wire.AddressGranted)
        if not answer.address:
            raise CNMError(f"{self._caller}: RequestAddress: no address returned")
        try:
            found = values.interface(answer.address, "Address")
        except InvalidParameter as error:
            raise CNMError(f"{self._caller}: RequestAddress: its answer: {error}") from error
        if address is not None and found.ip != address:
            self.release_address(pool_id, found.ip)
            raise CNMError(f"{self._caller}: RequestAddress: {found.ip} was not asked for")
        return found

    def release_address(self, pool_id: PoolID, address: IPAddress) -> None:
        """A plugin cannot veto it."""
        self._tell("ReleaseAddress", {"PoolID": pool_id, "Address": str(address)})


def _excluded(pool: IPNetwork, exclude: Sequence[IPNetwork]) -> bool:
    return any(pool.version == other.version and pool.overlaps(other) for other in exclude)
