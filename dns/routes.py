"""Who is asked for a sandbox: its own servers from inside it, or the host's.

Docker asks all of the host's servers from the host. Here only those are that nothing else can
reach, on the host's loopback or its links; for the rest a container's own routes and filters count.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from ipaddress import IPv4Address

from cnm.dns.hostservers import HostServers
from cnm.dns.place import SandboxPlace
from cnm.dns.upstream import MOST_SERVERS, Route, Upstream, host_only
from cnm.ids import IPAddress
from cnm.runtime.kernel.visit import Home

OURSELVES = IPv4Address("127.0.0.11")  # inside a sandbox: a query would come back

_WAY_OUT_KNOWN_S = 1.0
# Addresses for documentation (RFC 5737, 3849, 9637): routes are looked up, nothing is sent. Two of
# a family, since one of them may be in use on a link.
_SOMEWHERE = (
    (socket.AF_INET, ("192.0.2.1", "203.0.113.1")),
    (socket.AF_INET6, ("2001:db8::1", "3fff::1")),
)


@dataclass(slots=True)
class _Known:
    """Of one sandbox: its route, and what that was made of."""

    place: SandboxPlace
    servers: tuple[IPAddress, ...] = ()
    basis: tuple[int, bool] | None = None
    route: Route | None = None
    way_out: bool = False
    way_out_until: float = 0.0


class Routes:
    """A route stays the same object while nothing has changed. ``dropped``: replaced ones."""

    def __init__(self, host: HostServers, home: Home, port: int) -> None:
        self.dropped: list[Route] = []  # for the caller to take: nobody is sent there any more
        self._host = host
        self._home = home
        self._port = port
        self._generation = 0
        self._host_only: tuple[bool, ...] = ()
        self._shared: Route | None = None  # the host's servers, if all are asked from there
        self._known: dict[str, _Known] = {}

    def of(self, place: SandboxPlace, servers: tuple[IPAddress, ...]) -> Route:
        """The route of a sandbox whose servers are these (none: the host's)."""
        known = self._known.get(place.sandbox_id)
        if known is None or known.place != place:
            self.forget(place)
            known = self._known[place.sandbox_id] = _Known(place)
        return self._named(known, servers) if servers else self._inherited(known)

    def forget(self, place: SandboxPlace) -> None:
        """It is gone. Unknown is fine."""
        known = self._known.pop(place.sandbox_id, None)
        if known is not None and known.route is not None:
            self.dropped.append(known.route)

    def _named(self, known: _Known, servers: tuple[IPAddress, ...]) -> Route:
        if known.route is None or known.basis is not None or known.servers != servers:
            wanted = [address for address in servers if address != OURSELVES][:MOST_SERVERS]
            return self._use(known, servers, None, self._inside(known.place, wanted))
        return known.route

    def _inside(self, place: SandboxPlace, addresses: list[IPAddress]) -> list[Upstream]:
        def make() -> list[Upstream]:
            return [Upstream(address, self._port, from_host=False) for address in addresses]

        if any(getattr(address, "scope_id", None) for address in addresses):
            with contextlib.suppress(OSError):  # the names of its links are known inside only
                return self._home.visit(place.netns_fd, make)
        return make()

    def _inherited(self, known: _Known) -> Route:
        servers = self._host.current()[:MOST_SERVERS]
        if self._generation != self._host.generation:
            self._host_changed(servers)
        way_out = not any(self._host_only) or self._has_way_out(known)
        if way_out and self._shared is not None:
            return self._shared
        basis = (self._generation, way_out)
        if known.route is None or known.basis != basis:
            upstreams = [
                Upstream(address, self._port, from_host)
                for address, from_host in zip(servers, self._host_only, strict=True)
                if way_out or not from_host
            ]
            return self._use(known, (), basis, upstreams)
        return known.route

    def _host_changed(self, servers: tuple[IPAddress, ...]) -> None:
        self._generation = self._host.generation
        self._host_only = tuple(host_only(address) for address in servers)
        if self._shared is not None:
            self.dropped.append(self._shared)
        all_from_host = all(self._host_only)
        upstreams = [Upstream(address, self._port, from_host=True) for address in servers]
        self._shared = Route(None, upstreams) if all_from_host else None

    def _use(
        self,
        known: _Known,
        servers: tuple[IPAddress, ...],
        basis: tuple[int, bool] | None,
        upstreams: list[Upstream],
    ) -> Route:
        if known.route is not None:
            self.dropped.append(known.route)
        known.servers, known.basis = servers, basis
        known.route = Route(known.place, upstreams)
        return known.route

    def _has_way_out(self, known: _Known) -> bool:
        """Whether the sandbox has a default route; without one, nothing is to leave for it."""
        now = time.monotonic()
        if now >= known.way_out_until:
            known.way_out_until = now + _WAY_OUT_KNOWN_S
            known.way_out = False
            with contextlib.suppress(OSError):  # its namespace is gone
                descriptor = known.place.netns_fd
                known.way_out = self._home.is_here(descriptor) or self._home.visit(
                    descriptor, _finds_somewhere
                )
        return known.way_out


def _finds_somewhere() -> bool:
    return any(_finds(family, addresses) for family, addresses in _SOMEWHERE)


def _finds(family: int, addresses: tuple[str, ...]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            return all(probe.connect_ex((address, 53)) == 0 for address in addresses)
    except OSError:
        return False  # a kernel without IPv6
