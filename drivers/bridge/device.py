"""A network's Linux bridge: made, adopted, put right, removed.

A bridge of ours is called ``br-<12 digits of the network's id>`` or as
``com.docker.network.bridge.name`` says, carries the network's mark, and has a MAC address
derived from the id: a bridge without one of its own takes that of a port, which comes
and goes, and one made again after it was removed by hand keeps what neighbours know.

A bridge that stands already is adopted: nothing of it is changed but that it is up and
has the gateway's address, and it is never deleted. What we added must be known at the
end, across restarts, and the driver has no store. So the kernel keeps it: our addresses
carry our protocol number (IFA_PROTO, Linux 5.18; a label was left because only IPv4
addresses have one). An older kernel forgets the number, and the address then stays.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Interface

from cnm import labels
from cnm.drivers.bridge.options import GatewayMode, NetworkOptions
from cnm.drivers.reaper import Reaper
from cnm.errors import Forbidden, KernelError
from cnm.runtime.kernel import owner, sysctl
from cnm.runtime.kernel.netlink import OUR_PROTOCOL, Address, Link, Netlink
from cnm.types import IpamPool, IPInterface, NetworkID, NetworkSpec, Repair
from cnm.undo import Undo

_LINK_LOCAL = bytes.fromhex("fe80000000000000")  # RFC 4291, 2.5.6


@dataclass(frozen=True, slots=True)
class BridgePlan:
    """A bridge as it should be. ``mtu`` ``None``: the default route's when it is made."""

    network_id: NetworkID
    name: str
    mtu: int | None
    ipv6: bool
    addresses: tuple[IPInterface, ...]

    @property
    def mark(self) -> str:
        """The alias that says whose it is."""
        return owner.network_mark(self.network_id)

    @property
    def mac(self) -> str:
        """Locally administered; not ``02:42``, which containers have."""
        return ":".join(("0a", *(self.network_id[at : at + 2] for at in range(0, 10, 2))))

    @property
    def own_addresses(self) -> tuple[IPInterface, ...]:
        """What a bridge of ours has: for IPv6 also the link-local address of its MAC.

        The kernel would make it, but try for two seconds whether it is free (RFC 4862, 5.4).
        Until then nothing from outside gets in: it is the source when a router looks for
        a neighbour.
        """
        if not self.ipv6:
            return self.addresses
        high, low = bytes.fromhex(f"08{self.network_id[:4]}"), bytes.fromhex(self.network_id[4:10])
        identifier = high + b"\xff\xfe" + low  # RFC 4291, appendix A
        return (*self.addresses, IPv6Interface((_LINK_LOCAL + identifier, 64)))


@dataclass(frozen=True, slots=True)
class StrayAddress:
    """An address of ours that is left on a bridge of somebody else's."""

    bridge: str
    address: Address

    def __str__(self) -> str:
        return f"{self.address.interface} on {self.bridge}"


def plan(network: NetworkSpec, options: NetworkOptions) -> BridgePlan:
    """The bridge that a network with these options needs."""
    return BridgePlan(
        network.id,
        options.bridge_name or f"br-{network.id[:12]}",
        options.mtu,
        network.enable_ipv6,
        tuple(_gateways(network, options)),
    )


def _gateways(network: NetworkSpec, options: NetworkOptions) -> Iterator[IPInterface]:
    pools: list[IpamPool] = []
    if not options.inhibit_ipv4 and options.mode_ipv4 is not GatewayMode.ISOLATED:
        pools += network.ipv4
    if options.mode_ipv6 is not GatewayMode.ISOLATED:
        pools += network.ipv6
    for pool in pools:
        if pool.gateway is not None:
            yield pool.gateway


class Bridges:
    """The bridges of one namespace."""

    def __init__(self, netlink: Netlink, reaper: Reaper) -> None:
        self._netlink = netlink
        self._reaper = reaper

    def check(self, wanted: BridgePlan) -> None:
        """:raises Forbidden: the name is held by something that cannot be used."""
        found = self._netlink.link(wanted.name)
        if found is not None:
            _refuse_foreign(wanted, found)

    def ensure(self, wanted: BridgePlan) -> list[Repair]:
        """Make the bridge, or put right what differs in one that stands; what was done.

        :raises Forbidden: the name is held by something that cannot be used.
        """
        found = self._netlink.link(wanted.name)
        if found is None:
            self._create(wanted)
            return [Repair("link", wanted.name, "bridge created again")]
        _refuse_foreign(wanted, found)
        return self._put_right(wanted, found)

    def link(self, wanted: BridgePlan) -> Link:
        """:raises KernelError: ENODEV: the bridge is gone."""
        found = self._netlink.link(wanted.name)
        if found is None:
            raise KernelError(errno.ENODEV, f"bridge {wanted.name}")
        return found

    def is_adopted(self, wanted: BridgePlan) -> bool:
        """Whether it stands and is somebody else's."""
        found = self._netlink.link(wanted.name)
        return found is not None and found.alias != wanted.mark

    def delete(self, wanted: BridgePlan) -> None:
        """Remove our bridge, or our addresses from an adopted one. Already gone is success."""
        found = self._netlink.link(wanted.name)
        if found is None:
            return
        # the MAC tells one whose mark could not be set
        if found.alias == wanted.mark or found.mac == wanted.mac:
            self._reaper.delete(found.index)
            return
        batch = self._netlink.batch()
        for address in self._our_addresses(found):
            if address.interface in wanted.addresses:
                batch.delete_address(found.index, address.interface)
        batch.commit()

    def stray_addresses(self, known: Iterable[BridgePlan]) -> list[StrayAddress]:
        """Addresses of ours on adopted bridges that none of these plans has."""
        wanted = {
            (self._netlink.index(plan.name), address)
            for plan in known
            for address in plan.own_addresses
        }
        found = []
        for address in self._netlink.addresses():
            if address.protocol != OUR_PROTOCOL or (address.index, address.interface) in wanted:
                continue
            link = self._netlink.link(address.index)
            if link is not None and owner.parse(link.alias) is None:
                found.append(StrayAddress(link.name, address))
        return found

    def remove_stray_address(self, stray: StrayAddress) -> None:
        """Gone is success."""
        held = stray.address
        self._netlink.batch().delete_address(held.index, held.interface).commit()

    # making

    def _create(self, wanted: BridgePlan) -> None:
        """Addresses before it is up, and before both no router advertisements."""
        name = wanted.name
        with Undo() as undo:
            undo.push(self.delete, wanted)  # a batch may have come half-way
            # Made with another MTU: only a later change makes the kernel take one for chosen,
            # and not follow the smallest of the ports, nor go back to 1500 without any.
            mtu = wanted.mtu or self._netlink.outside_mtu()
            other = mtu + 1 if mtu < labels.MTU_MAX else mtu - 1
            self._netlink.batch().add_bridge(
                name, mac=wanted.mac, mtu=other, alias=wanted.mark
            ).set_link(name, mtu=mtu).commit()
            for key, value in _sysctls(wanted).items():
                _write_if_there(key, value, needed=wanted.ipv6)
            batch = self._netlink.batch()
            for address in wanted.own_addresses:
                batch.add_address(self.link(wanted).index, address, protocol=OUR_PROTOCOL)
            batch.set_link(name, up=True).commit()

    # putting right

    def _put_right(self, wanted: BridgePlan, found: Link) -> list[Repair]:
        repairs = []
        batch = self._netlink.batch()
        held = self._netlink.addresses(found.index)
        present = {address.interface for address in held}
        own = found.alias == wanted.mark
        addresses = wanted.own_addresses if own else wanted.addresses
        for missing in (item for item in addresses if item not in present):
            batch.add_address(found.index, missing, protocol=OUR_PROTOCOL, exist_ok=True)
            repairs.append(Repair("address", f"{missing} on {wanted.name}", "added again"))
        for address in held:
            if address.protocol == OUR_PROTOCOL and address.interface not in addresses:
                batch.delete_address(found.index, address.interface)
                repairs.append(
                    Repair("address", f"{address.interface} on {wanted.name}", "removed")
                )
        if own:
            repairs += self._put_own_right(wanted, found)
        if not found.up:
            batch.set_link(found.index, up=True)
            repairs.append(Repair("link", wanted.name, "set up again"))
        batch.commit()
        return repairs

    def _put_own_right(self, wanted: BridgePlan, found: Link) -> list[Repair]:
        repairs = []
        for key, value in _sysctls(wanted).items():
            if _write_if_there(key, value, needed=wanted.ipv6):
                repairs.append(Repair("sysctl", key, f"set to {value} again"))
        if wanted.mtu not in (None, found.mtu):
            self._netlink.batch().set_link(found.index, mtu=wanted.mtu).commit()
            repairs.append(Repair("link", wanted.name, f"MTU set to {wanted.mtu} again"))
        return repairs

    def _our_addresses(self, found: Link) -> list[Address]:
        return [
            address
            for address in self._netlink.addresses(found.index)
            if address.protocol == OUR_PROTOCOL
        ]


def _sysctls(wanted: BridgePlan) -> dict[str, str]:
    """Settings of a bridge of ours: no router is believed, and no IPv6 where none is wanted."""
    base = f"net/ipv6/conf/{wanted.name}"
    return {f"{base}/accept_ra": "0", f"{base}/disable_ipv6": "0" if wanted.ipv6 else "1"}


def _write_if_there(key: str, value: str, *, needed: bool) -> bool:
    """Whether it was changed. A kernel without IPv6 has none of these, nor needs them."""
    try:
        if sysctl.read(key) == value:
            return False
        sysctl.write(key, value)
    except KernelError as error:
        if needed or error.errno != errno.ENOENT:
            raise
        return False
    return True


def _refuse_foreign(wanted: BridgePlan, found: Link) -> None:
    mark = owner.parse(found.alias)
    if found.alias == wanted.mark or (found.kind == "bridge" and mark is None):
        return
    trouble = (
        f"bridge {found.name} belongs to {mark[0]} {mark[1]}"
        if found.kind == "bridge" and mark is not None
        else f"the host's link {found.name} is no bridge but {found.kind or 'a device'}"
    )
    raise Forbidden(
        f"cannot create network {wanted.network_id} ({wanted.name}): {trouble}; "
        f"choose another {labels.BRIDGE_NAME}"
    )
