"""What the core publishes and others watch: peers of global networks, names.

No implementation yet: the cluster's peer table and the resolver's name table come
with their own capabilities and keep these contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cnm.types import EndpointID, NetworkID, Peer


class PeerTable(Protocol):
    """Remote endpoints of global networks."""

    def publish(self, network_id: NetworkID, peer: Peer) -> None: ...

    def withdraw(self, network_id: NetworkID, endpoint_id: EndpointID) -> None: ...

    def watch(
        self, network_id: NetworkID, changed: Callable[[Sequence[Peer]], None]
    ) -> Callable[[], None]:
        """A snapshot first, then each change. Returns the way to stop."""
