"""The addresses of an endpoint: asked of IPAM, then of the wire, until nobody else has them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from cnm.core.addressing import Addressing
from cnm.core.wires import WireGuard
from cnm.errors import CNMError, Forbidden, TeardownError, Unavailable
from cnm.ipamapi import (
    ENDPOINT_HOSTNAME,
    ENDPOINT_LINK,
    ENDPOINT_MAC,
    ENDPOINT_SHARES_MAC,
    LeasedFrom,
)
from cnm.types import (
    Endpoint,
    EndpointInterface,
    EndpointRequest,
    IPAddress,
    JoinInfo,
    Network,
    NetworkID,
    Phase,
    SandboxRecord,
)
from cnm.undo import Undo

log = logging.getLogger(__name__)

ASIDE_S = 300.0  # a taken address is not tried again for so long: each try costs a probe
# As many taken ones in a row are no coincidence: something there answers for every address.
MOST_TAKEN = 16

Holders = Mapping[IPAddress, str]


class Claims:
    """What :class:`Connections` asks for an endpoint's addresses."""

    def __init__(self, addressing: Addressing, wires: WireGuard) -> None:
        self._addressing = addressing
        self._wires = wires
        # Leased, so that IPAM gives another one; by network, with the time when that ends. Not
        # kept: the audit at a start frees what no record has. Items are taken out by `remove`,
        # which only one of two threads can do.
        self._aside: dict[NetworkID, list[tuple[float, EndpointInterface]]] = {}

    def reserve(
        self, network: Network, record: SandboxRecord, request: EndpointRequest
    ) -> EndpointInterface:
        """Only the addresses that were asked for by name; nobody uses them yet."""
        families = replace(
            network,
            ipv4=network.ipv4 if request.ipv4 else (),
            ipv6=network.ipv6 if request.ipv6 else (),
        )
        return self._request(families, record, request)

    def take(
        self, network: Network, record: SandboxRecord, endpoint: Endpoint, undo: Undo
    ) -> EndpointInterface:
        """The addresses that an endpoint will use.

        :raises Forbidden: a wanted one is in use, here or by somebody on the wire (named by MAC).
        :raises Unavailable: none is free.
        """
        kept, request = endpoint.interface, endpoint.request
        if endpoint.phase is not Phase.RESERVED or kept == EndpointInterface():
            return self._free(network, record, request, undo)
        # static addresses are leased already; only the family that was left open is asked for
        if taken := self._wires.holders(network, kept):
            raise self._in_use(network, taken)
        missing = replace(
            network,
            ipv4=() if kept.address else network.ipv4,
            ipv6=() if kept.address_ipv6 else network.ipv6,
        )
        open_request = replace(
            request,
            ipv4=None if kept.address else request.ipv4,
            ipv6=None if kept.address_ipv6 else request.ipv6,
        )
        found = self._free(missing, record, open_request, undo)
        return replace(
            found,
            address=kept.address or found.address,
            address_ipv6=kept.address_ipv6 or found.address_ipv6,
            mac=kept.mac or found.mac,
        )

    def release(
        self,
        network: Network,
        interface: EndpointInterface,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Give addresses back; see ``Addressing.release_addresses``."""
        self._addressing.release_addresses(network, interface, then)

    def routed(self, network: Network, interface: EndpointInterface, join: JoinInfo) -> JoinInfo:
        """With the gateway and routes of a leased address, unless the network has its own."""
        leased = self._addressing.leased_from(network, interface)
        return join if leased is None else with_routes(network, join, leased)

    def _free(
        self, network: Network, record: SandboxRecord, request: EndpointRequest, undo: Undo
    ) -> EndpointInterface:
        self._put_back(network, request)
        for _ in range(MOST_TAKEN):
            interface = self._request(network, record, request)
            with Undo() as failed:
                failed.push(self.release, network, interface)
                taken = self._wires.holders(network, interface)
            if not taken:
                undo.push(self.release, network, interface)
                return interface
            self._give_up(network, interface, taken)
            if any(wanted in taken for wanted in (request.ipv4, request.ipv6)):
                raise self._in_use(network, taken)
        address, mac = next(iter(taken.items()))
        raise Unavailable(
            f"network {network.name}: {MOST_TAKEN} addresses in a row are in use on the wire, the "
            f"last one, {address}, by {mac}: does something there answer for every address?"
        )

    def _request(
        self, network: Network, record: SandboxRecord, request: EndpointRequest
    ) -> EndpointInterface:
        if not self._addressing.requires_mac(network):
            return self._addressing.request_addresses(network, request)
        wire = self._wires.wire(network)
        mac = request.mac or stable_mac(record, network)
        options = {ENDPOINT_MAC: mac, ENDPOINT_HOSTNAME: record.name}
        if wire is not None:
            shares = "false" if wire.own_macs else "true"
            options |= {ENDPOINT_LINK: wire.link, ENDPOINT_SHARES_MAC: shares}
        if wire is None or wire.own_macs:
            request = replace(request, mac=mac)
        return self._addressing.request_addresses(network, request, options)

    def _give_up(self, network: Network, interface: EndpointInterface, taken: Holders) -> None:
        """Addresses that others have are set aside, the rest goes back."""
        free = interface
        if interface.address is not None and interface.address.ip in taken:
            self._set_aside(network, EndpointInterface(address=interface.address), taken)
            free = replace(free, address=None)
        if interface.address_ipv6 is not None and interface.address_ipv6.ip in taken:
            self._set_aside(network, EndpointInterface(address_ipv6=interface.address_ipv6), taken)
            free = replace(free, address_ipv6=None)
        self.release(network, free)

    def _set_aside(self, network: Network, one: EndpointInterface, taken: Holders) -> None:
        found = one.address or one.address_ipv6
        assert found is not None
        log.warning(
            "network %s: %s is in use by %s on the wire: another one is taken",
            network.name,
            found.ip,
            taken[found.ip],
        )
        if not self._addressing.decline(network, found.ip):
            for network_id in [item for item in self._aside if not self._wires.network(item)]:
                self._aside.pop(network_id, None)
            until = time.monotonic() + ASIDE_S
            self._aside.setdefault(network.id, []).append((until, one))

    def _put_back(self, network: Network, request: EndpointRequest) -> None:
        """Free what was set aside long ago, or is asked for by name now."""
        aside = self._aside.get(network.id, [])
        for item in tuple(aside):
            until, one = item
            found = one.address or one.address_ipv6
            wanted = found is not None and found.ip in (request.ipv4, request.ipv6)
            if wanted or time.monotonic() > until:
                try:
                    aside.remove(item)
                except ValueError:
                    continue  # another thread has it
                self.release(network, one)

    def close(self) -> None:
        """Free what is set aside, so that the next start has nothing to repair."""
        for network_id, aside in self._aside.items():
            if (network := self._wires.network(network_id)) is None:
                continue
            for _, one in aside:
                with contextlib.suppress(CNMError, TeardownError):  # the next start does it
                    self.release(network, one)
        self._aside = {}

    def _in_use(self, network: Network, taken: Holders) -> Forbidden:
        address, mac = next(iter(taken.items()))
        wire = self._wires.wire(network)
        where = f" on {wire.link}" if wire else ""
        return Forbidden(f"Address already in use: {address} belongs to {mac}{where}")


def with_routes(network: Network, join: JoinInfo, leased: LeasedFrom) -> JoinInfo:
    """And with name servers and domains.

    A network's own gateway counts more, and an internal network has none.
    """
    if network.internal:
        return join
    join = replace(join, dns_servers=leased.dns_servers, dns_search=leased.search)
    if any(pool.gateway for pool in network.ipv4):
        return join
    gateway = leased.gateway
    return replace(
        join,
        gateway=gateway if gateway is not None and gateway.version == 4 else None,
        static_routes=(*join.static_routes, *leased.routes),
    )


def without_routes(network: Network, join: JoinInfo, leased: LeasedFrom) -> JoinInfo:
    """The inverse of :func:`with_routes`."""
    join = replace(join, dns_servers=(), dns_search=())
    if network.internal or any(pool.gateway for pool in network.ipv4):
        return join
    own = tuple(route for route in join.static_routes if route not in leased.routes)
    return replace(join, gateway=None, static_routes=own)


def stable_mac(record: SandboxRecord, network: Network) -> str:
    """The same for a container on a network each time it starts: a server knows it again.

    Locally administered, unicast (IEEE 802); 46 bits of a hash.
    """
    digest = hashlib.sha256(f"{record.id} {network.id}".encode()).digest()
    return bytes([digest[0] & 0xFC | 0x02, *digest[1:6]]).hex(":")
