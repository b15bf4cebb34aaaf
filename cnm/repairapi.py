"""What the start-up repair and the sweep ask of whoever owns kernel objects."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from cnm.ability import Ability
from cnm.types import EndpointState, NetworkID, NetworkSpec, OwnedObject, Repair


@runtime_checkable
class Repairable(Protocol, metaclass=Ability):
    """Required of every built-in driver; third parties may leave it out.

    The order at start-up: ``restore`` for every network of the store (also tells a
    fresh driver what exists), then ``owned`` and ``remove_orphan`` for the rest.
    """

    def owned(self) -> Collection[OwnedObject]:
        """What carries our mark, as found in the kernel (not in memory)."""

    def restore(self, network: NetworkSpec, endpoints: Sequence[EndpointState]) -> Sequence[Repair]:
        """Make the kernel hold this network and these endpoints, and nothing stale of them.

        Must learn the network and its endpoints (a driver just started knows none),
        change only what differs, and return what it changed; a network in order costs reads only.
        """

    def remove_orphan(self, item: OwnedObject) -> None:
        """Remove a marked object that nothing in the store accounts for. Gone is success."""


@runtime_checkable
class RulesOwner(Protocol, metaclass=Ability):
    """Optional: has rules in the host's packet filter, where others load and flush theirs."""

    def restore_rules(self, network_id: NetworkID) -> Sequence[Repair]:
        """Put a network's rules right after somebody else's change. Unknown is success."""
