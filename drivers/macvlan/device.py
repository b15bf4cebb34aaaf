"""``host_access``: a macvlan link of the host's own, by which it is its containers' neighbour.

The kernel passes nothing between a parent and the links on it: host and containers do not
reach each other. So the host gets a link beside theirs, ``mh-<12 digits of the network's id>``,
and a route to each container over it; the rest of the LAN stays reached by the parent.

The link has the host's own address on the parent, where that lies in the network's subnet
(containers find the host where everybody does), else the one that is reserved for it with
``--aux-address host=…``; as single addresses (/32, /128), so that they bring no routes. Two links
with one address would both answer the LAN's ARP requests; with arp_filter the host's link
answers only those to whom a route leads over it, its containers. IPv6 has no such setting:
neighbours may learn either MAC of the host, and both are it.

Left: the host's address moved to a macvlan link (as the usual recipes do): it cuts the host
off while it is moved, and changes what is not ours.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from ipaddress import ip_interface

from cnm import labels
from cnm.drivers.macvlan.options import NAME
from cnm.drivers.parentlink.record import NetworkRecord, short_name
from cnm.drivers.reaper import Reaper
from cnm.errors import Forbidden, InvalidParameter, KernelError
from cnm.runtime.kernel import sysctl
from cnm.runtime.kernel.netlink import OUR_PROTOCOL, Link, Netlink, Upper
from cnm.types import IPAddress, IpamPool, IPInterface, IPNetwork, Repair
from cnm.undo import Undo

HOST = "host"  # name of the auxiliary address that is the host's
_PREFIX = "mh-"
_BRIDGE_MODE = Upper(NAME, 4)  # MACVLAN_MODE_BRIDGE


class HostLinks:
    """The host's links of one namespace: see ``parentlink.driver.Beside``."""

    def __init__(self, netlink: Netlink, reaper: Reaper) -> None:
        self._netlink = netlink
        self._reaper = reaper

    def check(self, known: NetworkRecord) -> None:
        """:raises InvalidParameter: no address for the host is known."""
        if not known.options.host_access:
            return
        parent = self._netlink.link(known.parent_name)
        for pool in _pools(known):
            if self._address(pool, parent) is None:
                raise InvalidParameter(
                    f"{labels.HOST_ACCESS} needs an address of the host in {pool.pool}: give "
                    f"{known.parent_name} one, or reserve one with --aux-address {HOST}=ADDRESS"
                )
        found = self._netlink.link(_name(known))
        if found is not None and found.alias != known.mark:
            raise Forbidden(f"the host's link {found.name} has the name that our link needs")

    def ensure(self, known: NetworkRecord, parent: Link) -> list[Repair]:
        """Make the link, or put right what differs, routes to those who have joined included."""
        if not known.options.host_access:
            return []
        found = self._netlink.link(_name(known))
        if found is not None and found.peer_index != parent.index:
            self._reaper.delete(found.index)  # on a link that had the parent's name
            found = None
        repairs = []
        if found is None:
            found = self._create(known, parent)
            repairs.append(Repair("link", found.name, "created again"))
        return repairs + self._put_right(known, parent, found)

    def remove(self, known: NetworkRecord) -> None:
        """Gone is success."""
        found = self._netlink.link(_name(known))
        if found is not None and found.alias == known.mark:
            self._reaper.delete(found.index)

    def devices(self, known: NetworkRecord) -> Collection[str]:
        """Its name, if there is to be one."""
        return [_name(known)] if known.options.host_access else []

    # inside

    def _create(self, known: NetworkRecord, parent: Link) -> Link:
        name = _name(known)
        with Undo() as undo:
            undo.push(self.remove, known)
            self._netlink.batch().add_upper(
                name,
                _BRIDGE_MODE,
                parent=parent.index,
                mac=_mac(known),
                mtu=known.options.mtu,
                alias=known.mark,
            ).commit()
            _settle(known)
            self._netlink.batch().set_link(name, up=True).commit()
            found = self._netlink.link(name)
        if found is None:
            raise KernelError(errno.ENODEV, f"link {name}")
        return found

    def _put_right(self, known: NetworkRecord, parent: Link, found: Link) -> list[Repair]:
        repairs = [Repair("sysctl", key, "set again") for key in _settle(known)]
        repairs += self._put_addresses_right(known, parent, found)
        if found.upper != _BRIDGE_MODE:
            self._netlink.batch().set_upper(found.index, _BRIDGE_MODE).commit()
            repairs.append(Repair("link", found.name, "mode set again"))
        if not found.up and parent.up:
            self._netlink.batch().set_link(found.index, up=True).commit()
            repairs.append(Repair("link", found.name, "set up again"))
        return repairs + self._put_routes_right(known, parent, found)

    def _put_addresses_right(self, known: NetworkRecord, parent: Link, found: Link) -> list[Repair]:
        addresses = (self._address(pool, parent) for pool in _pools(known))
        wanted = {_single(address) for address in addresses if address is not None}
        held = {
            item.interface
            for item in self._netlink.addresses(found.index)
            if not item.interface.ip.is_link_local
        }
        batch = self._netlink.batch()
        for missing in wanted - held:
            batch.add_address(found.index, missing, protocol=OUR_PROTOCOL, exist_ok=True)
        for stale in held - wanted:
            batch.delete_address(found.index, stale)
        batch.commit()
        added = [Repair("address", f"{item} on {found.name}", "added") for item in wanted - held]
        gone = [Repair("address", f"{item} on {found.name}", "removed") for item in held - wanted]
        return added + gone

    def _put_routes_right(self, known: NetworkRecord, parent: Link, found: Link) -> list[Repair]:
        wanted = dict(self._routes(known, parent))
        held = {
            route.destination
            for route in self._netlink.routes(main_only=True)
            if route.device_index == found.index
            and route.protocol == OUR_PROTOCOL
            and route.destination is not None
        }
        batch = self._netlink.batch()
        repairs = []
        for destination, source in wanted.items():
            if destination not in held:
                batch.add_route(destination, device_index=found.index, source=source, exist_ok=True)
                repairs.append(Repair("route", f"{destination} dev {found.name}", "added"))
        for destination in held - wanted.keys():
            batch.delete_route(destination, device_index=found.index)
            repairs.append(Repair("route", f"{destination} dev {found.name}", "removed"))
        batch.commit()
        return repairs

    def _routes(self, known: NetworkRecord, parent: Link) -> Iterator[tuple[IPNetwork, IPAddress]]:
        """To each container that has joined, and the address that the host sends from."""
        sources = [(pool.pool, self._address(pool, parent)) for pool in _pools(known)]
        for interface in list(known.joined.values()):
            for address in (interface.address, interface.address_ipv6):
                for subnet, source in sources:
                    if address is not None and source is not None and address.ip in subnet:
                        yield _single(address.ip).network, source

    def _address(self, pool: IpamPool, parent: Link | None) -> IPAddress | None:
        """The host's address in a pool: reserved for it, or held on the parent."""
        reserved = pool.aux_addresses.get(HOST)
        if reserved is not None:
            return reserved.ip
        held = self._netlink.addresses(parent.index) if parent is not None else []
        return next((item.interface.ip for item in held if item.interface.ip in pool.pool), None)


def _name(known: NetworkRecord) -> str:
    return short_name(_PREFIX, known.spec.id)


def _mac(known: NetworkRecord) -> str:
    """Locally administered; the same for each making, so that containers keep what they know."""
    return ":".join(("0e", *(known.spec.id[at : at + 2] for at in range(0, 10, 2))))


def _pools(known: NetworkRecord) -> tuple[IpamPool, ...]:
    return (*known.spec.ipv4, *known.spec.ipv6)


def _single(address: IPAddress) -> IPInterface:
    return ip_interface(address)


def _settle(known: NetworkRecord) -> list[str]:
    """Settings that must stand before the link is up; those that had to be changed."""
    name = _name(known)
    wanted = {
        f"net/ipv4/conf/{name}/arp_filter": "1",
        f"net/ipv6/conf/{name}/accept_ra": "0",
        f"net/ipv6/conf/{name}/disable_ipv6": "0" if known.spec.enable_ipv6 else "1",
    }
    changed = []
    for key, value in wanted.items():
        try:
            if sysctl.read(key) != value:
                sysctl.write(key, value)
                changed.append(key)
        except KernelError as error:
            if error.errno != errno.ENOENT or known.spec.enable_ipv6:
                raise
    return changed
