"""The macvlan driver: containers as stations of the host's LAN, each with a MAC of its own.

The calls are ``cnm.drivers.parentlink.driver``'s, the links its ``parents``' and ``children``'s;
here is what macvlan has of its own. The host's way to its containers is ``device``'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cnm.driverapi import DriverContext
from cnm.drivers.mac import complete, parse_mac
from cnm.drivers.macvlan.device import HostLinks
from cnm.drivers.macvlan.options import NAME, PASSTHRU, parse_network
from cnm.drivers.parentlink.driver import ParentLinkDriver, make_reaper
from cnm.drivers.parentlink.options import NetworkOptions
from cnm.drivers.parentlink.record import NetworkRecord
from cnm.errors import Forbidden, InvalidParameter
from cnm.hostapi import DeviceClaim
from cnm.runtime.kernel.netlink import Link, Netlink
from cnm.types import EndpointID, EndpointInterface, NetworkSpec


def create(context: DriverContext) -> ParentLinkDriver:
    """The driver of the namespace of the calling thread."""
    netlink, reaper = Netlink(), make_reaper()
    return ParentLinkDriver(Macvlan(), netlink, reaper, context, HostLinks(netlink, reaper))


class Macvlan:
    """What makes macvlan differ: see ``parentlink.driver.Kind``."""

    name = NAME
    prefix = "mv"
    isolated_prefix = "dm-"

    def read(self, network: NetworkSpec, defaults: Mapping[str, str]) -> NetworkOptions:
        """See ``parse_network``."""
        return parse_network(network, defaults)

    def refuse_beside(self, network: DeviceClaim, other: DeviceClaim, parent: str) -> None:
        """Networks share a parent, but for passthru, and never with another driver."""
        if other.driver != NAME:
            raise Forbidden(
                f"{other.driver} network {other.network_name} is already using parent interface "
                f"{parent}"
            )
        if network.use == PASSTHRU:
            raise Forbidden(
                f"cannot use mode passthru, macvlan network {other.network_name} is already using "
                f"parent interface {parent}"
            )
        if other.use == PASSTHRU:
            raise Forbidden(
                f"macvlan network {other.network_name} is already using parent interface {parent} "
                "in mode passthru"
            )

    def complete(
        self, known: NetworkRecord, endpoint_id: EndpointID, wanted: EndpointInterface, parent: Link
    ) -> EndpointInterface:
        """With its MAC address; in mode passthru it is the parent's, and there is one endpoint.

        Another one there would become the parent's own (macvlan_set_mac_address in the kernel's
        drivers/net/macvlan.c), which is not ours to change.
        """
        if known.options.mode != PASSTHRU:
            return complete(endpoint_id, wanted)
        if set(known.endpoints) - {endpoint_id}:
            raise Forbidden(
                f"network {known.spec.name}: in mode passthru parent interface "
                f"{known.parent_name} is one container's, and one has it"
            )
        if wanted.mac and parse_mac(wanted.mac) != parent.mac:
            raise InvalidParameter(
                f"network {known.spec.name}: in mode passthru the container has the MAC address "
                f"of {known.parent_name}, {parent.mac}: leave it open"
            )
        return replace(wanted, mac=parent.mac)
