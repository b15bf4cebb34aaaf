"""Drivers that make nothing in the kernel: what ``host`` and ``null`` have in common.

There is one network of each, without pools. Containers get there by how they are
started, in the host's namespace or in one of their own; nothing is connected later, and
the calls for that only answer as the contract wants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnm.driverapi import Capability
from cnm.types import (
    EndpointID,
    EndpointInterface,
    JoinInfo,
    NetworkID,
    NetworkSpec,
    SandboxKey,
)


class InertDriver:
    """A NetworkDriver of that name."""

    capability = Capability(instances=1, attachable=False, addressed=False)

    def __init__(self, name: str) -> None:
        self.name = name

    def create_network(self, network: NetworkSpec) -> None:
        """Nothing to make."""

    def delete_network(self, network_id: NetworkID) -> None:
        """Nothing to remove."""

    def create_endpoint(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        interface: EndpointInterface,
        options: Mapping[str, Any],
    ) -> EndpointInterface:
        """The interface as it is: there is none to choose a MAC for."""
        return interface

    def delete_endpoint(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """Nothing to remove."""

    def endpoint_oper_info(
        self, network_id: NetworkID, endpoint_id: EndpointID
    ) -> Mapping[str, Any]:
        """Nothing to tell."""
        return {}

    def join(
        self,
        network_id: NetworkID,
        endpoint_id: EndpointID,
        sandbox_key: SandboxKey | None,
        interface_name: str,
        options: Mapping[str, Any],
    ) -> JoinInfo:
        """No link, no gateway, and none to be made up for."""
        return JoinInfo("", disable_gateway_service=True)

    def leave(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """Nothing to remove."""
