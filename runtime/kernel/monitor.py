"""The host's routes, kept up to date by the kernel's own word (rtnetlink multicast).

``cnm.hostapi.HostRoutes`` for the namespace of the thread that makes it. The table is
read once and then follows the notifications, so that asking costs the same however
many networks and links there are. It is read anew only after an overrun. IPv4 says
nothing of routes that go with their link, so links that go down or away are followed too,
and neither family of those whose device got another name.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from cnm.errors import KernelError
from cnm.hostapi import HostRoute
from cnm.runtime.kernel import bpf, decode
from cnm.runtime.kernel.netlink import Netlink, Route
from cnm.runtime.kernel.rtsocket import attributes, split_messages
from cnm.types import IPAddress, IPNetwork

log = logging.getLogger(__name__)

_GROUPS = 0x1 | 0x40 | 0x400  # RTMGRP_LINK, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE
_NEWLINK, _DELLINK, _NEWROUTE, _DELROUTE = 16, 17, 24, 25  # linux/rtnetlink.h
_IFF_UP = 0x1
_IFLA_IFNAME = 3  # linux/if_link.h
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_RECEIVE_BYTES = 1 << 16
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_BUFFER_BYTES = 1 << 20
# One attach has ten notifications. Taken one by one, beside it, they took a millisecond of the
# interpreter that it needs itself; who asks for the routes takes those that wait anyway.
_GATHER_S = 0.02
# Twelve of the 26 messages of an attach and a detach stay with the kernel: of a
# bridge's ports, and routes that are none (to an address of the host's own, multicast).
_FAMILY_AT, _ROUTE_TYPE_AT = 16, 23  # bytes into the message: ifinfomsg, rtmsg
_UNICAST = 1
_FILTER = (
    (bpf.LOAD_HALF, 0, 0, bpf.TYPE_AT),
    (bpf.JUMP_EQUAL, 4, 0, bpf.read_type(_NEWLINK)),
    (bpf.JUMP_EQUAL, 3, 0, bpf.read_type(_DELLINK)),
    (bpf.LOAD_BYTE, 0, 0, _ROUTE_TYPE_AT),
    (bpf.JUMP_EQUAL, 3, 0, _UNICAST),
    (bpf.RETURN, 0, 0, 0),
    (bpf.LOAD_BYTE, 0, 0, _FAMILY_AT),
    (bpf.JUMP_EQUAL, 0, 1, socket.AF_UNSPEC),  # of a bridge: DELLINK is said of a port that stays
    (bpf.RETURN, 0, 0, bpf.WHOLE),
    (bpf.RETURN, 0, 0, 0),
)
_RETRY_S = 1.0  # when the table could not be read, for want of a descriptor or memory

_Key = tuple[IPNetwork | None, int, IPAddress | None, int, int]


class RouteMonitor:
    """One thread that listens; :meth:`close` ends it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()  # one reader of the socket, one writer of the table
        self._table: dict[int, dict[_Key, HostRoute]] = {}  # by the index of their device
        self._names: dict[int, str] = {}  # of devices with routes
        self._answer: tuple[HostRoute, ...] | None = None  # None: something has changed
        self._stale = True  # the table is not what the kernel has
        self._untold: list[HostRoute] = []
        self._watchers: tuple[Callable[[HostRoute], None], ...] = ()
        self._events = _listen()
        self._wake_reading, self._wake_writing = socket.socketpair()
        self._wake_reading.setblocking(False)
        self._catch_up()
        self._untold = []  # what is there at the start is no news
        self._thread = threading.Thread(target=self._run, name="routes", daemon=True)
        self._thread.start()

    def routes(self) -> Sequence[HostRoute]:
        """All unicast routes but default ones, both families, as of now."""
        with self._mutex:
            self._catch_up()
            if self._untold:  # we took the word that the thread waits for
                self._wake_writing.send(b"w")
            if self._answer is None:
                self._answer = tuple(dict.fromkeys(self._all()))
            return self._answer

    def watch(self, added: Callable[[HostRoute], None]) -> Callable[[], None]:
        """Call ``added``, on the monitor's thread, for each route that appears."""
        self._watchers = (*self._watchers, added)

        def stop() -> None:
            self._watchers = tuple(item for item in self._watchers if item is not added)

        return stop

    def close(self) -> None:
        """End the thread, close the sockets. Again is fine."""
        with contextlib.suppress(OSError):
            self._wake_writing.shutdown(socket.SHUT_WR)
        self._thread.join()
        for item in (self._wake_writing, self._wake_reading, self._events):
            item.close()

    def _run(self) -> None:
        while True:
            wait_s = _RETRY_S if self._stale else None
            ready, _, _ = select.select([self._events, self._wake_reading], [], [], wait_s)
            if self._wake_reading in ready and not self._wake_reading.recv(64):
                return
            select.select([self._wake_reading], [], [], _GATHER_S)  # close ends it
            try:
                with self._mutex:
                    self._catch_up()
                    untold, self._untold = self._untold, []
            except KernelError as error:
                log.error("routes of the host: %s", error)
                continue
            for route in untold:
                for watcher in self._watchers:
                    watcher(route)

    def _catch_up(self) -> None:
        """Apply everything that the kernel has said so far."""
        while self._receive():
            pass
        if self._stale:
            self._reload()

    def _receive(self) -> bool:
        """One datagram, if there is any."""
        try:
            data = self._events.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise KernelError(error.errno or errno.EIO, "routes of the host") from error
            self._stale = True  # some notifications were lost
            return True
        for kind, _, _, body in split_messages(memoryview(data)):
            self._apply(kind, body)
        return True

    def _apply(self, kind: int, body: memoryview) -> None:
        if kind in (_NEWLINK, _DELLINK):
            _, _, index, flags, _ = _LINK.unpack_from(body)
            if kind == _DELLINK or not flags & _IFF_UP:
                self._drop_link(index)
            elif index in self._names:
                self._rename(index, _name(body[_LINK.size :]))
        elif kind in (_NEWROUTE, _DELROUTE):
            route = decode.route(body)
            if route is None:
                return
            if kind == _NEWROUTE:
                self._add(route)
            elif self._table.get(route.device_index, {}).pop(_key(route), None):
                self._answer = None

    def _drop_link(self, index: int) -> None:
        self._names.pop(index, None)
        if self._table.pop(index, None):
            self._answer = None

    def _rename(self, index: int, name: str) -> None:
        """The routes stay, but no longer by the name that they were told with."""
        if not name or name == self._names[index]:
            return
        self._names[index] = name
        held = self._table.get(index, {})
        self._table[index] = {key: replace(route, device=name) for key, route in held.items()}
        self._answer = None

    def _add(self, route: Route) -> None:
        destination = route.destination
        if destination is None or destination.prefixlen == 0 or destination.is_link_local:
            return
        try:
            device = self._names.get(route.device_index) or socket.if_indextoname(
                route.device_index
            )
        except OSError:
            return  # gone already
        self._names[route.device_index] = device
        found = HostRoute(destination, device, route.gateway)
        held = self._table.setdefault(route.device_index, {})
        if held.get(_key(route)) != found:
            held[_key(route)] = found
            self._untold.append(found)
            self._answer = None

    def _all(self) -> Iterator[HostRoute]:
        for held in self._table.values():
            yield from held.values()

    def _reload(self) -> None:
        """Read the table anew; what was not in it before is news."""
        with Netlink() as netlink:
            routes = netlink.routes()
        known, pending = set(self._all()), self._untold
        self._table, self._names, self._untold, self._answer = {}, {}, [], None
        for route in routes:
            self._add(route)
        self._untold = pending + [route for route in self._untold if route not in known]
        self._stale = False


def _name(link: memoryview) -> str:
    """Of the attributes of a link; the kernel puts it first, before some fifty."""
    for kind, value in attributes(link):
        if kind == _IFLA_IFNAME:
            return bytes(value).rstrip(b"\0").decode(errors="replace")
    return ""


def _key(route: Route) -> _Key:
    return (route.destination, route.device_index, route.gateway, route.metric, route.table)


def _listen() -> socket.socket:
    events = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    bpf.attach(events, _FILTER)
    events.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    events.setblocking(False)
    events.bind((0, _GROUPS))
    return events
