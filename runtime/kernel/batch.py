"""Batches: many changes of links, addresses and routes, sent to the kernel at once."""

from __future__ import annotations

import errno
from typing import Protocol

from cnm.errors import KernelError
from cnm.runtime.kernel import messages
from cnm.runtime.kernel.encode import Attributes
from cnm.runtime.kernel.messages import OUR_PROTOCOL
from cnm.runtime.kernel.rtsocket import Request, RouteSocket
from cnm.runtime.kernel.upper import Upper
from cnm.types import IPAddress, IPInterface, IPNetwork

_EXISTS = frozenset({errno.EEXIST})
_LINK_GONE = frozenset({errno.ENODEV})
_ADDRESS_GONE = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})
_VLAN_GONE = frozenset({errno.ENOENT})
_USER_HZ = 100  # what clock_t of a bridge's attributes counts in, whatever the kernel's HZ
_ROUTE_GONE = frozenset({errno.ESRCH, errno.ENODEV, errno.ENETUNREACH})


class IndexLookup(Protocol):
    """Finds the index of a link by its name."""

    def __call__(self, name: str) -> int | None: ...


class Batch:
    """Changes that :meth:`commit` sends in one system call (in chunks of 128).

    The kernel carries them out in order and does not stop at one that it refuses:
    those behind it are still tried. A caller that must leave nothing behind pushes
    the inverse of the whole batch before it commits, or commits in steps.

    Links may be given by name, one made earlier in the same batch too; addresses and
    routes need an index.
    """

    def __init__(self, route_socket: RouteSocket, index: IndexLookup) -> None:
        self._socket = route_socket
        self._index = index
        self._requests: list[Request] = []

    def commit(self) -> None:
        """Send everything; an empty batch costs nothing. The batch is empty afterwards.

        :raises KernelError: the first refusal; the others are attached as notes.
        """
        requests, self._requests = self._requests, []
        if not requests:
            return
        failures = self._socket.execute(requests)
        if failures:
            for other in failures[1:]:
                failures[0].add_note(str(other))
            raise failures[0]

    def add_bridge(
        self,
        name: str,
        *,
        mac: str | None = None,
        mtu: int | None = None,
        alias: str = "",
        up: bool = False,
        multicast_snooping: bool | None = None,
        vlan_filtering: bool = False,
        forward_delay_s: int | None = None,
    ) -> Batch:
        """A new bridge; EEXIST when the name is taken.

        ``forward_delay_s`` (2 to 30) makes it take part in a spanning tree (802.1D): a port
        forwards after twice that time.
        """
        data: Attributes = []
        if multicast_snooping is not None:
            data.append(("IFLA_BR_MCAST_SNOOPING", int(multicast_snooping)))
        if vlan_filtering:
            data.append(("IFLA_BR_VLAN_FILTERING", 1))
        if forward_delay_s is not None:
            data.append(("IFLA_BR_FORWARD_DELAY", forward_delay_s * _USER_HZ))
            data.append(("IFLA_BR_STP_STATE", 1))
        attrs = _settings(name=name, mac=mac, mtu=mtu)
        self._add(messages.new_link("bridge", attrs, data, up=up), f"link add {name}")
        return self._mark(name, alias)

    def add_veth(
        self,
        name: str,
        *,
        peer_name: str,
        peer_ns_fd: int | None,
        mac_peer: str | None = None,
        mac: str | None = None,
        mtu: int | None = None,
        master: int | None = None,
        alias: str = "",
        peer_alias: str = "",
        up: bool = True,
        group: int = 0,
    ) -> Batch:
        """A new veth pair in one message: the peer is made where it is to be, down.

        ``up``, ``master``, ``alias`` and ``group`` are of the end that is here. The kernel
        takes no alias in this message, nor one for a link of another namespace: with
        ``peer_ns_fd``, mark the peer through the netlink of that namespace.

        :raises ValueError: ``peer_alias`` together with ``peer_ns_fd``.
        """
        if peer_alias and peer_ns_fd is not None:
            raise ValueError("set the alias of a peer elsewhere with NetNS.netlink().batch()")
        peer = _settings(name=peer_name, mac=mac_peer, mtu=mtu, net_ns_fd=peer_ns_fd)
        attrs = _settings(name=name, mac=mac, mtu=mtu, master=master, group=group or None)
        data: Attributes = [("VETH_INFO_PEER", peer)]
        self._add(messages.new_link("veth", attrs, data, up=up), f"link add {name}")
        return self._mark(name, alias)._mark(peer_name, peer_alias)

    def add_vlan(
        self, name: str, *, parent: int, vlan: int, alias: str = "", up: bool = True
    ) -> Batch:
        """A new 802.1Q link on top of another one; EOPNOTSUPP: the kernel has none."""
        info: Attributes = [("IFLA_IFNAME", name), ("IFLA_LINK", parent)]
        data: Attributes = [("IFLA_VLAN_ID", vlan)]
        self._add(messages.new_link("vlan", info, data, up=up), f"link add {name}")
        return self._mark(name, alias)

    def add_upper(
        self,
        name: str,
        upper: Upper,
        *,
        parent: int,
        ns_fd: int | None = None,
        mac: str | None = None,
        mtu: int | None = None,
        alias: str = "",
        up: bool = False,
        group: int = 0,
    ) -> Batch:
        """A new macvlan or ipvlan on top of another link, at once in another namespace if given.

        The kernel takes no alias for a link of another namespace: with ``ns_fd``, mark it
        through the netlink of that namespace; ``group`` is set in the same message.

        :raises ValueError: ``alias`` together with ``ns_fd``.
        """
        if alias and ns_fd is not None:
            raise ValueError("set the alias of a link elsewhere with NetNS.netlink().batch()")
        attrs = _settings(name=name, mac=mac, mtu=mtu, net_ns_fd=ns_fd, group=group or None)
        attrs.append(("IFLA_LINK", parent))
        data = upper.attributes()
        self._add(messages.new_link(upper.kind, attrs, data, up=up), f"link add {name}")
        return self._mark(name, alias)

    def add_bare(
        self, name: str, kind: str, *, mac: str | None = None, alias: str = "", up: bool = True
    ) -> Batch:
        """A new link of a kind that needs no more (dummy, ifb); EOPNOTSUPP: unknown kind."""
        attrs = _settings(name=name, mac=mac)
        self._add(messages.new_link(kind, attrs, [], up=up), f"link add {name}")
        return self._mark(name, alias)

    def add_port_vlan(self, index: int, vlan: int, *, untagged: bool) -> Batch:
        """Let a VLAN pass a port of a filtering bridge; again is fine."""
        data = messages.add_port_vlan(index, vlan, untagged=untagged)
        return self._add(data, f"bridge vlan add {vlan} to port {index}")

    def delete_port_vlan(self, index: int, vlan: int) -> Batch:
        """Keep a VLAN from a port of a filtering bridge; it was kept already: fine."""
        data = messages.delete_port_vlan(index, vlan)
        return self._add(data, f"bridge vlan delete {vlan} of port {index}", _VLAN_GONE)

    def set_link(
        self,
        link: int | str,
        *,
        up: bool | None = None,
        master: int | None = None,
        mtu: int | None = None,
        mac: str | None = None,
        alias: str | None = None,
        name: str | None = None,
        group: int | None = None,
        net_ns_fd: int | None = None,
        missing_ok: bool = False,
    ) -> Batch:
        """Change a link: ``master=0`` releases it, ``name`` renames it, ``net_ns_fd`` moves it.

        A link that is renamed must exist already, and be down on kernels before 6.2.
        """
        what = f"link set {link}"
        if name is not None and isinstance(link, str):
            link = self._known(link, what)
        index, attrs = messages.link_target(link)
        attrs += _settings(
            name=name,
            mac=mac,
            mtu=mtu,
            master=master,
            alias=alias,
            group=group,
            net_ns_fd=net_ns_fd,
        )
        fine = _LINK_GONE if missing_ok else frozenset()
        return self._add(messages.set_link(index, attrs, up), what, fine)

    def set_upper(self, index: int, upper: Upper) -> Batch:
        """Put a macvlan or ipvlan into a mode; EINVAL: into or out of passthru."""
        data = messages.change_link(index, upper.kind, upper.attributes())
        return self._add(data, f"link set {index} mode {upper.mode}")

    def set_hairpin(self, index: int, *, on: bool) -> Batch:
        """Of a bridge's port: whether frames may go back there. A link that is gone is fine."""
        what = f"bridge link set {index} hairpin {'on' if on else 'off'}"
        return self._add(messages.set_port_hairpin(index, on=on), what, _LINK_GONE)

    def delete_link(self, link: int | str) -> Batch:
        """Remove a link (a veth with its peer). Already gone is success."""
        return self._add(messages.delete_link(link), f"link delete {link}", _LINK_GONE)

    def delete_link_group(self, group: int) -> Batch:
        """Remove all links of a group in one kernel operation. None is success."""
        what = f"link delete group {group}"
        return self._add(messages.delete_link_group(group), what, _LINK_GONE)

    def add_address(
        self,
        index: int,
        interface: IPInterface,
        *,
        nodad: bool = True,
        exist_ok: bool = False,
        broadcast: bool = False,
        protocol: int = 0,
    ) -> Batch:
        """An address for a link. ``nodad`` (IPv6 only): usable at once.

        ``protocol`` (IFA_PROTO, Linux 5.18; older ones ignore it): who made it.
        """
        data = messages.new_address(
            index, interface, nodad=nodad, broadcast=broadcast, protocol=protocol
        )
        fine = _EXISTS if exist_ok else frozenset()
        return self._add(data, f"address add {interface} to link {index}", fine)

    def delete_address(self, index: int, interface: IPInterface) -> Batch:
        """Take an address away. Already gone is success."""
        data = messages.delete_address(index, interface)
        return self._add(data, f"address delete {interface} of link {index}", _ADDRESS_GONE)

    def add_route(
        self,
        destination: IPNetwork | None,
        *,
        device_index: int,
        gateway: IPAddress | None = None,
        protocol: int = OUR_PROTOCOL,
        on_link: bool = False,
        exist_ok: bool = False,
        replace: bool = False,
        metric: int | None = None,
        source: IPAddress | None = None,
    ) -> Batch:
        """A route in the main table; ``None`` is the default route of the gateway's family.

        ``on_link``: the gateway is on the link even if no address of ours covers it.
        ``source``: the address that packets are sent from, if the sender does not care.
        """
        data = messages.new_route(
            destination,
            gateway,
            device_index,
            family=messages.family_of(destination, gateway),
            protocol=protocol,
            on_link=on_link,
            replace=replace,
            metric=metric,
            source=source,
        )
        fine = _EXISTS if exist_ok else frozenset()
        return self._add(data, f"route add {_route_text(destination, gateway)}", fine)

    def delete_route(
        self,
        destination: IPNetwork | None,
        *,
        device_index: int = 0,
        gateway: IPAddress | None = None,
        protocol: int = OUR_PROTOCOL,
        metric: int | None = None,
    ) -> Batch:
        """Remove one route of that protocol (0: of any). Already gone is success."""
        data = messages.delete_route(
            destination,
            gateway,
            device_index,
            family=messages.family_of(destination, gateway),
            protocol=protocol,
            metric=metric,
        )
        return self._add(data, f"route delete {_route_text(destination, gateway)}", _ROUTE_GONE)

    def _known(self, name: str, what: str) -> int:
        """A message that renames cannot name its link: IFLA_IFNAME is the new name."""
        index = self._index(name)
        if index is None:
            raise KernelError(errno.ENODEV, what)
        return index

    def _mark(self, name: str, alias: str) -> Batch:
        """The kernel ignores an alias in the message that makes a link: a second one."""
        return self.set_link(name, alias=alias) if alias else self

    def _add(self, data: bytes, what: str, fine: frozenset[int] = frozenset()) -> Batch:
        self._requests.append(Request(data, what, fine))
        return self


def _settings(
    *,
    name: str | None = None,
    mac: str | None = None,
    mtu: int | None = None,
    master: int | None = None,
    alias: str | None = None,
    group: int | None = None,
    net_ns_fd: int | None = None,
) -> Attributes:
    """Attributes of a link for what is given."""
    values = {
        "IFLA_IFNAME": name,
        "IFLA_ADDRESS": mac,
        "IFLA_MTU": mtu,
        "IFLA_MASTER": master,
        "IFLA_IFALIAS": alias,
        "IFLA_GROUP": group,
        "IFLA_NET_NS_FD": net_ns_fd,
    }
    return [(key, value) for key, value in values.items() if value is not None]


def _route_text(destination: IPNetwork | None, gateway: IPAddress | None) -> str:
    via = f" via {gateway}" if gateway is not None else ""
    return f"{destination or 'default'}{via}"
