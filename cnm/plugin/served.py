"""Our drivers and IPAM drivers as plugins: which call of the protocol is which call of the core.

A driver is served because it is registered; nothing here knows one of them. Left out is
what engines have themselves: drivers without pools (``host``, ``null``) and the IPAM ``null``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cnm.core.facade import Core
from cnm.core.guestpools import GuestPools
from cnm.core.guests import Guests
from cnm.driverapi import NetworkChecker, NetworkDriver
from cnm.engine.wire import Wire
from cnm.ipamapi import Leasing, PoolRequest
from cnm.plugin import values, wire
from cnm.plugin.values import Document
from cnm.types import EndpointID, NetworkID, PoolID, Scope

PREFIX = "cnm-"
_DEFAULT_IPAM, _NULL_IPAM = "default", "null"


@dataclass(frozen=True, slots=True)
class Method:
    """A call. ``inverse`` takes its work back when the caller could not wait for the answer."""

    body: type[Wire]
    call: Callable[[Any], Document]
    inverse: Callable[[Any, Document], object] | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """One plugin: ``NAME.sock``. ``facts`` are answered at once, whatever else is under way."""

    name: str
    facts: Mapping[str, Document]
    methods: Mapping[str, Method] = field(default_factory=dict)


def services(core: Core) -> list[Service]:
    """All that this daemon has to offer.

    An engine tells an IPAM driver of no link, so those that lease from the LAN are not offered.
    """
    drivers = [
        network_service(core.guests, driver, name)
        for name, driver in core.registry.drivers()
        if driver.capability.addressed
    ]
    ipam = [
        ipam_service(core.guests.pools, name)
        for name, driver in core.registry.ipam_drivers()
        if name != _NULL_IPAM and not isinstance(driver, Leasing)
    ]
    return drivers + ipam


def network_service(guests: Guests, driver: NetworkDriver, name: str) -> Service:
    """A network driver, called ``cnm-`` and its name."""
    calls = _NetworkCalls(guests, name)
    kind = wire.NETWORK
    capability = driver.capability
    facts: dict[str, Document] = {
        "Plugin.Activate": {"Implements": [kind]},
        f"{kind}.GetCapabilities": {
            "Scope": _scope(capability.scope),
            "ConnectivityScope": _scope(capability.connectivity_scope),
            "GwAllocChecker": isinstance(driver, NetworkChecker),
        },
    }
    methods = {
        "GwAllocCheck": Method(wire.GatewayCheck, calls.check_gateway),
        "CreateNetwork": Method(wire.CreateNetwork, calls.create_network, calls.delete_network),
        "DeleteNetwork": Method(wire.OfNetwork, calls.delete_network),
        "CreateEndpoint": Method(wire.CreateEndpoint, calls.create_endpoint, calls.delete_endpoint),
        "DeleteEndpoint": Method(wire.OfEndpoint, calls.delete_endpoint),
        "EndpointOperInfo": Method(wire.OfEndpoint, calls.oper_info),
        "Join": Method(wire.Join, calls.join, calls.leave),
        "Leave": Method(wire.OfEndpoint, calls.leave),
        "ProgramExternalConnectivity": Method(wire.Program, calls.program, calls.revoke),
        "RevokeExternalConnectivity": Method(wire.OfEndpoint, calls.revoke),
        "DiscoverNew": Method(wire.Empty, _nothing),
        "DiscoverDelete": Method(wire.Empty, _nothing),
    }
    named = {f"{kind}.{call}": method for call, method in methods.items()}
    return Service(f"{PREFIX}{name}", facts, named)


def ipam_service(pools: GuestPools, name: str) -> Service:
    """An IPAM driver: the default one is ``cnm-ipam``, others have their name behind that."""
    calls = _IpamCalls(pools, name)
    kind = wire.IPAM
    local, everywhere = pools.address_spaces(name)
    facts: dict[str, Document] = {
        "Plugin.Activate": {"Implements": [kind]},
        # what was granted is kept here: nothing has to be asked for again
        f"{kind}.GetCapabilities": {"RequiresMACAddress": False, "RequiresRequestReplay": False},
        f"{kind}.GetDefaultAddressSpaces": {
            "LocalDefaultAddressSpace": local,
            "GlobalDefaultAddressSpace": everywhere,
        },
    }
    methods = {
        "RequestPool": Method(wire.RequestPool, calls.request_pool, calls.give_pool_back),
        "ReleasePool": Method(wire.ReleasePool, calls.release_pool),
        "RequestAddress": Method(
            wire.RequestAddress, calls.request_address, calls.give_address_back
        ),
        "ReleaseAddress": Method(wire.ReleaseAddress, calls.release_address),
    }
    named = {f"{kind}.{call}": method for call, method in methods.items()}
    ending = "ipam" if name == _DEFAULT_IPAM else f"ipam-{name}"
    return Service(f"{PREFIX}{ending}", facts, named)


def _scope(scope: Scope) -> str:
    """The protocol knows two."""
    return "local" if scope is Scope.LOCAL else "global"


def _nothing(_body: Wire) -> Document:
    return {}


class _NetworkCalls:
    """The calls for one driver."""

    def __init__(self, guests: Guests, driver: str) -> None:
        self._guests = guests
        self._driver = driver

    def check_gateway(self, body: wire.GatewayCheck) -> Document:
        v4, v6 = self._guests.skip_gateway(self._driver, values.gateway_question(body))
        return {"SkipIPv4": v4, "SkipIPv6": v6}

    def create_network(self, body: wire.CreateNetwork) -> Document:
        self._guests.create_network(self._driver, values.network_spec(body))
        return {}

    def delete_network(
        self, body: wire.OfNetwork | wire.CreateNetwork, _answer: Document | None = None
    ) -> Document:
        self._guests.delete_network(self._driver, NetworkID(body.network_id))
        return {}

    def create_endpoint(self, body: wire.CreateEndpoint) -> Document:
        wanted = values.endpoint_interface(body.interface)
        options = values.endpoint_options(body.options)
        complete = self._guests.create_endpoint(self._driver, *_ids(body), wanted, options)
        return {"Interface": values.chosen(wanted, complete)}

    def delete_endpoint(self, body: wire.OfEndpoint, _answer: Document | None = None) -> Document:
        self._guests.delete_endpoint(self._driver, *_ids(body))
        return {}

    def oper_info(self, body: wire.OfEndpoint) -> Document:
        found = self._guests.oper_info(self._driver, *_ids(body))
        return {"Value": {key: str(value) for key, value in found.items()}}

    def join(self, body: wire.Join) -> Document:
        return values.join_answer(self._guests.join(self._driver, *_ids(body)))

    def leave(self, body: wire.OfEndpoint, _answer: Document | None = None) -> Document:
        self._guests.leave(self._driver, *_ids(body))
        return {}

    def program(self, body: wire.Program) -> Document:
        self._guests.program(self._driver, *_ids(body), values.ports(body.options))
        return {}

    def revoke(self, body: wire.OfEndpoint, _answer: Document | None = None) -> Document:
        self._guests.revoke(self._driver, *_ids(body))
        return {}


def _ids(body: wire.OfEndpoint) -> tuple[NetworkID, EndpointID]:
    return NetworkID(body.network_id), EndpointID(body.endpoint_id)


class _IpamCalls:
    """The calls for one IPAM driver."""

    def __init__(self, pools: GuestPools, ipam: str) -> None:
        self._pools = pools
        self._ipam = ipam

    def request_pool(self, body: wire.RequestPool) -> Document:
        pool = values.network(body.pool, "Pool") if body.pool else None
        sub_pool = values.network(body.sub_pool, "SubPool") if body.sub_pool else None
        request = PoolRequest(body.address_space, pool, sub_pool, body.options, body.v6)
        granted = self._pools.request_pool(self._ipam, request)
        data = dict(granted.data)
        return {"PoolID": granted.pool_id, "Pool": str(granted.pool), "Data": data}

    def give_pool_back(self, _body: wire.RequestPool, answer: Document) -> None:
        self._pools.release_pool(self._ipam, PoolID(answer["PoolID"]))

    def release_pool(self, body: wire.ReleasePool) -> Document:
        self._pools.release_pool(self._ipam, PoolID(body.pool_id))
        return {}

    def request_address(self, body: wire.RequestAddress) -> Document:
        wanted = values.address(body.address, "Address") if body.address else None
        pool_id = PoolID(body.pool_id)
        found = self._pools.request_address(self._ipam, pool_id, wanted, body.options)
        return {"Address": str(found), "Data": {}}

    def give_address_back(self, body: wire.RequestAddress, answer: Document) -> None:
        found = values.interface(answer["Address"], "Address")
        self._pools.release_address(self._ipam, PoolID(body.pool_id), found.ip)

    def release_address(self, body: wire.ReleaseAddress) -> Document:
        address = values.address(body.address, "Address")
        self._pools.release_address(self._ipam, PoolID(body.pool_id), address)
        return {}
