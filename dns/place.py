"""Where the resolver answers, and what its halves ask of one another. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cnm.ids import IPAddress


@dataclass(frozen=True, slots=True)
class SandboxPlace:
    """One sandbox. ``netns_fd``: its network namespace, held open by the process."""

    sandbox_id: str
    netns_fd: int


class Forwarding(Protocol):
    """Asks upstream servers on behalf of a sandbox."""

    def forward(
        self,
        place: SandboxPlace,
        servers: tuple[IPAddress, ...],
        query: bytes,
        reply: Callable[[bytes], None],
    ) -> None:
        """Ask ``servers`` (none: the host's) what a client asked: one whole message.

        ``reply`` is called exactly once, in bounded time, possibly before this returns: with a
        whole message that carries the query's id and question, SERVFAIL after a failure. It may
        be longer than the client's UDP allows: who asked cuts it.
        """

    def forget(self, place: SandboxPlace) -> None:
        """Drop what is under way for it; those ``reply`` are never called."""


class QueryWatch(Protocol):
    """Sees every query of a listener while somebody reads the query log."""

    def saw(
        self,
        place: SandboxPlace,
        transport: str,
        query: bytes,
        reply: bytes | None,
        took_s: float,
    ) -> None:
        """``transport``: ``udp`` or ``tcp``. ``reply`` None: dropped."""
