"""The host's own resolvers, as its resolv.conf names them now.

The file is looked at when somebody needs it, twice a second at most, and compared by content: 15
µs. An inotify watch would have to follow links, renames and missing folders (systemd-resolved's,
NetworkManager's and DHCP clients' ways of writing it all differ), and still be checked.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from cnm.ids import IPAddress

RESOLV_CONF = Path("/etc/resolv.conf")
RESOLVED_UPSTREAMS = Path("/run/systemd/resolve/resolv.conf")  # behind systemd-resolved's stub

_STUB = (IPv4Address("127.0.0.53"),)
_DEFAULT = (IPv4Address("127.0.0.1"),)  # resolv.conf(5), for a file without any
_LOOK_EVERY_S = 0.5


class HostServers:
    """``generation`` changes whenever the servers do.

    A file that is missing or names nobody is taken for one that is just being written: the
    servers stay as they were.
    """

    def __init__(
        self,
        path: Path = RESOLV_CONF,
        resolved: Path = RESOLVED_UPSTREAMS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.generation = 0
        self._path = path
        self._resolved = resolved
        self._clock = clock
        self._looked_at = float("-inf")
        self._servers: tuple[IPAddress, ...] = ()

    def current(self) -> tuple[IPAddress, ...]:
        """In the file's order; never empty. IPv6 addresses may carry their link (``%eth0``)."""
        now = self._clock()
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            self._look()
        return self._servers

    def _look(self) -> None:
        found = _read(self._path)
        if found == _STUB:
            found = _read(self._resolved) or found
        found = found or self._servers or _DEFAULT
        if found != self._servers:
            self._servers = found
            self.generation += 1


def _read(path: Path) -> tuple[IPAddress, ...]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ()
    found: list[IPAddress] = []
    for line in text.splitlines():
        match line.split():
            case ["nameserver", address, *_]:
                with contextlib.suppress(ValueError):
                    found.append(ipaddress.ip_address(address))
    return tuple(dict.fromkeys(found))
