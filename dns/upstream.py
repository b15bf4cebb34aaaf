"""Servers that are asked for what is not ours, and how well each one answers. No I/O.

A server that stays silent goes to the back of its list until it answers again; it gets copies
of real queries from time to time (:mod:`cnm.dns.probes`). What is known of a server is known for
one place only: one sandbox cannot spoil it for others, and has routes of its own.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from cnm.dns.place import SandboxPlace
from cnm.ids import IPAddress

MOST_SERVERS = 3  # resolv.conf(5), MAXNS; Docker's, too

_SILENT_S = 1.0  # unanswered for so long is sick at once
_SILENCES = 3  # in a row, each long enough that another server was asked
_PROBE_EVERY_S = 5.0


class Upstream:
    """One server as seen from one place. ``from_host``: asked from the host's namespace."""

    def __init__(self, address: IPAddress, port: int, from_host: bool) -> None:
        self.address = address
        self.from_host = from_host
        self.family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self.sockaddr = _sockaddr(address, port)
        self._silences = 0
        self._sick = False
        self._probe_at = 0.0

    def __str__(self) -> str:
        return str(self.address)

    @property
    def sick(self) -> bool:
        return self._sick

    def answered(self) -> None:
        """It is there, whatever it said."""
        self._silences = 0
        self._sick = False

    def silent(self, waited_s: float, now: float) -> None:
        """It was given up after ``waited_s``."""
        self._silences += 1
        if waited_s >= _SILENT_S or self._silences >= _SILENCES:
            self.unreachable(now)

    def unreachable(self, now: float) -> None:
        """The network says that it cannot be asked, or it hung up."""
        if not self._sick:
            self._sick = True
            self._probe_at = now + _PROBE_EVERY_S

    def due_for_probe(self, now: float) -> bool:
        """Whether a copy of a query is to be sent to it; true once per period."""
        if not self._sick or now < self._probe_at:
            return False
        self._probe_at = now + _PROBE_EVERY_S
        return True


class Route:
    """Who is asked, in order. ``place`` None: from the host only, the same for every sandbox."""

    def __init__(self, place: SandboxPlace | None, upstreams: Iterable[Upstream]) -> None:
        self.place = place
        self.upstreams = tuple(upstreams)

    @property
    def dead(self) -> bool:
        """Whether no server answered lately."""
        return all(upstream.sick for upstream in self.upstreams)

    def order(self) -> list[Upstream]:
        """The list's own order, those that are silent behind the others."""
        return sorted(self.upstreams, key=lambda upstream: upstream.sick)


def host_only(address: IPAddress) -> bool:
    """Whether only the host can reach it: on its loopback, or on one of its links."""
    return address.is_loopback or getattr(address, "scope_id", None) is not None


def _sockaddr(address: IPAddress, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    if isinstance(address, IPv4Address):
        return str(address), port
    return str(IPv6Address(int(address))), port, 0, _link_index(address.scope_id)


def _link_index(scope: str | None) -> int:
    if scope is None:
        return 0
    if scope.isdecimal():
        return int(scope)
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(scope)
    return 0  # no such link (any more): connecting fails
