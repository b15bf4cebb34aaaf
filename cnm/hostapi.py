"""What the core asks of the host: which subnets it routes, and word of new ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cnm.types import IPAddress, IPNetwork


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


Taken = Callable[[str, IPAddress, str], None]  # link, address, MAC of the other holder


class WireProbe(Protocol):
    """Who else has an address on the wire behind a link of the host (RFC 5227, RFC 4862)."""

    def holders(self, link: str, addresses: Collection[IPAddress]) -> Mapping[IPAddress, str]:
        """Those that somebody has, with his MAC. Takes a fifth of a second if all are free.

        A link that is down or gone has nobody behind it.

        :raises KernelError: the wire cannot be asked.
        """

    def guard(self, wires: Mapping[str, Mapping[IPAddress, str]]) -> None:
        """Listen for others that use these addresses: by link, each with the MAC that may.

        Replaces what was guarded before. A link that is gone is taken up again by the next call.
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
