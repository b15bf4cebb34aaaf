"""What the resolver process holds: the names of networks, and the sandboxes that it serves.

Tables and views are replaced whole, between two queries, so none is ever answered from half
of a change, and none is lost by one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cnm.discovery import NamedEndpoint, NetworkNames, SandboxView
from cnm.dns import control
from cnm.dns.control import HOST
from cnm.dns.listener import Listener, Shared
from cnm.dns.names import Table, View
from cnm.dns.place import Forwarding, QueryWatch, SandboxPlace
from cnm.dns.sockets import Sockets
from cnm.dns.statistics import Counters
from cnm.dns.vanished import Vanished
from cnm.errors import NotFound
from cnm.ids import EndpointID, NetworkID
from cnm.runtime.kernel.loop import Loop

_SIOCGSKNS = 0x894C  # sockios.h: the namespace of a socket, as a descriptor


@dataclass(slots=True)
class _Network:
    table: Table
    digests: dict[EndpointID, int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return control.names_digest(self.table.name, self.digests.values())


@dataclass(slots=True)
class _Served:
    place: SandboxPlace
    sockets: Sockets
    listener: Listener
    view: SandboxView
    counters: Counters


class Holdings:
    """Networks and sandboxes. ``gone``: a sandbox was closed, since its namespace's path is."""

    def __init__(self, loop: Loop, forwarding: Forwarding, gone: Callable[[str], None]) -> None:
        self._loop = loop
        self._forwarding = forwarding
        self._shared = Shared()
        self._networks: dict[NetworkID, _Network] = {}
        self._served: dict[str, _Served] = {}
        self._gone = gone
        self._vanished = Vanished(loop, self._has_vanished)
        self._watch: QueryWatch | None = None
        self.ended = Counters()  # of sandboxes that are served no more

    # names

    def set_names(self, names: NetworkNames) -> None:
        """All names of a network at once."""
        digests = {item.endpoint_id: control.endpoint_digest(item) for item in names.endpoints}
        self._networks[names.network_id] = _Network(Table.build(names), digests)
        self._changed(names.network_id)

    def publish(self, network_id: NetworkID, name: str, endpoint: NamedEndpoint) -> None:
        """One endpoint more, or another one in its place."""
        found = self._networks.get(network_id)
        if found is None or found.table.name != name:
            known = found.table.names().endpoints if found is not None else ()
            others = (item for item in known if item.endpoint_id != endpoint.endpoint_id)
            self.set_names(NetworkNames(network_id, name, (*others, endpoint)))
            return
        found.table = found.table.with_endpoint(endpoint)
        found.digests[endpoint.endpoint_id] = control.endpoint_digest(endpoint)
        self._changed(network_id)

    def withdraw(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        """One endpoint less; a network without any is forgotten. Unknown is success."""
        found = self._networks.get(network_id)
        if found is None or found.digests.pop(endpoint_id, None) is None:
            return
        found.table = found.table.without(endpoint_id)
        if not found.digests:
            del self._networks[network_id]
        self._changed(network_id)

    def forget_names(self, network_id: NetworkID) -> None:
        """Unknown is success."""
        if self._networks.pop(network_id, None) is not None:
            self._changed(network_id)

    def _changed(self, network_id: NetworkID) -> None:
        for sandbox_id, served in self._served.items():
            if sandbox_id == HOST or network_id in served.view.networks:
                served.listener.see(self._view(sandbox_id, served.view))

    def _view(self, sandbox_id: str, view: SandboxView) -> View:
        """With the tables of now. The host sees all networks, and nobody is asked for it."""
        wanted: Iterable[NetworkID] = view.networks
        if sandbox_id == HOST:
            wanted = sorted(self._networks, key=lambda item: self._networks[item].table.name)
        tables = tuple(self._networks[item].table for item in wanted if item in self._networks)
        return View(tables, view.links, view.forward, view.servers)

    # sandboxes

    def serve(self, sandbox_id: str, view: SandboxView, sockets: Sockets, path: str) -> None:
        """Answer on these sockets, which are ours from now on. Another pair is closed.

        ``path`` of an adopted namespace: it is let go of when that leads nowhere any more.
        """
        self.stop(sandbox_id)
        place = SandboxPlace(sandbox_id, fcntl.ioctl(sockets.udp, _SIOCGSKNS))
        counters = Counters()
        listener = Listener(
            self._loop,
            place,
            sockets.udp,
            sockets.tcp,
            self._view(sandbox_id, view),
            self._forwarding,
            counters,
            self._shared,
        )
        listener.watch(self._watch)
        self._served[sandbox_id] = _Served(place, sockets, listener, view, counters)
        if path:
            self._vanished.add(sandbox_id, path, place.netns_fd)

    def see(self, sandbox_id: str, view: SandboxView) -> None:
        """Another view. :raises NotFound: it is not served."""
        served = self._served.get(sandbox_id)
        if served is None:
            raise NotFound(f"no such sandbox: {sandbox_id}")
        served.view = view
        served.listener.see(self._view(sandbox_id, view))

    def stop(self, sandbox_id: str) -> None:
        """Let go of its sockets and its namespace. Unknown is success."""
        self._vanished.remove(sandbox_id)
        served = self._served.pop(sandbox_id, None)
        if served is not None:
            served.listener.close()
            self.ended.add(served.counters)
            os.close(served.place.netns_fd)

    def _has_vanished(self, sandbox_id: str) -> None:
        self.stop(sandbox_id)
        self._gone(sandbox_id)

    def leave_unread(self) -> None:
        """Read no more queries: another process does. What was read is answered."""
        for served in self._served.values():
            for descriptor in served.sockets.descriptors:
                self._loop.forget(descriptor)

    def watch(self, log: QueryWatch | None) -> None:
        """Have every query reported to ``log``; None: nobody reads any more."""
        self._watch = log
        for served in self._served.values():
            served.listener.watch(log)

    # what there is

    @property
    def waiting(self) -> bool:
        """Whether a client waits for what was forwarded."""
        counted = self.counters().values()
        return any(item.forwarded > item.upstream.count for item in counted)

    def counters(self) -> dict[str, Counters]:
        return {sandbox_id: served.counters for sandbox_id, served in self._served.items()}

    @property
    def serving(self) -> bool:
        return bool(self._served)

    def network_digests(self) -> dict[str, str]:
        return {network_id: item.digest for network_id, item in self._networks.items()}

    def network_digest(self, network_id: NetworkID) -> str:
        """Empty: no names of it."""
        found = self._networks.get(network_id)
        return found.digest if found is not None else ""

    def view_digest(self, sandbox_id: str) -> str:
        """Empty: it is not served."""
        served = self._served.get(sandbox_id)
        return control.view_digest(served.view) if served is not None else ""

    def sockets(self, start: int, number: int) -> tuple[list[str], list[int]]:
        """Whom it serves, from the ``start``-th on, and two descriptors each."""
        chosen = list(self._served.items())[start : start + number]
        held = [fd for _, served in chosen for fd in served.sockets.descriptors]
        return [sandbox_id for sandbox_id, _ in chosen], held
