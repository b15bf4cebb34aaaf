"""What happens inside a sandbox: addresses, routes, IPv6 settings, loopback.

Implements ``cnm.sandboxapi`` on network namespaces. Links are made by drivers (in place)
or moved in here; nothing foreign in an adopted namespace is changed, but for the
loopback interface, which is brought up with the first endpoint and given back as it was.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import IPv4Interface, ip_network
from pathlib import Path
from socket import AF_INET, AF_INET6
from types import TracebackType
from typing import TypeVar

from cnm.errors import Forbidden, InvalidParameter, KernelError, NotFound, SandboxGone
from cnm.idmap import IdMap
from cnm.runtime.kernel import owner, pin, sysctl
from cnm.runtime.kernel.announce import Announcer
from cnm.runtime.kernel.interior import Interior
from cnm.runtime.kernel.netlink import OUR_PROTOCOL, Netlink, Route
from cnm.runtime.kernel.netns import NetNS, own_cookie
from cnm.sandboxapi import DefaultRoute, PlacedInterface
from cnm.types import (
    EndpointInterface,
    IPAddress,
    IPInterface,
    IPNetwork,
    JoinInfo,
    NamespaceIdentity,
    Repair,
    SandboxKey,
    SandboxRecord,
    StaticRoute,
)
from cnm.undo import Undo

log = logging.getLogger(__name__)

T = TypeVar("T")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_OWN_NAMESPACE = "/proc/thread-self/ns/net"
_MOVED = "cnm:moved:"  # alias of a link that was moved in: the name it had outside
# open(2) of a mount point or process that is no more, or that is no namespace any more
_GONE = (errno.ENOENT, errno.ESRCH, errno.ENOTDIR, errno.EINVAL)
_LOOPBACK = "lo"
_EVERYWHERE: dict[int, IPNetwork] = {
    AF_INET: ip_network("0.0.0.0/0"),
    AF_INET6: ip_network("::/0"),
}
_LOOPBACK_ADDRESS = IPv4Interface("127.0.0.1/8")
# as Docker's: nothing in a container needs root for low ports and ping
_OWN_SYSCTLS = {
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
}


class NamespaceSandboxes:
    """Finds and opens sandboxes: ``cnm.sandboxapi.SandboxProvider``."""

    def __init__(self) -> None:
        self._announcer = Announcer()

    def close(self) -> None:
        """End the announcements that are still due."""
        self._announcer.close()

    def identify(self, key: SandboxKey) -> tuple[NamespaceIdentity, bool]:
        """Identity of the namespace at a path, and whether its loopback is up."""
        try:
            with NetNS(key) as namespace:
                cookie = namespace.cookie()
                loopback = namespace.netlink().link(_LOOPBACK)
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ESRCH, errno.ENOTDIR):
                raise NotFound(f"no network namespace at {key}: no such file") from error
            if error.errno == errno.EINVAL:
                raise InvalidParameter(f"{key} is not a network namespace") from error
            raise
        if cookie == own_cookie():
            raise InvalidParameter(f"{key} is the daemon's own network namespace")
        return NamespaceIdentity(cookie), loopback is not None and loopback.up

    def host_identity(self) -> str:
        """Boot id and own namespace's cookie: another after a boot of the (lab) host."""
        return f"{_BOOT_ID.read_text().strip()}/{own_cookie()}"

    def open(self, record: SandboxRecord, *, joining: bool = False) -> NamespaceSandbox:
        """:raises SandboxGone: the namespace is gone, or another one is at its path."""
        interior = Interior(self._announcer.discard)
        try:
            namespace = NetNS(
                record.key, expect=record.identity, visit=interior.open if joining else None
            )
        except KernelError as error:
            if error.errno not in _GONE:
                raise  # too many open files, say: that tells nothing of the namespace
            raise SandboxGone(
                f"the network namespace of container {record.name} ({record.key}) is gone"
            ) from error
        except SandboxGone:
            interior.close()
            raise
        return NamespaceSandbox(record, namespace, interior, self._announcer)

    # namespaces of our own

    def create(self, key: SandboxKey, ids: IdMap | None = None) -> NamespaceIdentity:
        """A new namespace, pinned at ``key``. :raises KernelError: nothing is left behind."""
        return pin.create(key, _prepare_own, ids)

    def keep(self, record: SandboxRecord, pid: int) -> bool:
        """Pin a namespace again, by a process that lives in it; False: it is there.

        A daemon that ran in a mount namespace of its own (``ip netns exec`` makes one) took its
        pins along. :raises SandboxGone: the process is in another namespace, or gone.
        """
        try:
            with self.open(record):
                return False
        except SandboxGone:
            source = f"/proc/{pid}/ns/net"
        try:
            with NetNS(source, expect=record.identity):
                pin.again(record.key, source)
        except KernelError as error:
            raise SandboxGone(
                f"the network namespace of container {record.name} is gone"
            ) from error
        return True

    def remove(self, key: SandboxKey) -> None:
        """Undo :meth:`create`. Gone is success."""
        pin.remove(key)

    def created(self, folder: str) -> Collection[SandboxKey]:
        """What lies in ``folder``, mounted or not."""
        path = Path(folder)
        return [SandboxKey(str(item)) for item in path.iterdir()] if path.is_dir() else []


class NamespaceSandbox:
    """One open namespace: ``cnm.sandboxapi.Sandbox``."""

    def __init__(
        self, record: SandboxRecord, namespace: NetNS, interior: Interior, announcer: Announcer
    ) -> None:
        self._record = record
        self._namespace = namespace
        self._interior = interior
        self._announcer = announcer

    @property
    def key(self) -> SandboxKey:
        """Path of the namespace."""
        return self._record.key

    def __enter__(self) -> NamespaceSandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._interior.close()
        finally:
            self._namespace.close()

    def run(self, fn: Callable[[], T]) -> T:
        """Call ``fn`` inside."""
        return self._namespace.run(fn)

    def has_interface(self, name: str) -> bool:
        """Whether a name is in use, a foreign one too."""
        return self._namespace.netlink().index(name) is not None

    # interfaces

    def add_interface(self, join: JoinInfo, interface: EndpointInterface) -> str:
        """Configure (move first, if not placed) an interface and announce it; its final name."""
        with Undo() as undo:
            if not join.placed:
                self._move_in(join)
                undo.push(self.remove_interface, join.interface_name)
            index = self._index(join.interface_name)
            settings = _ipv6_settings(interface)
            self._inside().set_ipv6(join.interface_name, settings)
            batch = self._namespace.netlink().batch().set_link(_LOOPBACK, up=True)
            if join.placed and join.mark:
                batch.set_link(index, alias=join.mark)
            if not join.placed and interface.mac:
                batch.set_link(index, mac=interface.mac)
            for address in _addresses(interface):
                batch.add_address(index, address, exist_ok=True, broadcast=address.version == 4)
            batch.set_link(index, up=True)
            for route in _specific(join.static_routes):
                batch.add_route(
                    route.destination, gateway=route.next_hop, device_index=index, exist_ok=True
                )
            batch.commit()
        self._announce(join.interface_name, interface)
        return join.interface_name

    def remove_interface(self, name: str) -> None:
        """Move a link that was moved in back to where it came from, under its old name, down."""
        netlink = self._namespace.netlink()
        link = netlink.link(name)
        if link is None or not link.alias.startswith(_MOVED):
            return
        source = link.alias.removeprefix(_MOVED)
        with NetNS(_OWN_NAMESPACE) as host:
            batch = netlink.batch().set_link(link.index, up=False)
            batch.set_link(link.index, net_ns_fd=host.fd, name=source, alias="").commit()

    def remove_address(self, name: str, address: IPInterface) -> None:
        """Take an address off an interface; one that is not there is success."""
        netlink = self._namespace.netlink()
        if (index := netlink.index(name)) is not None:
            netlink.batch().delete_address(index, address).commit()

    def remove_routes(self, name: str, routes: Collection[StaticRoute]) -> None:
        """Take static routes off an interface; what is not there is success."""
        netlink = self._namespace.netlink()
        if (index := netlink.index(name)) is not None:
            batch = netlink.batch()
            for route in routes:
                batch.delete_route(route.destination, device_index=index, gateway=route.next_hop)
            batch.commit()

    def _move_in(self, join: JoinInfo) -> None:
        alias = f"{_MOVED}{join.source_name}"
        present = self._namespace.netlink().link(join.interface_name)
        if present is not None:
            if present.alias == alias:
                return  # moved by an earlier call
            # The kernel would notice only after the move, and leave the link here.
            raise KernelError(errno.EEXIST, f"link {join.interface_name} in {self._record.name}")
        with Netlink() as host:
            self._refuse_foreign(host, join.source_name)
            host.batch().set_link(
                join.source_name,
                net_ns_fd=self._namespace.fd,
                name=join.interface_name,
                alias=alias,
            ).commit()

    def _refuse_foreign(self, host: Netlink, name: str) -> None:
        """A plugin names a link that it made: bare, and not one of ours.

        :raises KernelError: there is no such link.
        :raises Forbidden: the host, or a network, uses it.
        """
        link = host.link(name)
        if link is None:
            raise KernelError(errno.ENODEV, f"link {name}, to be moved into {self._record.name}")
        addressed = any(not item.interface.is_link_local for item in host.addresses(link.index))
        if addressed or owner.parse(link.alias) is not None or name == _LOOPBACK:
            raise Forbidden(f"link {name} is in use on this host: it is not moved")

    def _index(self, name: str) -> int:
        index = self._namespace.netlink().index(name)
        if index is None:
            raise KernelError(errno.ENODEV, f"link {name} in {self._record.name}")
        return index

    def _announce(self, name: str, interface: EndpointInterface) -> None:
        if interface.mac and _addresses(interface):
            sender = self._inside().take_sender(name)
            self._announcer.announce(sender, interface.mac, _addresses(interface))

    def _inside(self) -> Interior:
        if not self._interior.is_open:
            self._namespace.run(self._interior.open)
        return self._interior

    # default routes

    def set_default_gateway(
        self, v4: DefaultRoute | None, v6: DefaultRoute | None, *, v6_too: bool = True
    ) -> None:
        """Make these the default routes of ours; ``None`` removes ours of that family.

        ``v6_too``: without, IPv6 is not looked at: it has none, and is to have none.
        """
        self._default_routes({AF_INET: v4, AF_INET6: v6} if v6_too else {AF_INET: v4})

    def _default_routes(self, wanted: Mapping[int, DefaultRoute | None]) -> list[Repair]:
        netlink = self._namespace.netlink()
        present = netlink.routes(main_only=True, families=list(wanted))
        repairs: list[Repair] = []
        for family, route in wanted.items():
            routes = [
                item for item in present if item.family == family and item.destination is None
            ]
            repairs += self._default_route(netlink, family, routes, route)
        return repairs

    def _default_route(
        self,
        netlink: Netlink,
        family: int,
        present: list[Route],
        wanted: DefaultRoute | None,
    ) -> list[Repair]:
        ours = [route for route in present if route.protocol == OUR_PROTOCOL]
        if wanted is None:
            return self._remove_routes(netlink, ours)
        if len(present) > len(ours):
            log.info("container %s keeps the default route that it had", self._record.name)
            return self._remove_routes(netlink, ours)
        index = self._index(wanted.interface_name)
        if [(route.device_index, route.gateway) for route in ours] == [(index, wanted.gateway)]:
            return []
        self._remove_routes(netlink, ours[1:])
        everywhere = None if wanted.gateway is not None else _EVERYWHERE[family]
        netlink.batch().add_route(
            everywhere, gateway=wanted.gateway, device_index=index, replace=bool(ours)
        ).commit()
        return [Repair("route", _default_text(wanted.gateway, wanted.interface_name), "set again")]

    def _remove_routes(self, netlink: Netlink, routes: Sequence[Route]) -> list[Repair]:
        batch = netlink.batch()
        for route in routes:
            batch.delete_route(
                None if route.gateway is not None else _EVERYWHERE[route.family],
                device_index=route.device_index,
                gateway=route.gateway,
                metric=route.metric,
            )
        batch.commit()
        return [Repair("route", _default_text(route.gateway, ""), "removed") for route in routes]

    # repair and farewell

    def repair(
        self,
        interfaces: Sequence[PlacedInterface],
        v4: DefaultRoute | None,
        v6: DefaultRoute | None,
    ) -> Sequence[Repair]:
        """Bring addresses, routes and link states to what they should be."""
        repairs: list[Repair] = []
        missing = set()
        for item in interfaces:
            if self.has_interface(item.join.interface_name):
                repairs += self._repair_interface(item)
            else:
                missing.add(item.join.interface_name)
        v4 = None if v4 and v4.interface_name in missing else v4
        v6 = None if v6 and v6.interface_name in missing else v6
        return repairs + self._default_routes({AF_INET: v4, AF_INET6: v6})

    def _repair_interface(self, item: PlacedInterface) -> list[Repair]:
        netlink, name = self._namespace.netlink(), item.join.interface_name
        link = netlink.link(name)
        if link is None:
            return []
        repairs: list[Repair] = []
        folder = f"net/ipv6/conf/{name}"
        settings = {f"{folder}/{k}": v for k, v in _ipv6_settings(item.interface).items()}
        if self._namespace.run(lambda: _write_settings(settings)):
            repairs.append(Repair("sysctl", f"IPv6 of {name}", "set again"))
        present = {address.interface for address in netlink.addresses(link.index)}
        batch = netlink.batch()
        for address in _addresses(item.interface):
            if address not in present:
                batch.add_address(
                    link.index, address, exist_ok=True, broadcast=address.version == 4
                )
                repairs.append(Repair("address", f"{address} on {name}", "added again"))
        if not link.up:
            batch.set_link(link.index, up=True)
            repairs.append(Repair("link", name, "up again"))
        batch.commit()
        repairs += self._repair_routes(netlink, link.index, _specific(item.join.static_routes))
        if repairs:
            self._announce(name, item.interface)
        return repairs

    def _repair_routes(
        self, netlink: Netlink, index: int, wanted: Sequence[StaticRoute]
    ) -> list[Repair]:
        if not wanted:
            return []
        present = {(route.destination, route.gateway) for route in netlink.routes(main_only=True)}
        repairs = []
        for route in wanted:
            if (route.destination, route.next_hop) not in present:
                netlink.batch().add_route(
                    route.destination, gateway=route.next_hop, device_index=index, exist_ok=True
                ).commit()
                repairs.append(Repair("route", str(route.destination), "added again"))
        return repairs

    def destroy(self) -> None:
        """Give an adopted namespace back: our routes gone, loopback as it was. Remove our own."""
        if not self._record.adopted:
            pin.remove(self._record.key)
            return
        self._default_routes({AF_INET: None, AF_INET6: None})
        if not self._record.loopback_was_up:
            netlink = self._namespace.netlink()
            batch = netlink.batch().set_link(_LOOPBACK, up=False)
            # the kernel gave it when the interface came up, and would leave it
            batch.delete_address(self._index(_LOOPBACK), _LOOPBACK_ADDRESS).commit()


def _specific(routes: Sequence[StaticRoute]) -> list[StaticRoute]:
    """All but those to everywhere: of these the core chooses one for the sandbox."""
    return [route for route in routes if route.destination.prefixlen]


def _default_text(gateway: IPAddress | None, device: str) -> str:
    return f"default via {gateway}" if gateway is not None else f"default dev {device}".rstrip()


def _prepare_own() -> NamespaceIdentity:
    """On the thread that made the namespace, from inside."""
    for name, value in _OWN_SYSCTLS.items():
        sysctl.write(name, value)
    with Netlink() as netlink:
        netlink.batch().set_link(_LOOPBACK, up=True).commit()
    return NamespaceIdentity(own_cookie())


def _ipv6_settings(interface: EndpointInterface) -> dict[str, str]:
    """To be written before the link comes up.

    An IPv4-only container has no IPv6 at all, not even a link-local address
    (CVE-2024-32473); none believes router advertisements (CVE-2020-13401).
    """
    ipv6 = any(address.version == 6 for address in _addresses(interface))
    return {"accept_ra": "0", "autoconf": "0", "disable_ipv6": "0" if ipv6 else "1"}


def _addresses(interface: EndpointInterface) -> list[IPInterface]:
    found: list[IPInterface] = []
    if interface.address is not None:
        found.append(interface.address)
    if interface.address_ipv6 is not None:
        found.append(interface.address_ipv6)
    return found + list(interface.link_local)


def _write_settings(settings: dict[str, str]) -> bool:
    changed = False
    for name, value in settings.items():
        try:
            if sysctl.read(name) != value:
                sysctl.write(name, value)
                changed = True
        except KernelError as error:
            if error.errno != errno.ENOENT:  # a kernel without IPv6 has nothing to switch off
                raise
    return changed
