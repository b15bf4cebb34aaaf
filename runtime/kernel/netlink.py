"""Links, addresses and routes of one network namespace, over rtnetlink (rtnetlink(7)).

A plain socket (rtsocket.py), messages by pyroute2's tables (messages.py), a decoder
of our own for what is listed (decode.py). pyroute2's IPRoute was left because opening
it costs 5 ms, and because its calls go one at a time: here a whole set-up is one
:class:`Batch`, one system call.
"""

from __future__ import annotations

import errno
import fcntl
import secrets
import socket
import struct
from collections.abc import Iterable
from ipaddress import ip_address
from types import TracebackType

from cnm.errors import KernelError
from cnm.runtime.kernel import decode, messages
from cnm.runtime.kernel.batch import Batch
from cnm.runtime.kernel.decode import Address, Link, Route
from cnm.runtime.kernel.messages import MAIN_TABLE, OUR_PROTOCOL
from cnm.runtime.kernel.rtsocket import Message, Request, RouteSocket
from cnm.runtime.kernel.upper import Upper
from cnm.types import IPAddress

__all__ = [
    "MAIN_TABLE",
    "OUR_PROTOCOL",
    "Address",
    "Batch",
    "Link",
    "Netlink",
    "Route",
    "Upper",
]

NAME_BYTES = 15  # IFNAMSIZ less the final NUL
_SIOCGIFHWADDR, _SIOCGIFINDEX = 0x8927, 0x8933  # netdevice(7)
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h, Linux 5.14
_IFREQ_BYTES = 40  # the name in 16, then a union
_INDEX = struct.Struct("=i")
_HARDWARE = struct.Struct("=2x6s")  # sockaddr: family, the first bytes of its data
# unreachable (two kinds), prohibited, blackhole: what route types answer to a lookup
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)
_DEFAULT_MTU = 1500  # Ethernet's
# Asked for the route that packets to the world take; nothing is sent there.
_THE_WORLD = (ip_address("1.1.1.1"), ip_address("2606:4700:4700::1111"))
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_PRIVATE_GROUPS = 1 << 31  # upper half of the group numbers: nobody picks one by hand


class Netlink:
    """The network namespace of the thread that makes it; thread-safe; a context manager."""

    def __init__(self) -> None:
        self._socket = RouteSocket()

    def close(self) -> None:
        """Close the socket. Again is fine."""
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def cookie(self) -> int:
        """SO_NETNS_COOKIE of the namespace: never used twice while the kernel runs."""
        with socket.socket(fileno=_duplicate(self._socket.fileno())) as probe:
            raw = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        return int(struct.unpack("=Q", raw)[0])

    def index(self, name: str) -> int | None:
        """Index of a link by its name; 2 µs, where a netlink request takes 200."""
        answer = self._ask_device(_SIOCGIFINDEX, name)
        return int(_INDEX.unpack_from(answer, NAME_BYTES + 1)[0]) if answer else None

    def mac(self, name: str) -> str | None:
        """MAC address of a link by its name; as quick, and without the kernel's big lock."""
        answer = self._ask_device(_SIOCGIFHWADDR, name)
        return _HARDWARE.unpack_from(answer, NAME_BYTES + 1)[0].hex(":") if answer else None

    def _ask_device(self, request: int, name: str) -> bytes | None:
        raw = name.encode()
        if not 0 < len(raw) <= NAME_BYTES:
            return None
        try:
            return fcntl.ioctl(self._socket.fileno(), request, raw.ljust(_IFREQ_BYTES, b"\0"))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise KernelError(error.errno or errno.EIO, f"looking for link {name}") from error

    def link(self, link: int | str) -> Link | None:
        """One link by name or index; ``None`` if there is none."""
        if isinstance(link, str) and not 0 < len(link.encode()) <= NAME_BYTES:
            return None
        try:
            return decode.link(self._socket.ask(messages.get_link(link), f"link get {link}").body)
        except KernelError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def links(self, *, kind: str | None = None, master: int | None = None) -> list[Link]:
        """All links, or those of a kind or master: the kernel filters."""
        found = self._socket.dump(messages.dump_links(kind, master), "link list")
        links = [decode.link(message.body) for message in found]
        # A kernel that does not know the kind lists everything.
        return [link for link in links if kind in (None, link.kind)]

    def namespaces(self) -> list[int]:
        """The numbers by which this namespace knows others: each to which a link was moved."""
        found = self._socket.dump(messages.dump_namespaces(), "namespace list")
        return [decode.namespace(message.body) for message in found]

    def links_in(self, namespace: int, *, kind: str) -> list[Link]:
        """Those of a kind in another namespace, by its number; none if it is gone."""
        what = f"link list of namespace {namespace}"
        try:
            found = self._socket.dump(messages.dump_links(kind, None, namespace), what)
        except KernelError as error:
            if error.errno != errno.EINVAL:
                raise
            return []
        links = [decode.link(message.body) for message in found]
        return [link for link in links if link.kind == kind]

    def addresses(self, index: int | None = None) -> list[Address]:
        """All addresses, or those of one link (none if it is gone)."""
        try:
            found = self._socket.dump(messages.dump_addresses(index or 0), "address list")
        except KernelError as error:
            if error.errno == errno.ENODEV:
                return []
            raise
        decoded = (decode.address(message.body) for message in found)
        return [address for address in decoded if address is not None]

    def routes(
        self, *, main_only: bool = False, families: Iterable[int] = _FAMILIES
    ) -> list[Route]:
        """Unicast routes of these families, those of table ``local`` left out."""
        found = [message for family in families for message in self._dump_routes(family, main_only)]
        decoded = (decode.route(message.body) for message in found)
        return [
            route
            for route in decoded
            if route is not None and (not main_only or route.table == MAIN_TABLE)
        ]

    def route_to(self, address: IPAddress) -> Route | None:
        """The unicast route that a packet to ``address`` would take; nothing is sent."""
        try:
            answer = self._socket.ask(messages.get_route(address), f"route get {address}")
        except KernelError as error:
            if error.errno in _NO_ROUTE:
                return None
            raise
        return decode.route(answer.body)

    def outside_mtu(self) -> int:
        """MTU of the device that packets to the world leave by; 1500 if there is no way out."""
        for address in _THE_WORLD:
            route = self.route_to(address)
            device = self.link(route.device_index) if route is not None else None
            if device is not None:
                return device.mtu
        return _DEFAULT_MTU

    def _dump_routes(self, family: int, main_only: bool) -> list[Message]:
        try:
            return self._socket.dump(messages.dump_routes(family, main_only), "route list")
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                return []  # no table of that family: no address of it was ever set
            raise

    def knows_kind(self, kind: str) -> bool:
        """Whether this kernel can make links of a kind that sits on another one: nothing is made.

        A request for one without a lower link is refused in any case: as unknown, or as
        incomplete. Loads the module, as a real one would.
        """
        request = Request(messages.new_link(kind, [], [], up=False), f"kind {kind}")
        return all(failure.errno != errno.EOPNOTSUPP for failure in self._socket.execute([request]))

    def batch(self) -> Batch:
        """A new, empty batch of changes."""
        return Batch(self._socket, self.index)

    def delete_links(self, links: Iterable[int | str]) -> None:
        """Remove links, and wait for RCU once: a wait is 12 ms. Missing ones are fine.

        They are put into a group of their own (random, so that no two calls share one),
        and the group is deleted.
        """
        wanted = list(dict.fromkeys(links))
        batch = self.batch()
        if len(wanted) == 1:
            batch.delete_link(wanted[0])
        elif wanted:
            group = _PRIVATE_GROUPS | secrets.randbits(31)
            for link in wanted:
                batch.set_link(link, group=group, missing_ok=True)
            batch.delete_link_group(group)
        batch.commit()


def _duplicate(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 0)
