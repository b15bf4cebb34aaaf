"""What the core asks of the host: which subnets it routes, and word of new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
