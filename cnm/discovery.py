"""What the core publishes and others watch: names of local endpoints, peers of global networks.

The peer table has no implementation yet: it comes with the cluster and keeps this contract.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from cnm.types import EndpointID, IPAddress, NetworkID, Peer, Repair, SandboxID, SandboxRecord


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """The names of one endpoint in its network. The first one answers for its addresses (PTR)."""

    endpoint_id: EndpointID
    names: tuple[str, ...]  # as the user wrote them; compared without case (RFC 4343)
    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class NetworkNames:
    """All names of a network. ``name``: what stands behind the dot in ``web.network``."""

    network_id: NetworkID
    name: str
    endpoints: tuple[NamedEndpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class NameLink:
    """``--link web:db`` on a user network: ``db`` means ``web`` there, for one sandbox only."""

    alias: str
    network_id: NetworkID
    name: str


@dataclass(frozen=True, slots=True)
class SandboxView:
    """What one sandbox sees.

    ``networks`` in the order in which they are asked. ``servers``: who is asked for what is not
    ours; empty: the host's resolv.conf. ``forward`` false: nobody (all its networks are internal).
    """

    networks: tuple[NetworkID, ...]
    links: tuple[NameLink, ...] = ()
    servers: tuple[IPAddress, ...] = ()
    forward: bool = True


class NameService(Protocol):
    """The embedded resolver, as the core sees it. Every call is idempotent and thread-safe.

    When a call returns, queries are answered accordingly. A resolver that is not there is
    started; if that fails the call raises ``Unavailable``.
    """

    def publish(self, network_id: NetworkID, network_name: str, endpoint: NamedEndpoint) -> None:
        """Add an endpoint to a network's names, or replace it."""

    def withdraw(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """Forget an endpoint. Unknown is success."""

    def serve(self, sandbox: SandboxRecord, view: SandboxView) -> None:
        """Have 127.0.0.11 answer in a sandbox, as of ``view``.

        :raises SandboxGone: :raises KernelError: nothing is left behind.
        """

    def stop(self, sandbox_id: SandboxID, record: SandboxRecord | None) -> None:
        """No resolver in it any more. ``record`` None: its namespace is gone."""

    def synchronize(
        self,
        networks: Collection[NetworkNames],
        sandboxes: Collection[tuple[SandboxRecord, SandboxView]],
    ) -> Sequence[Repair]:
        """Have exactly this, whatever was before: at a start, and from the sweep."""


class PeerTable(Protocol):
    """Remote endpoints of global networks."""

    def publish(self, network_id: NetworkID, peer: Peer) -> None: ...

    def withdraw(self, network_id: NetworkID, endpoint_id: EndpointID) -> None: ...

    def watch(
        self, network_id: NetworkID, changed: Callable[[Sequence[Peer]], None]
    ) -> Callable[[], None]:
        """A snapshot first, then each change. Returns the way to stop."""
