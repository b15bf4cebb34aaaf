"""The ipvlan driver: containers on the host's LAN, or behind it, by the host's MAC address.

The calls are ``cnm.drivers.parentlink.driver``'s, the links its ``parents``' and ``children``'s;
here is what ipvlan has of its own. Mode and flag are the parent's, for all links on it
(ipvlan_set_port_mode in the kernel): so a parent is one network's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from cnm.driverapi import DriverContext
from cnm.drivers.ipvlan.options import NAME, parse_network
from cnm.drivers.parentlink.driver import ParentLinkDriver, make_reaper
from cnm.drivers.parentlink.options import NetworkOptions
from cnm.drivers.parentlink.record import NetworkRecord
from cnm.errors import Forbidden, InvalidParameter
from cnm.hostapi import DeviceClaim
from cnm.runtime.kernel.netlink import Link, Netlink
from cnm.types import EndpointID, EndpointInterface, NetworkSpec, Repair


def create(context: DriverContext) -> ParentLinkDriver:
    """The driver of the namespace of the calling thread."""
    return ParentLinkDriver(Ipvlan(), Netlink(), make_reaper(), context, Nothing())


class Ipvlan:
    """What makes ipvlan differ: see ``parentlink.driver.Kind``."""

    name = NAME
    prefix = "iv"
    isolated_prefix = "di-"

    def read(self, network: NetworkSpec, defaults: Mapping[str, str]) -> NetworkOptions:
        """See ``parse_network``."""
        return parse_network(network, defaults)

    def refuse_beside(self, network: DeviceClaim, other: DeviceClaim, parent: str) -> None:
        """A parent is one network's."""
        raise Forbidden(f"network {other.network_name} is already using parent interface {parent}")

    def complete(
        self, known: NetworkRecord, endpoint_id: EndpointID, wanted: EndpointInterface, parent: Link
    ) -> EndpointInterface:
        """As it is: its link has the parent's MAC address."""
        if wanted.mac:
            raise InvalidParameter("ipvlan interfaces do not support custom mac address assignment")
        return replace(wanted, mac=None)


class Nothing:
    """An ipvlan network has nothing else on the host: see ``parentlink.driver.Beside``."""

    def check(self, known: NetworkRecord) -> None:
        """All is well."""

    def ensure(self, known: NetworkRecord, parent: Link) -> list[Repair]:
        """Nothing to make."""
        return []

    def remove(self, known: NetworkRecord) -> None:
        """Nothing to remove."""

    def devices(self, known: NetworkRecord) -> Collection[str]:
        """None."""
        return []
