"""What the core publishes and others watch: names of local endpoints, peers of global networks.

The peer table has no implementation yet: it comes with the cluster and keeps this contract.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from cnm.ids import EndpointID, IPAddress, NetworkID, SandboxID

if TYPE_CHECKING:  # the resolver's process needs the values only: 0.6 MB and 25 ms less
    from cnm.sandboxapi import Inside
    from cnm.types import Peer, Repair, SandboxRecord


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

    When a call returns, queries are answered accordingly. The caller holds the sandbox's lock
    where a sandbox is named, and the network's, shared or not, where a network is. A resolver
    that is not there is started by ``publish`` and ``serve``.

    :raises Unavailable: (``publish``, ``serve``) it cannot be started, or does not answer.
    """

    def together(self) -> AbstractContextManager[Callable[[], None]]:
        """``publish``, ``withdraw`` and ``see`` within it are said at its end, in one message.

        It gives what waits for their answer, which takes the resolver a millisecond: to be called
        under the same locks, when there is nothing else to do; only then have they succeeded,
        and what they raise is raised. Not to be nested, and short: others wait.
        """

    def publish(self, network_id: NetworkID, network_name: str, endpoint: NamedEndpoint) -> None:
        """Add an endpoint to a network's names, or replace it."""

    def withdraw(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """Forget an endpoint. Unknown is success."""

    def serve(self, record: SandboxRecord, view: SandboxView, inside: Inside) -> None:
        """Have 127.0.0.11 answer in a sandbox, as of ``view``.

        :raises KernelError: nothing is left behind in it.
        """

    def serves(self, sandbox_id: SandboxID) -> bool:
        """Whether 127.0.0.11 answers in it."""

    def see(self, sandbox_id: SandboxID, view: SandboxView) -> None:
        """Another view for a sandbox that is served; nothing if it is not."""

    def stop(self, sandbox_id: SandboxID, inside: Inside | None) -> None:
        """No resolver in it any more. ``inside`` None: its namespace is gone, or will be."""


class NameRepair(Protocol):
    """What start-up and sweep compare, one thing at a time, under the locks of each."""

    def restore_network(self, names: NetworkNames) -> Sequence[Repair]:
        """Have exactly these names for a network, whose lock is held exclusively."""

    def restore_sandbox(
        self, record: SandboxRecord, view: SandboxView, inside: Inside
    ) -> Sequence[Repair]:
        """Have a sandbox served as of ``view``, and nothing missing inside it."""

    def known(self) -> tuple[Collection[NetworkID], Collection[SandboxID]]:
        """What it has names of, and whom it serves."""

    def forget_network(self, network_id: NetworkID) -> None:
        """No names of a network any more. Unknown is success."""

    def watch(self, gone: Callable[[SandboxID], None], mended: Callable[[Repair], None]) -> None:
        """Call ``gone`` when the path of an adopted namespace leads nowhere any more.

        The resolver has let go of it by then: its sockets would keep it alive. ``mended``: it
        put something right by itself.
        """


class QueryStream(Protocol):
    """Queries as they are answered; a context manager that ends it."""

    def get(self, timeout_s: float) -> Sequence[Mapping[str, Any]]:
        """What came, oldest first; nothing if nothing came in time.

        Keys: ``time`` (Unix, seconds), ``container`` (id), ``transport``, ``name``, ``type``,
        ``code``, ``answers``, ``took_ms``, ``from`` (``local``, ``cache``, ``stale``, ``failed`` or
        the server's address).
        """

    def __enter__(self) -> QueryStream: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class NameInsight(Protocol):
    """What the resolver tells of its work."""

    def statistics(self) -> Mapping[str, Any]:
        """Counters: ``total``, ``sandboxes`` by id, ``latency``, ``forwarding``, ``networks``.

        Empty while no resolver runs.
        """

    def queries(self, sandbox_id: SandboxID | None) -> QueryStream:
        """Those of one sandbox or of all, from now on. :raises Unavailable:"""


class PeerTable(Protocol):
    """Remote endpoints of global networks."""

    def publish(self, network_id: NetworkID, peer: Peer) -> None: ...

    def withdraw(self, network_id: NetworkID, endpoint_id: EndpointID) -> None: ...

    def watch(
        self, network_id: NetworkID, changed: Callable[[Sequence[Peer]], None]
    ) -> Callable[[], None]:
        """A snapshot first, then each change. Returns the way to stop."""
