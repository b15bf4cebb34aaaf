"""What a network and an endpoint hold of IPAM: requested, written down, released.

The only caller of IPAM drivers in the core; holds the address-space lock around each
call, because IPAM drivers have no locks of their own (but for those that lease from a
server outside and may wait for it: ``ipamapi.Leasing``).
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from cnm import ipamapi
from cnm.core import subnets
from cnm.core.locks import Locks
from cnm.core.registry import Registry
from cnm.core.state import State
from cnm.driverapi import Wire
from cnm.errors import CNMError, Forbidden, InvalidParameter, NotFound, PoolOverlap, Unavailable
from cnm.hostapi import HostRoute, HostRoutes
from cnm.ipamapi import GATEWAY_ADDRESS, REQUEST_ADDRESS_TYPE, IpamDriver, PoolRequest
from cnm.types import (
    EndpointInterface,
    EndpointRequest,
    IPAddress,
    IpamConfig,
    IpamPool,
    IPInterface,
    IPNetwork,
    Network,
)
from cnm.undo import Teardown, Undo

_GATEWAY_OPTIONS = {REQUEST_ADDRESS_TYPE: GATEWAY_ADDRESS}


class Addressing:
    """Pools for networks, addresses for endpoints."""

    def __init__(
        self, state: State, registry: Registry, locks: Locks, host_routes: HostRoutes
    ) -> None:
        self._state = state
        self._registry = registry
        self._locks = locks
        self._host_routes = host_routes

    def _held(self, network: Network) -> contextlib.AbstractContextManager[None]:
        if isinstance(self._registry.ipam(network.ipam_driver), ipamapi.Leasing):
            return contextlib.nullcontext()
        return self._locks.space(network.ipam_driver)

    # networks

    def request_pools(
        self,
        network: Network,
        skip_gateway: tuple[bool, bool],
        own_devices: set[str],
    ) -> Network:
        """The network with its pools, gateways and auxiliary addresses, all leased.

        :raises Forbidden: a subnet is in use, by a network or by a route of the host.
        :raises InvalidParameter: no default pool is free.
        """
        ipam = self._registry.ipam(network.ipam_driver)
        pools: list[IpamPool] = []
        with self._held(network), Undo() as undo:
            for version, wish in _wishes(network):
                self._refuse_taken(wish.subnet, own_devices)
                skip = skip_gateway[version == 6]
                pool = self._request_pool(ipam, network, wish, version, skip)
                undo.push(self._release_pool, ipam, pool)
                pools.append(pool)
        ipv4 = tuple(pool for pool in pools if pool.pool.version == 4)
        ipv6 = tuple(pool for pool in pools if pool.pool.version == 6)
        shown = tuple(_shown(pool) for pool in ipv4 + ipv6)
        return replace(network, ipv4=ipv4, ipv6=ipv6, ipam_config=shown)

    def check_pools(self, network: Network) -> None:
        """:raises CNMError: the IPAM driver would refuse what is asked for; nothing is changed."""
        ipam = self._registry.ipam(network.ipam_driver)
        if isinstance(ipam, ipamapi.PoolChecker):
            for version, wish in _wishes(network):
                ipam.check_pool(self._pool_request(ipam, network, wish, version))

    def _refuse_taken(self, subnet: IPNetwork | None, own_devices: set[str]) -> None:
        if subnet is None or subnets.is_size_only(subnet):
            return
        subnets.refuse_overlap(subnet, self._state.networks())
        subnets.refuse_routed(subnet, self._host_routes.routes(), own_devices)

    def _request_pool(
        self, ipam: IpamDriver, network: Network, wish: IpamConfig, version: int, skip: bool
    ) -> IpamPool:
        request = self._pool_request(ipam, network, wish, version)
        try:
            granted = ipam.request_pool(request)
        except PoolOverlap as error:
            # no network of ours: a pool that an engine took through the plugin
            raise Forbidden(
                f"invalid pool request: {error}: {wish.subnet} overlaps {error.pool}"
            ) from error
        pool = IpamPool(
            granted.pool_id, request.address_space, granted.pool, ip_range=wish.ip_range
        )
        with Undo() as undo:
            undo.push(self._release_pool, ipam, pool)
            if _is_chosen(wish) and pool.pool.prefixlen:  # a driver of others may offer anything
                _refuse_unusable(ipam, pool)
                subnets.refuse_overlap(pool.pool, self._state.networks())
            gateway, leased = self._gateway(ipam, pool, wish, granted.data, skip)
            pool = replace(pool, gateway=gateway, gateway_leased=leased)
            aux = {
                name: ipam.request_address(pool.pool_id, address)
                for name, address in wish.aux_addresses.items()
            }
        return replace(pool, aux_addresses=aux)

    def _pool_request(
        self, ipam: IpamDriver, network: Network, wish: IpamConfig, version: int
    ) -> PoolRequest:
        local, _ = ipam.default_address_spaces()
        return PoolRequest(
            local,
            wish.subnet,
            wish.ip_range,
            network.ipam_options or {},
            version == 6,
            self._routed(version) if _is_chosen(wish) else (),
        )

    def _gateway(
        self,
        ipam: IpamDriver,
        pool: IpamPool,
        wish: IpamConfig,
        data: Mapping[str, str],
        skip: bool,
    ) -> tuple[IPInterface | None, bool]:
        offered = data.get(GATEWAY_ADDRESS)
        if wish.gateway is None and offered:
            return ipaddress.ip_interface(offered), False
        if (wish.gateway is None and skip) or pool.pool.prefixlen == 0:
            return None, False
        found = ipam.request_address(pool.pool_id, wish.gateway, _GATEWAY_OPTIONS)
        if found.ip.is_unspecified:
            return None, False
        _refuse_elsewhere(ipam, pool, found)
        return found, True

    def route_over(self, subnet: IPNetwork) -> HostRoute | None:
        """A route of the host that overlaps a subnet, if there is one."""
        for route in self._host_routes.routes():
            if subnets.overlaps_route(subnet, route):
                return route
        return None

    def _routed(self, version: int) -> tuple[IPNetwork, ...]:
        return tuple(
            route.destination
            for route in self._host_routes.routes()
            if route.destination.version == version and route.destination.prefixlen > 1
        )

    def release_pools(self, network: Network) -> None:
        """Give back everything a network holds; what is gone is fine.

        :raises TeardownError: with all that failed; the rest is released.
        """
        ipam = self._registry.ipam(network.ipam_driver)
        teardown = Teardown(f"release the pools of network {network.name}")
        with self._held(network):
            for pool in network.ipv4 + network.ipv6:
                with teardown.step():
                    self._release_pool(ipam, pool)
        teardown.finish()

    def _release_pool(self, ipam: IpamDriver, pool: IpamPool) -> None:
        held = list(pool.aux_addresses.values())
        if pool.gateway and pool.gateway_leased:
            held.append(pool.gateway)
        for interface in held:
            ipam.release_address(pool.pool_id, interface.ip)
        ipam.release_pool(pool.pool_id)

    def check_wire(self, network: Network, wire: Wire | None) -> None:
        """:raises InvalidParameter: addresses are to be leased, and there is nobody to ask."""
        ipam = self._registry.ipam(network.ipam_driver)
        if isinstance(ipam, ipamapi.Leasing) and wire is None:
            raise InvalidParameter(
                f"the {ipam.name} IPAM driver asks a server on the LAN: it needs a network with a "
                "parent, --driver macvlan or ipvlan (l2) with -o parent=LINK"
            )

    # endpoints

    def requires_mac(self, network: Network) -> bool:
        """Whether the IPAM driver of a network wants to know for whom an address is."""
        ipam = self._registry.ipam(network.ipam_driver)
        return isinstance(ipam, ipamapi.IpamCapable) and ipam.capability.requires_mac

    def request_addresses(
        self,
        network: Network,
        request: EndpointRequest,
        options: Mapping[str, str] | None = None,
    ) -> EndpointInterface:
        """An address of each family that the network has, the wanted one where one is wanted.

        :raises InvalidParameter: a wanted address is in no subnet of the network.
        :raises Forbidden: it is in use.
        :raises Unavailable: the pools are full.
        """
        ipam = self._registry.ipam(network.ipam_driver)
        with self._held(network), Undo() as undo:
            v4 = self._request(ipam, network, network.ipv4, request.ipv4, options, undo)
            v6 = self._request(ipam, network, network.ipv6, request.ipv6, options, undo)
        link_local = tuple(
            ipaddress.ip_interface(f"{address}/{16 if address.version == 4 else 64}")
            for address in request.link_local
        )
        return EndpointInterface(
            v4 if isinstance(v4, ipaddress.IPv4Interface) else None,
            v6 if isinstance(v6, ipaddress.IPv6Interface) else None,
            request.mac,
            link_local,
        )

    def _request(
        self,
        ipam: IpamDriver,
        network: Network,
        pools: Iterable[IpamPool],
        wanted: IPAddress | None,
        options: Mapping[str, str] | None,
        undo: Undo,
    ) -> IPInterface | None:
        pools = [pool for pool in pools if wanted is None or wanted in pool.pool]
        if not pools:
            if wanted is None:
                return None
            raise InvalidParameter(
                "invalid endpoint settings:\n"
                f"no configured subnet or ip-range contain the IP address {wanted}"
            )
        for pool in pools:
            try:
                found = ipam.request_address(pool.pool_id, wanted, options)
            except Unavailable:
                if isinstance(ipam, ipamapi.Leasing):
                    raise  # it says what the server did
                continue  # full: the next subnet of the same network
            except Forbidden as error:
                raise Forbidden(f"{error}{self._holder(network, wanted)}") from error
            if found.ip.is_unspecified:
                return None  # the null IPAM: this endpoint needs no address
            _refuse_elsewhere(ipam, pool, found)
            self._refuse_held(ipam, network, found)
            undo.push(ipam.release_address, pool.pool_id, found.ip)
            return found
        family = f"IPv{pools[0].pool.version}"
        raise Unavailable(
            f"no available {family} addresses on this network's address pools: "
            f"{network.name} ({network.id})"
        )

    def _refuse_held(self, ipam: IpamDriver, network: Network, found: IPInterface) -> None:
        """:raises CNMError: what a driver of others gives is in use; it stays with its holder."""
        holder = self._holder(network, found.ip)
        if holder:
            raise CNMError(f"IPAM driver {ipam.name} gave {found.ip} twice{holder}")

    def _holder(self, network: Network, wanted: IPAddress | None) -> str:
        """Who has a wanted address, as the rest of a sentence; empty if it is none of ours."""
        for endpoint in self._state.endpoints_of_network(network.id):
            held = (endpoint.interface.address, endpoint.interface.address_ipv6)
            sandbox = self._state.sandbox(endpoint.sandbox_id)
            if sandbox and any(item is not None and item.ip == wanted for item in held):
                return f": {wanted} belongs to container {sandbox.name}"
        for pool in network.ipv4 + network.ipv6:
            if pool.gateway is not None and pool.gateway.ip == wanted:
                return f": {wanted} is the gateway of network {network.name}"
            for name, address in pool.aux_addresses.items():
                if address.ip == wanted:
                    return f": {wanted} is auxiliary address {name} of network {network.name}"
        return ""

    def release_addresses(
        self,
        network: Network,
        interface: EndpointInterface,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Give an endpoint's addresses back.

        ``then`` writes that it has them no more: before anybody else can be given them, or he would
        be refused what another one seems to have, or lose it to a second release.

        :raises TeardownError: with all that failed; ``then`` was not called.
        """
        ipam = self._registry.ipam(network.ipam_driver)
        teardown = Teardown(f"release addresses on network {network.name}")
        with self._held(network):
            for address in (interface.address, interface.address_ipv6):
                for pool in network.ipv4 + network.ipv6:
                    if address is not None and address.ip in pool.pool:
                        with teardown.step():
                            ipam.release_address(pool.pool_id, address.ip)
            teardown.finish()
            if then is not None:
                then()

    def decline(self, network: Network, address: IPAddress) -> bool:
        """Tell the server that leased an address that somebody has it; False: there is none."""
        ipam = self._registry.ipam(network.ipam_driver)
        if not isinstance(ipam, ipamapi.Leasing):
            return False
        for pool in network.ipv4 + network.ipv6:
            if address in pool.pool:
                ipam.decline_address(pool.pool_id, address)
        return True

    def leased_from(
        self, network: Network, interface: EndpointInterface
    ) -> ipamapi.LeasedFrom | None:
        """What a server outside gave with an endpoint's address, if one did."""
        ipam = self._registry.ipam(network.ipam_driver)
        if not isinstance(ipam, ipamapi.Leasing) or interface.address is None:
            return None
        for pool in network.ipv4:
            if interface.address.ip in pool.pool:
                return ipam.leased_from(pool.pool_id, interface.address.ip)
        return None

    def usage(self, network: Network) -> dict[str, ipamapi.PoolUsage]:
        """Use of each pool of a network, where its IPAM driver can tell."""
        ipam = self._registry.ipam(network.ipam_driver)
        if not isinstance(ipam, ipamapi.PoolStatus):
            return {}
        with self._held(network):
            found = {}
            for pool in network.ipv4 + network.ipv6:
                with contextlib.suppress(NotFound):  # the network is being removed just now
                    found[str(pool.pool)] = ipam.usage(pool.pool_id)
            return found


def _wishes(network: Network) -> Iterator[tuple[int, IpamConfig]]:
    """Family and wish of each pool that a network asks for."""
    enabled = {4: network.enable_ipv4, 6: network.enable_ipv6}
    for version in (version for version in enabled if enabled[version]):
        named = [
            config
            for config in network.ipam_config
            if config.subnet and config.subnet.version == version
        ]
        yield from ((version, wish) for wish in named or [IpamConfig()])


def _is_chosen(wish: IpamConfig) -> bool:
    """Whether the IPAM driver chooses the subnet."""
    return wish.subnet is None or subnets.is_size_only(wish.subnet)


def _refuse_unusable(ipam: IpamDriver, pool: IpamPool) -> None:
    """:raises CNMError: no network can have the pool that a driver of others gives."""
    try:
        subnets.check_config([IpamConfig(pool.pool)])
    except InvalidParameter as error:
        reason = str(error).splitlines()[-1]
        raise CNMError(f"IPAM driver {ipam.name} gave what cannot be: {reason}") from error


def _refuse_elsewhere(ipam: IpamDriver, pool: IpamPool, found: IPInterface) -> None:
    """:raises CNMError: what a driver of others gives is not of the pool.

    With a leased address the server outside says how long the prefix is.
    """
    prefix_fits = found.network.prefixlen == pool.pool.prefixlen
    if found.ip not in pool.pool or not (prefix_fits or isinstance(ipam, ipamapi.Leasing)):
        ipam.release_address(pool.pool_id, found.ip)
        raise CNMError(f"IPAM driver {ipam.name} gave {found}, which is not in {pool.pool}")


def _shown(pool: IpamPool) -> IpamConfig:
    return IpamConfig(
        pool.pool,
        pool.ip_range,
        pool.gateway.ip if pool.gateway else None,
        {name: interface.ip for name, interface in pool.aux_addresses.items()},
    )
