"""What such a driver knows of a network, and what follows from it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_network

from cnm.drivers.parentlink.options import NetworkOptions
from cnm.hostapi import DeviceClaim
from cnm.runtime.kernel import owner
from cnm.types import (
    EndpointID,
    EndpointInterface,
    IpamPool,
    IPInterface,
    JoinInfo,
    NetworkSpec,
    StaticRoute,
)

_EVERYTHING_IPV4, _EVERYTHING_IPV6 = ip_network("0.0.0.0/0"), ip_network("::/0")
_ID_DIGITS = 12  # of a network's id in a name, as Docker's


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """A network with its options read. The two dicts grow and shrink, by atomic steps.

    ``isolated_name``: of the parent that is made where none is given. ``joined``: endpoints
    that have a link.
    """

    spec: NetworkSpec
    options: NetworkOptions
    driver: str
    isolated_name: str
    endpoints: dict[EndpointID, EndpointInterface] = field(default_factory=dict)
    joined: dict[EndpointID, EndpointInterface] = field(default_factory=dict)

    @property
    def parent_name(self) -> str:
        """Of the link that endpoints' links sit on."""
        return self.options.parent or self.isolated_name

    @property
    def parent_names(self) -> set[str]:
        """Of the parent and what may be below it: ``eth0``."""
        return {self.parent_name, self.parent_name.partition(".")[0]}

    @property
    def isolated(self) -> bool:
        """Whether the parent is one of our own that leads nowhere."""
        return not self.options.parent

    @property
    def internal(self) -> bool:
        """As Docker: without a parent as well, nothing outside can be reached."""
        return self.spec.internal or self.isolated

    @property
    def mark(self) -> str:
        """The alias of what is made for this network on the host."""
        return owner.network_mark(self.spec.id)

    @property
    def mac(self) -> str:
        """Of our isolated parent. Locally administered; not ``02:42``, which containers have."""
        return ":".join(("0a", *(self.spec.id[at : at + 2] for at in range(0, 10, 2))))

    def claim(self) -> DeviceClaim:
        """Its use of the parent."""
        return DeviceClaim(self.driver, self.spec.id, self.spec.name, self.options.mode)

    def join_info(
        self, interface: EndpointInterface, interface_name: str, source_name: str
    ) -> JoinInfo:
        """What a sandbox is told: the gateway that was asked for, or the device as the way out."""
        gateway = gateway_ipv6 = None
        routes: list[StaticRoute] = []
        if self.options.routed and not self.internal:
            routes += [StaticRoute(_EVERYTHING_IPV4)] if interface.address else []
            routes += [StaticRoute(_EVERYTHING_IPV6)] if interface.address_ipv6 else []
        elif not self.internal:
            found = _gateway(self.spec.ipv4, interface.address)
            gateway = found.ip if found is not None and found.version == 4 else None
            found = _gateway(self.spec.ipv6, interface.address_ipv6)
            gateway_ipv6 = found.ip if found is not None and found.version == 6 else None
        return JoinInfo(
            interface_name,
            source_name,
            placed=not source_name,
            gateway=gateway,
            gateway_ipv6=gateway_ipv6,
            static_routes=tuple(routes),
            disable_gateway_service=True,
        )


def short_name(prefix: str, identity: str) -> str:
    """A link's name for a network: ``dm-0123456789ab``."""
    return f"{prefix}{identity[:_ID_DIGITS]}"


def _gateway(pools: tuple[IpamPool, ...], address: IPInterface | None) -> IPInterface | None:
    """The gateway of the pool that an address is of."""
    for pool in pools:
        if address is not None and address.ip in pool.pool:
            return pool.gateway
    return None
