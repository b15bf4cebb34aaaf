"""A driver and an IPAM driver that another distribution registers; it knows nothing of plugins.

A pair of links for each endpoint, marked by its name alone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from cnm.driverapi import Capability, DriverContext
from cnm.errors import InvalidParameter
from cnm.ipamapi import AllocatedPool, IpamContext, PoolRequest
from cnm.types import (
    EndpointID,
    EndpointInterface,
    IPAddress,
    IPInterface,
    JoinInfo,
    NetworkID,
    NetworkSpec,
    PoolID,
    SandboxKey,
)

POOL = IPv4Network("10.91.0.0/24")


class PinkDriver:
    """NetworkDriver, and no more."""

    name = "pink"
    capability = Capability()

    def create_network(self, network: NetworkSpec) -> None:
        """Nothing to make. :raises InvalidParameter: the wrong colour."""
        if network.options.get("colour", "pink") != "pink":
            raise InvalidParameter("only pink is pink")

    def delete_network(self, network_id: NetworkID) -> None:
        """Nothing to remove."""

    def create_endpoint(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        interface: EndpointInterface,
        options: Mapping[str, Any],
    ) -> EndpointInterface:
        """As it was wished."""
        return interface

    def delete_endpoint(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """Gone is success."""
        subprocess.run(["ip", "link", "delete", _link(endpoint_id)], stderr=subprocess.DEVNULL)

    def endpoint_oper_info(
        self, network_id: NetworkID, endpoint_id: EndpointID
    ) -> Mapping[str, Any]:
        """Its colour."""
        return {"colour": "pink"}

    def join(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        sandbox_key: SandboxKey | None,
        interface_name: str,
        options: Mapping[str, Any],
    ) -> JoinInfo:
        """A link to be moved."""
        link = _link(endpoint_id)
        pair = ["ip", "link", "add", link, "type", "veth", "peer", "name", f"other{link[4:]}"]
        subprocess.run(pair, check=True)
        return JoinInfo(interface_name, link, disable_gateway_service=True)

    def leave(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """It goes with the endpoint."""


class PinkIpam:
    """IpamDriver: one pool, counted upwards."""

    name = "pink"

    def __init__(self) -> None:
        self._taken = 0

    def default_address_spaces(self) -> tuple[str, str]:
        """Both."""
        return "PinkLocal", "PinkGlobal"

    def request_pool(self, request: PoolRequest) -> AllocatedPool:
        """Always the same."""
        return AllocatedPool(PoolID("pinks"), POOL)

    def release_pool(self, pool_id: PoolID) -> None:
        """Nothing to do."""

    def request_address(
        self,
        pool_id: PoolID,
        address: IPAddress | None = None,
        options: Mapping[str, str] | None = None,
    ) -> IPInterface:
        """The next."""
        self._taken += 1
        return IPv4Interface(f"{POOL[self._taken]}/{POOL.prefixlen}")

    def release_address(self, pool_id: PoolID, address: IPAddress) -> None:
        """Nothing to do."""


def create(context: DriverContext) -> PinkDriver:
    """For the entry point."""
    return PinkDriver()


def create_ipam(context: IpamContext) -> PinkIpam:
    """For the other."""
    return PinkIpam()


def _link(endpoint_id: EndpointID) -> str:
    return f"pink{endpoint_id[:7]}"
