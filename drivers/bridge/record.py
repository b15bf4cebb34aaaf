"""What the driver knows of a network, and what follows from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cnm.drivers.bridge import device, firewall
from cnm.drivers.bridge.device import BridgePlan
from cnm.drivers.bridge.firewall import NetworkPolicy
from cnm.drivers.bridge.options import NetworkOptions, parse_network
from cnm.drivers.bridge.veth import PairPlan
from cnm.runtime.kernel import owner
from cnm.runtime.kernel.netlink import Link
from cnm.types import (
    EndpointID,
    EndpointInterface,
    IpamPool,
    IPInterface,
    JoinInfo,
    NetworkSpec,
    SandboxKey,
)


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """A network with its options read. ``endpoints`` grows and shrinks, by atomic steps."""

    spec: NetworkSpec
    options: NetworkOptions
    bridge: BridgePlan
    endpoints: dict[EndpointID, EndpointInterface] = field(default_factory=dict)

    @classmethod
    def read(cls, network: NetworkSpec, defaults: Mapping[str, str]) -> NetworkRecord:
        """:raises InvalidParameter: an option is unknown or malformed (named)."""
        options = parse_network(network, defaults)
        return cls(network, options, device.plan(network, options))

    def policy(self, *, adopted: bool) -> NetworkPolicy:
        """What the firewall lets it do. ``adopted``: the bridge is somebody else's."""
        return firewall.policy(self.spec, self.options, self.bridge.name, adopted=adopted)

    def pair(
        self,
        bridge: Link,
        endpoint_id: EndpointID,
        interface: EndpointInterface,
        sandbox_key: SandboxKey | None,
        interface_name: str,
    ) -> PairPlan:
        """The pair of an endpoint, on the bridge as it is.

        On an adopted bridge the administrator's routers may be anywhere: no RA guard.
        """
        guarded = bridge.alias == self.bridge.mark
        return PairPlan(
            endpoint_id,
            interface.mac,
            sandbox_key,
            interface_name,
            bridge,
            self.options.mtu or bridge.mtu,
            firewall.port_group(guarded=guarded, icc=self.options.icc),
        )

    def join_info(
        self,
        endpoint_id: EndpointID,
        interface: EndpointInterface,
        interface_name: str,
        source_name: str,
    ) -> JoinInfo:
        """What a sandbox is told. No gateway for internal networks: engines would use it."""
        gateway, gateway_ipv6 = None, None
        if not self.spec.internal:
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
            mark="" if source_name else owner.inside_mark(endpoint_id),
        )


def _gateway(pools: tuple[IpamPool, ...], address: IPInterface | None) -> IPInterface | None:
    """The gateway of the pool that an address is of."""
    for pool in pools:
        if address is not None and address.ip in pool.pool:
            return pool.gateway
    return None
