"""The daemon's side of the resolver: ``cnm.discovery.NameService`` and ``NameRepair``.

Everything that is wanted is kept here, and a second descriptor of each socket: whenever the
process ends, the next one is started and handed all of it, with the queries that wait in the
sockets. A daemon that starts finds the process, takes second descriptors of what that has, and
tells it only what differs.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cnm.discovery import NamedEndpoint, NetworkNames, SandboxView
from cnm.dns import control, insides
from cnm.dns.control import HOST
from cnm.dns.observed import Queries
from cnm.dns.process import ANSWERS_WITHIN_S, Lost, Process
from cnm.dns.said import Saying
from cnm.dns.sockets import Sockets, open_sockets
from cnm.errors import CNMError, NotFound, Unavailable
from cnm.runtime.kernel import packets, resident
from cnm.sandboxapi import Inside
from cnm.types import EndpointID, NetworkID, Repair, SandboxID, SandboxRecord

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_PAUSES_S = (0.0, 0.2, 1.0, 5.0)  # before each attempt to start the next one
_HOST_VIEW = SandboxView((), forward=False)


@dataclass(slots=True)
class _Network:
    name: str
    endpoints: dict[EndpointID, NamedEndpoint] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        digests = (control.endpoint_digest(item) for item in self.endpoints.values())
        return control.names_digest(self.name, digests)


@dataclass(slots=True)
class _Sandbox:
    """``view`` None: found in a process, and not wanted yet by this daemon."""

    sockets: Sockets
    view: SandboxView | None
    path: str = ""  # of an adopted namespace
    generation: int = 0  # of the rules inside, when they were whole


class Handover:
    """One resolver, for one exec root. Thread-safe; one thread of its own once there is one."""

    def __init__(self, exec_root: str, patience_s: float = ANSWERS_WITHIN_S) -> None:
        self._patience_s = patience_s  # with a process that does not answer
        self._place = control.place(exec_root)
        self._mutex = threading.RLock()
        self._networks: dict[NetworkID, _Network] = {}
        self._sandboxes: dict[SandboxID, _Sandbox] = {}
        self._process: Process | None = None
        self._looked = False  # for a process that an earlier daemon left
        self._host: Sockets | None = None
        self._watch: socket.socket | None = None
        self._saying: Saying | None = None  # within together()
        self._has_died = False
        self._closing = threading.Event()
        self._gone: Callable[[SandboxID], None] = lambda _: None
        self._mended: Callable[[Repair], None] = lambda _: None

    def close(self) -> None:
        """The daemon stops; the resolver goes on."""
        with self._mutex:
            self._closing.set()
            for item in self._sandboxes.values():
                item.sockets.close()
            if self._host is not None:
                self._host.close()
            if self._watch is not None:
                with contextlib.suppress(OSError):
                    self._watch.shutdown(socket.SHUT_RDWR)
            if self._process is not None:
                self._process.close()
            self._sandboxes, self._host, self._process = {}, None, None

    def shutdown(self) -> None:
        """End the process, whatever it serves: with the last of everything. None is success."""
        with self._mutex:
            self._look()
            self._closing.set()
            if self._process is not None:
                self._process.end()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._place.socket)
        self.close()

    # names

    @contextlib.contextmanager
    def together(self) -> Iterator[Callable[[], None]]:
        """See :class:`cnm.discovery.NameService`, here and below."""
        with self._mutex:
            self._look()
            saying = self._saying = Saying(self._process, self._lost)
            try:
                yield partial(self._settle, saying)
            finally:
                self._saying = None
                saying.send()

    def _settle(self, saying: Saying) -> None:
        with self._mutex:
            saying.settle()

    def publish(self, network_id: NetworkID, network_name: str, endpoint: NamedEndpoint) -> None:
        with self._mutex:
            network = self._networks.setdefault(network_id, _Network(network_name))
            network.endpoints[endpoint.endpoint_id] = endpoint
            try:
                self._post(
                    self._tell,
                    "publish",
                    network=network_id,
                    name=network.name,
                    endpoint=control.endpoint_document(endpoint),
                )
            except BaseException:
                self._forget_endpoint(network_id, endpoint.endpoint_id)
                raise

    def withdraw(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        with self._mutex:
            self._forget_endpoint(network_id, endpoint_id)
            request = {"network": network_id, "endpoint": endpoint_id}
            self._post(self._tell_if_there, "withdraw", **request)

    def _forget_endpoint(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        network = self._networks.get(network_id)
        if network is not None:
            network.endpoints.pop(endpoint_id, None)
            if not network.endpoints:
                del self._networks[network_id]

    def forget_network(self, network_id: NetworkID) -> None:
        with self._mutex:
            self._networks.pop(network_id, None)
            self._tell_if_there("forget_names", network=network_id)

    # sandboxes

    def serve(self, record: SandboxRecord, view: SandboxView, inside: Inside) -> None:
        if self._present(record) is not None:
            self.see(record.id, view)
            return
        sockets = inside.run(insides.open_all)
        path = record.key if record.adopted else ""
        with self._mutex:
            self._sandboxes[record.id] = _Sandbox(sockets, view, path)
            try:
                self._hand(record.id)
            except BaseException:
                del self._sandboxes[record.id]
                sockets.close()
                inside.run(insides.remove_table)
                raise

    def serves(self, sandbox_id: SandboxID) -> bool:
        with self._mutex:
            self._look()
            return sandbox_id in self._sandboxes

    def see(self, sandbox_id: SandboxID, view: SandboxView) -> None:
        with self._mutex:
            self._look()
            item = self._sandboxes.get(sandbox_id)
            if item is not None and item.view != view:
                item.view = view
                self._post(self._see, "see", id=sandbox_id, view=control.view_document(view))

    def stop(self, sandbox_id: SandboxID, inside: Inside | None) -> None:
        with self._mutex:
            self._tell_if_there("stop", id=sandbox_id)
            item = self._sandboxes.pop(sandbox_id, None)
        if item is not None:
            item.sockets.close()
        if inside is not None:
            inside.run(insides.remove_table)

    def _present(self, record: SandboxRecord) -> _Sandbox | None:
        """What is held of a sandbox; sockets of another namespace, or dead ones, are let go."""
        with self._mutex:
            self._look()
            item = self._sandboxes.get(record.id)
            if item is None:
                return None
            if item.sockets.cookie == record.identity.cookie and item.sockets.alive():
                return item
            self.stop(record.id, None)
            return None

    # the host itself

    def listen_on_host(self, address: str, port: int) -> None:
        """Answer the host, for all networks. An empty address: do not.

        :raises KernelError: somebody else has the port. :raises Unavailable:
        """
        with self._mutex:
            self._look()
            if self._host is not None and self._host.address == (address, port):
                return
            if self._host is not None:
                self._tell_if_there("stop", id=HOST)
                self._host.close()
                self._host = None
            if address:
                self._host = open_sockets(address, port)
                self._hand_host(self._host, self._tell)

    def _hand_host(self, sockets: Sockets, tell: Callable[..., Any]) -> None:
        view = control.view_document(_HOST_VIEW)
        tell("serve", sockets.descriptors, id=HOST, view=view, path="")

    # comparing

    def restore_network(self, names: NetworkNames) -> Sequence[Repair]:
        wanted = _Network(names.name, {item.endpoint_id: item for item in names.endpoints})
        digest = wanted.digest if wanted.endpoints else ""
        with self._mutex:
            self._look()
            if wanted.endpoints:
                self._networks[names.network_id] = wanted
            else:
                self._networks.pop(names.network_id, None)
            if self._process is None and not wanted.endpoints:
                return []
            if self._tell("network", network=names.network_id) == digest:
                return []
            self._tell("names", names=control.names_document(names))
        return [Repair("names", names.name, "told the resolver again")]

    def restore_sandbox(
        self, record: SandboxRecord, view: SandboxView, inside: Inside
    ) -> Sequence[Repair]:
        present = self._present(record)
        if present is None:
            self.serve(record, view, inside)
            return [Repair("resolver", record.name, "opened again")]
        repairs: list[Repair] = []
        with self._mutex:
            present.view, present.path = view, record.key if record.adopted else ""
            if self._tell("sandbox", id=record.id) != control.view_digest(view):
                self._hand(record.id)
                repairs.append(Repair("resolver", record.name, "told the resolver again"))
        broken, present.generation = inside.run(
            lambda: insides.repair_table(present.sockets, present.generation)
        )
        if broken:
            repairs.append(Repair("table", f"cnm-dns in {record.name}", "made again"))
        return repairs

    def known(self) -> tuple[Collection[NetworkID], Collection[SandboxID]]:
        with self._mutex:
            self._look()
            told = self._tell_if_there("networks") or {}
            networks = self._networks.keys() | {NetworkID(item) for item in told}
            return networks, list(self._sandboxes)

    def watch(self, gone: Callable[[SandboxID], None], mended: Callable[[Repair], None]) -> None:
        self._gone, self._mended = gone, mended

    # looking

    def statistics(self) -> Mapping[str, Any]:
        """See :class:`cnm.discovery.NameInsight`, here and below."""
        with self._mutex:
            found: Mapping[str, Any] = self._tell_if_there("statistics") or {}
            return found

    def queries(self, sandbox_id: SandboxID | None) -> Queries:
        return Queries(self._connect, sandbox_id)

    def _connect(self) -> socket.socket:
        with self._mutex:
            self._tell("hello")
        try:
            return resident.connect(self._place)
        except OSError as error:
            raise Unavailable(f"the resolver has just ended: {error}") from error

    # telling; the mutex is held

    def _tell(self, request: str, descriptors: Sequence[int] = (), /, **arguments: object) -> Any:
        """Ask the process, started if need be. :raises Unavailable: :raises CNMError:"""
        for _ in range(_ATTEMPTS):
            try:
                return self._running().ask(request, descriptors, **arguments)
            except Lost as error:
                self._lost(error)
        raise Unavailable(f"the resolver ends again and again: see {self._place.log}")

    def _tell_if_there(self, request: str, /, **arguments: object) -> Any:
        """The same, but nobody is started for it: the next one will not know it anyway."""
        self._look()
        if self._process is None:
            return None
        try:
            return self._process.ask(request, (), **arguments)
        except Lost as error:
            self._lost(error)
            return None

    def _post(self, tell: Callable[..., object], request: str, /, **arguments: object) -> None:
        """``tell`` it; within :meth:`together` with what else is posted, without waiting."""
        say = partial(tell, request, **arguments)
        if self._saying is None or not self._saying.add(request, arguments, say):
            say()

    def _hand(self, sandbox_id: SandboxID) -> None:
        item = self._sandboxes[sandbox_id]
        assert item.view is not None
        view = control.view_document(item.view)
        self._tell("serve", item.sockets.descriptors, id=sandbox_id, view=view, path=item.path)

    def _see(self, request: str, /, *, id: SandboxID, view: control.Document) -> None:
        try:
            self._tell(request, id=id, view=view)
        except NotFound:
            if id in self._sandboxes:  # it may have vanished since this was said
                self._hand(id)

    def _hand_all(self, process: Process) -> None:
        """To one that knows nothing. :raises Lost:"""
        for network_id, item in self._networks.items():
            names = NetworkNames(network_id, item.name, tuple(item.endpoints.values()))
            process.ask("names", names=control.names_document(names))
        if self._host is not None:
            self._hand_host(self._host, process.ask)
        for sandbox_id, held in self._sandboxes.items():
            if held.view is not None:
                view = control.view_document(held.view)
                sockets = held.sockets.descriptors
                process.ask("serve", sockets, id=sandbox_id, view=view, path=held.path)

    # the process; the mutex is held

    def _look(self) -> None:
        """Find what an earlier daemon left, once."""
        if self._looked:
            return
        self._looked = True
        process = Process.running(self._place, self._patience_s)
        if process is not None:
            try:
                self._meet(process)
            except Lost as error:
                self._lost(error, process)

    def _running(self) -> Process:
        """The process, with all that it has to know. :raises Unavailable: :raises Lost:"""
        self._look()
        while self._process is None:
            if self._closing.is_set():
                raise Unavailable("the daemon stops: the resolver is the next one's")
            process = Process.start(self._place, self._patience_s)
            try:
                self._meet(process)
                if self._process is not None:
                    self._hand_all(process)
                    self._tell_of_death()
            except Lost as error:
                self._lost(error, process)
                raise
        return self._process

    def _meet(self, process: Process) -> None:
        """Take what it has; go on with it, or send it away if it speaks otherwise."""
        ours = process.is_ours()
        for sandbox_id, sockets in process.sockets():
            if sandbox_id == HOST and self._host is None:
                self._host = sockets
            elif sandbox_id in self._sandboxes or sandbox_id == HOST:
                sockets.close()
            else:
                self._sandboxes[SandboxID(sandbox_id)] = _Sandbox(sockets, None)
        if not ours:
            log.info("the resolver is another version's: it is replaced")
            process.ask("retire")
            process.close()
            return
        watch = process.watch()
        self._process, self._watch = process, watch
        follower = threading.Thread(
            target=self._follow, args=(process, watch), name="resolver", daemon=True
        )
        follower.start()

    def _lost(self, error: Lost, process: Process | None = None) -> None:
        process = process or self._process
        log.debug("%s", error)
        if process is not None:
            process.end()
            process.close()
        if process is self._process:
            self._process, self._has_died = None, True

    def _tell_of_death(self) -> None:
        if self._has_died:
            self._has_died = False
            action = f"it had ended: started again for {len(self._sandboxes)} containers"
            self._mended(Repair("resolver", "process", action))

    # what it tells by itself, in a thread of its own

    def _follow(self, process: Process, watch: socket.socket) -> None:
        with watch, contextlib.suppress(EOFError, OSError, ValueError):
            while True:
                message, _ = packets.receive(watch)
                if "gone" in message:
                    self._has_vanished(SandboxID(message["gone"]))
        self._has_ended(process)

    def _has_vanished(self, sandbox_id: SandboxID) -> None:
        """Our descriptors would keep the namespace alive as well."""
        with self._mutex:
            item = self._sandboxes.pop(sandbox_id, None)
        if item is not None:
            item.sockets.close()
            self._gone(sandbox_id)

    def _has_ended(self, process: Process) -> None:
        """Start the next one, however often that takes, unless somebody was faster."""
        for pause_s in itertools.chain(_PAUSES_S, itertools.repeat(_PAUSES_S[-1])):
            if self._closing.wait(pause_s):
                return
            with self._mutex:
                if self._process not in (None, process) or self._closing.is_set():
                    return
                if self._process is process:
                    self._lost(Lost("the resolver has ended"))
                if not self._sandboxes and self._host is None:
                    return
                try:
                    self._running()
                except (Lost, CNMError) as error:
                    log.debug("the resolver does not start: %s", error)
                    continue
            return
