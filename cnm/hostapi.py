"""What the core and drivers ask of the host: its routes and word of new ones, sysctls, devices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cnm.types import IPAddress, IPNetwork, NetworkID


@dataclass(frozen=True, slots=True)
class HostRoute:
    """A unicast route of the host, default routes left out."""

    destination: IPNetwork
    device: str
    gateway: IPAddress | None = None

    def __str__(self) -> str:
        via = f" via {self.gateway}" if self.gateway else ""
        return f"{self.destination}{via} dev {self.device}"


class HostRoutes(Protocol):
    """The host's routing tables (all but ``local``), in its own namespace."""

    def routes(self) -> Sequence[HostRoute]:
        """All unicast routes but default ones, both families."""

    def watch(self, added: Callable[[HostRoute], None]) -> Callable[[], None]:
        """Call ``added`` from a thread of its own for each route that appears; returns the stop."""


Wires = Mapping[str, Mapping[IPAddress, str]]
Taken = Callable[[str, IPAddress, str], None]  # link, address, MAC of the other holder


class WireProbe(Protocol):
    """Who else has an address on the wire behind a link of the host (RFC 5227, RFC 4862)."""

    def holders(self, link: str, addresses: Collection[IPAddress]) -> Mapping[IPAddress, str]:
        """Those that somebody has, with his MAC. Takes a fifth of a second if all are free.

        A link that is down or gone has nobody behind it.

        :raises KernelError: the wire cannot be asked.
        """

    def guard(self, wires: Callable[[], Wires]) -> None:
        """Listen for others that use these addresses: by link, each with the MAC that may.

        Replaces what was guarded before. ``wires`` is called under a lock, so that of two callers
        the later one has the later word. What cannot be listened on (a link that is gone) is
        taken up again by the next call.
        """

    def watch(self, taken: Taken) -> None:
        """Whom to tell, on a thread of the probe's own. To be called before :meth:`guard`."""


class SysctlLedger(Protocol):
    """Old values of the sysctls that we changed, kept so that they can be put back."""

    def remembered(self) -> dict[str, tuple[str, str]]:
        """name -> (value before us, value that we set)."""

    def remember(self, name: str, old: str, new: str) -> None:
        """Must be durable before the sysctl is written."""

    def forget(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class DeviceClaim:
    """A network's use of a device of the host. ``use``: how, in the driver's own word."""

    driver: str
    network_id: NetworkID
    network_name: str
    use: str = ""


class DeviceClaims:
    """Which networks use which devices of the host, of whatever driver; in memory.

    Drivers that cannot share a device learn here of each other's networks, by name.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._claims: dict[str, dict[NetworkID, DeviceClaim]] = {}

    def take(
        self, device: str, claim: DeviceClaim, refuse: Callable[[DeviceClaim], object]
    ) -> None:
        """Claim a device, unless ``refuse`` raises for a claim that another network has."""
        with self._mutex:
            held = self._claims.setdefault(device, {})
            for other in held.values():
                if other.network_id != claim.network_id:
                    refuse(other)
            held[claim.network_id] = claim

    def look(
        self, device: str, claim: DeviceClaim, refuse: Callable[[DeviceClaim], object]
    ) -> None:
        """As :meth:`take`, but only looks."""
        with self._mutex:
            for other in self._claims.get(device, {}).values():
                if other.network_id != claim.network_id:
                    refuse(other)

    def give_up(self, device: str, network_id: NetworkID) -> None:
        """One that is not held is success."""
        with self._mutex:
            self._claims.get(device, {}).pop(network_id, None)

    def holders(self, device: str) -> Sequence[DeviceClaim]:
        """Oldest first."""
        with self._mutex:
            return tuple(self._claims.get(device, {}).values())


class HostSettings(Protocol):
    """Sysctls of the host, changed only while somebody needs them, and put back after."""

    def need(self, name: str, value: str, *, holder: str, reason: str) -> None:
        """Have ``name`` (``net/ipv4/ip_forward``) hold ``value`` while ``holder`` needs it.

        Idempotent for one holder. Logs the change and its reason.
        """

    def release(self, holder: str) -> None:
        """Give up all needs of a holder. With the last one the old value comes back,

        but only where the sysctl still holds what we set.
        """

    def values(self) -> Mapping[str, tuple[str, str]]:
        """name -> (value before us, value that we set), also of what a switch rewrote."""
