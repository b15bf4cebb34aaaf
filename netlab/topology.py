"""Switches, links, addresses and routes: what the lab file wants against what the kernel has.

:func:`ensure` makes what is missing and leaves what is there: it is ``up`` the first time, and the
mending ``up`` the second. Links carry the lab's mark; an interface that has the name but not the
mark is somebody else's, and refused. What was added by hand stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from socket import AF_INET

from cnm.netlab import marks, model
from cnm.netlab.errors import LabError
from cnm.netlab.model import End, Host, Lab, Switch
from cnm.runtime.kernel.netlink import Batch, Netlink
from cnm.runtime.kernel.netlink import Link as Device
from cnm.runtime.kernel.netns import NetNS
from cnm.types import IPInterface, IPNetwork

_STATIC = 4  # RTPROT_STATIC: routes of protocol 196 are the cnm daemon's own
_FORWARD_DELAY_S = 2  # the least of 802.1D; a port of a ring of switches works after 4 s
_DEFAULT_VLAN = 1  # where the kernel puts a port that nobody configures
_WORLD: Mapping[int, IPNetwork] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


def ensure(lab: Lab, spaces: Mapping[str, NetNS], done: Callable[[], None]) -> list[str]:
    """Make what is missing; names of what was made. ``done`` is called after each link.

    ``spaces`` are the namespaces of all hosts, and of the switches under that name.

    :raises LabError: an interface is in the way.
    :raises KernelError: the kernel refused.
    """
    return _Work(lab, spaces).ensure(done)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a namespace has before anything is made."""

    netlink: Netlink
    devices: Mapping[str, Device]


class _Work:
    def __init__(self, lab: Lab, spaces: Mapping[str, NetNS]) -> None:
        self._lab = lab
        self._spaces = spaces
        self._switches = {switch.name: switch for switch in lab.switches}
        self._seen = {name: _look(space) for name, space in spaces.items()}
        self._made: list[str] = []

    def ensure(self, done: Callable[[], None]) -> list[str]:
        self._ensure_switches()
        fresh = {link.name for link in self._lab.links if self._ensure_link(link)}
        for link in self._lab.links:
            for end in link.ends:
                self._ensure_end(link, end, fresh=link.name in fresh)
            done()
        for host in self._lab.hosts:
            self._ensure_routes(host)
        return self._made

    # switches

    def _ensure_switches(self) -> None:
        for switch in self._lab.switches:
            device = self._seen[model.SWITCHES].devices.get(switch.name)
            if device is None:
                self._add_switch(switch)
            elif not device.up:
                self._netlink(switch.name).batch().set_link(device.index, up=True).commit()

    def _add_switch(self, switch: Switch) -> None:
        batch = self._netlink(switch.name).batch()
        batch.add_bridge(
            switch.name,
            alias=marks.link_mark(self._lab.name, switch.name),
            up=True,
            multicast_snooping=False,  # a plain switch: everything reaches everybody
            vlan_filtering=switch.filtering,
            forward_delay_s=_FORWARD_DELAY_S if switch.stp else None,
        )
        batch.commit()
        self._made.append(f"switch {switch.name}")

    # links

    def _ensure_link(self, link: model.Link) -> bool:
        """Whether it had to be made."""
        found = [self._device(link, end) for end in link.ends]
        if all(found) and _are_peers(*found):
            return False
        for end, device in zip(link.ends, found, strict=True):
            if device is not None:  # the other end went with its namespace, or is about to
                self._netlink(end.node).delete_links([device.index])
        self._add_link(link)
        self._made.append(f"link {link.name}")
        return True

    def _add_link(self, link: model.Link) -> None:
        near, far = link.ends
        if far.node in self._switches:
            near, far = far, near  # made at the port, which then is in its bridge at once
        space = self._space(near.node)
        same = self._space(far.node) is space
        mark = marks.link_mark(self._lab.name, link.name)
        batch = space.netlink().batch()
        batch.add_veth(
            near.interface,
            peer_name=far.interface,
            peer_ns_fd=None if same else self._space(far.node).fd,
            mac=self._mac(near),
            mac_peer=self._mac(far),
            mtu=link.mtu,
            master=self._bridge(near),
            alias=mark,
            peer_alias=mark if same else "",
        )
        batch.commit()

    def _device(self, link: model.Link, end: End) -> Device | None:
        device = self._seen[self._place(end.node)].devices.get(end.interface)
        if device is None or device.alias == marks.link_mark(self._lab.name, link.name):
            return device
        if not device.alias and device.kind == "veth" and end.node in self._switches:
            return device  # nobody else works there: killed between making and marking it
        if not device.alias and self._is_half_made(link, end, device):
            return device
        raise LabError(
            f'{end.node} has an interface "{end.interface}" that is not the lab\'s: remove it'
        )

    def _is_half_made(self, link: model.Link, end: End, device: Device) -> bool:
        """Whether it is the peer of a marked end: the peer gets its mark a moment later."""
        other = link.ends[1] if end is link.ends[0] else link.ends[0]
        peer = self._seen[self._place(other.node)].devices.get(other.interface)
        return peer is not None and _are_peers(device, peer)

    # ends

    def _ensure_end(self, link: model.Link, end: End, *, fresh: bool) -> None:
        netlink = self._netlink(end.node)
        device = netlink.link(end.interface)
        if device is None:
            raise LabError(f"link {link.name} went while the lab was brought up: try again")
        batch = netlink.batch()
        self._settle(batch, link, end, device)
        if end.node in self._switches:
            self._settle_port(batch, end, device, fresh)
        else:
            self._add_missing(batch, netlink, device.index, end.addresses)
        batch.commit()
        for sub in end.subinterfaces:
            self._ensure_subinterface(netlink, link, device.index, sub)

    def _settle(self, batch: Batch, link: model.Link, end: End, device: Device) -> None:
        mark = marks.link_mark(self._lab.name, link.name)
        mac = self._mac(end)
        wrong_mac = mac is not None and device.mac != mac
        wrong_mtu = link.mtu is not None and device.mtu != link.mtu
        if device.alias != mark or not device.up or wrong_mac or wrong_mtu:
            batch.set_link(
                device.index,
                up=True,
                alias=mark,
                mac=mac if wrong_mac else None,
                mtu=link.mtu if wrong_mtu else None,
            )

    def _settle_port(self, batch: Batch, end: End, device: Device, fresh: bool) -> None:
        bridge = self._bridge(end)
        moved = device.master != bridge
        if moved:
            batch.set_link(device.index, master=bridge)
        if not self._switches[end.node].filtering or not (fresh or moved):
            return
        if end.access or end.trunk:
            batch.delete_port_vlan(device.index, _DEFAULT_VLAN)
        if end.access:
            batch.add_port_vlan(device.index, end.access, untagged=True)
        for vlan in end.trunk:
            batch.add_port_vlan(device.index, vlan, untagged=False)

    def _ensure_subinterface(
        self, netlink: Netlink, link: model.Link, parent: int, sub: model.Subinterface
    ) -> None:
        if netlink.index(sub.name) is None:
            mark = marks.link_mark(self._lab.name, link.name)
            netlink.batch().add_vlan(sub.name, parent=parent, vlan=sub.vlan, alias=mark).commit()
            self._made.append(f"interface {sub.name}")
        batch = netlink.batch()
        index = netlink.index(sub.name)
        assert index is not None
        self._add_missing(batch, netlink, index, sub.addresses)
        batch.set_link(index, up=True).commit()

    def _add_missing(
        self, batch: Batch, netlink: Netlink, index: int, wanted: Sequence[IPInterface]
    ) -> None:
        if not wanted:
            return
        there = {address.interface for address in netlink.addresses(index)}
        for address in wanted:
            if address not in there:
                batch.add_address(index, address, broadcast=True)

    # routes

    def _ensure_routes(self, host: Host) -> None:
        if not host.routes:
            return
        netlink = self._netlink(host.name)
        there = {
            (route.destination or _WORLD[4 if route.family == AF_INET else 6], route.gateway)
            for route in netlink.routes(main_only=True)
        }
        batch = netlink.batch()
        for route in host.routes:
            destination = route.destination
            if destination is None and route.gateway is not None:
                destination = _WORLD[route.gateway.version]
            if (destination, route.gateway) in there:
                continue
            batch.add_route(
                route.destination,
                gateway=route.gateway,
                device_index=self._way_out(host, route),
                protocol=_STATIC,
                metric=route.metric,
            )
        batch.commit()

    def _way_out(self, host: Host, route: model.Route) -> int:
        """Index of the interface that a route leaves by."""
        for name in _candidates(self._lab, host, route):
            index = self._netlink(host.name).index(name)
            if index is not None:
                return index
        raise LabError(f"{host.name}: no interface leads to {route.gateway or route.destination}")

    # places

    def _place(self, node: str) -> str:
        return model.SWITCHES if node in self._switches else node

    def _space(self, node: str) -> NetNS:
        return self._spaces[self._place(node)]

    def _netlink(self, node: str) -> Netlink:
        return self._seen[self._place(node)].netlink

    def _mac(self, end: End) -> str | None:
        """What the file says, else always the same: neighbours know a link that was made again."""
        if end.node in self._switches:
            return None
        return end.mac or f"02:{hashlib.sha256(str(end).encode()).digest()[:5].hex(':')}"

    def _bridge(self, end: End) -> int | None:
        """Index of the bridge that an end is a port of."""
        return self._netlink(end.node).index(end.node) if end.node in self._switches else None


def _look(space: NetNS) -> _Seen:
    netlink = space.netlink()
    return _Seen(netlink, {device.name: device for device in netlink.links()})


def _are_peers(*devices: Device | None) -> bool:
    one, other = devices
    return (
        one is not None
        and other is not None
        and one.peer_index == other.index
        and other.peer_index == one.index
    )


def _candidates(lab: Lab, host: Host, route: model.Route) -> Iterator[str]:
    if route.interface is not None:
        yield route.interface
        return
    for _, end in lab.links_of(host.name):
        named = {end.interface: end.addresses}
        named.update({sub.name: sub.addresses for sub in end.subinterfaces})
        for name, addresses in named.items():
            if any(route.gateway in address.network for address in addresses):
                yield name
