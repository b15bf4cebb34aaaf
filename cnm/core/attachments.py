"""Attachments: a namespace joined to a network in one step, for runtimes that speak CNI.

An attachment is known by its CNI network, container and interface, and is an endpoint
like any other: of a sandbox that is adopted with the first attachment of a container, and
given back with the last. Nothing is kept beside the endpoint's own record, whose driver
options name the CNI network; so what a killed daemon leaves is repaired as any connect is.

A container whose namespace is gone is forgotten, since its runtime makes another one under
the same id and then asks for each attachment again. Ports belong to the container, and follow
its default route; they go with its last attachment.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from cnm import labels
from cnm.core import names
from cnm.core.connect import Connections
from cnm.core.controller import Networks
from cnm.core.gateway import Routes
from cnm.core.locks import Locks
from cnm.core.naming import is_named
from cnm.core.ports import Ports
from cnm.core.sandboxes import Sandboxes
from cnm.core.state import State
from cnm.errors import CNMError, Conflict, NotFound
from cnm.types import (
    Endpoint,
    EndpointRequest,
    Network,
    NetworkRequest,
    Phase,
    PortBinding,
    SandboxRecord,
)
from cnm.undo import Teardown, Undo


@dataclass(frozen=True, slots=True)
class AttachmentKey:
    """What a runtime knows an attachment by. ``network``: its own name for it, not ours."""

    network: str
    container: str
    interface: str


@dataclass(frozen=True, slots=True)
class AttachmentRequest:
    """``network`` is made if there is none of its name, unless ``existing``."""

    key: AttachmentKey
    netns: str
    network: NetworkRequest
    existing: bool
    endpoint: EndpointRequest
    ports: tuple[PortBinding, ...] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """One that is there."""

    key: AttachmentKey
    network: Network
    record: SandboxRecord
    endpoint: Endpoint
    default_routes: Routes  # of the whole container: they may go by another attachment

    @property
    def resolves(self) -> bool:
        """Whether 127.0.0.11 answers in the container."""
        return is_named(self.network)


class Attachments:
    """The verbs of CNI."""

    def __init__(
        self,
        state: State,
        locks: Locks,
        networks: Networks,
        sandboxes: Sandboxes,
        connections: Connections,
        ports: Ports,
    ) -> None:
        self._state = state
        self._locks = locks
        self._networks = networks
        self._sandboxes = sandboxes
        self._connections = connections
        self._ports = ports

    def add(self, request: AttachmentRequest) -> Attachment:
        """Make one.

        :raises Conflict: it is there, or the container's name is somebody else's.
        :raises CNMError: as ``connect`` and ``publish``; nothing is left but the network.
        """
        key = request.key
        with self._locks.name(f"attachment {key.container}"), Undo() as undo:
            self._forget_left(key.container)
            if self._endpoint(key) is not None:
                raise Conflict(
                    f"interface {key.interface} of container {key.container} is attached to "
                    f"network {key.network} already"
                )
            record = self._sandbox(request, undo)  # first: a mistyped path makes no network
            network = self._network(request)
            options = {
                **request.endpoint.driver_opts,
                labels.ENDPOINT_IFNAME: key.interface,
                labels.ATTACHMENT: key.network,
            }
            wish = replace(request.endpoint, driver_opts=options)
            # before: an attachment that is there has its ports, and is not asked for again
            missing = [port for port in request.ports if port not in record.publish]
            if missing:
                self._ports.publish(record.id, missing)
                undo.push(self._ports.unpublish, record.id, missing)
            endpoint = self._connections.connect(network.id, record.id, wish)
        return self._attachment(key, endpoint)

    def remove(self, key: AttachmentKey) -> None:
        """Undo ``add``. One that is not there is success.

        :raises TeardownError: with all that failed; it can be tried again.
        """
        with self._locks.name(f"attachment {key.container}"):
            endpoint = self._endpoint(key)
            if endpoint is not None:
                self._leave(endpoint)
            record = self._state.sandbox_named(key.container)
            if record is not None and _is_ours(record) and not self._endpoints(record):
                self._sandboxes.release(record.id)

    def find(self, key: AttachmentKey) -> Attachment:
        """:raises NotFound: there is none."""
        endpoint = self._endpoint(key)
        if endpoint is None:
            raise NotFound(
                f"interface {key.interface} of container {key.container} is not attached to "
                f"network {key.network}"
            )
        return self._attachment(key, endpoint)

    def collect(self, network: str, valid: Collection[tuple[str, str]]) -> list[AttachmentKey]:
        """Remove a network's attachments but the valid ones (container, interface).

        :raises TeardownError: with all that failed; the others are gone.
        """
        wrong = [
            key
            for key in self._keys()
            if key.network == network and (key.container, key.interface) not in valid
        ]
        teardown = Teardown(f"collect attachments of network {network}")
        for key in wrong:
            with teardown.step():
                self.remove(key)
        teardown.finish()
        return wrong

    def forget_left(self) -> None:
        """Give up containers whose namespace is gone: nobody will ask for them by it again.

        :raises TeardownError: with all that failed; the next sweep tries again.
        """
        teardown = Teardown("forget containers whose namespace is gone")
        for record in self._state.sandboxes():
            if _is_ours(record):
                with teardown.step(), self._locks.name(f"attachment {record.name}"):
                    self._forget_left(record.name)
        teardown.finish()

    # with the container's name locked

    def _forget_left(self, container: str) -> None:
        """Also one that was adopted by a daemon which was killed before it was attached."""
        record = self._state.sandbox_named(container)
        if record is None or not _is_ours(record):
            return
        if not self._endpoints(record) or not self._sandboxes.alive(record):
            self._sandboxes.release(record.id)

    def _network(self, request: AttachmentRequest) -> Network:
        if request.existing:
            return self._networks.find(request.network.name)
        try:
            return self._networks.create(request.network)
        except Conflict:
            there = self._state.network_named(request.network.name)
            if there is None:
                raise  # about something else
            return there  # it was, or another attachment has just made it

    def _sandbox(self, request: AttachmentRequest, undo: Undo) -> SandboxRecord:
        name = request.key.container
        record = self._state.sandbox_named(name)
        if record is not None:
            if not _is_ours(record):  # one that `cnm adopt` keeps the wishes of, even if it is gone
                raise names.in_use(name, record.id)
            if self._sandboxes.identity(request.netns) != record.identity:
                raise Conflict(f"container {name} is in another network namespace: {record.key}")
            return record
        marks = {labels.ATTACHED: "true"}
        record = self._sandboxes.adopt(name, netns=request.netns, labels=marks)
        undo.push(self._sandboxes.release, record.id)
        return record

    def _leave(self, endpoint: Endpoint) -> None:
        try:
            self._connections.disconnect(endpoint.network_id, endpoint.sandbox_id)
        except CNMError:
            if self._state.endpoint(endpoint.id) is not None:
                raise  # else somebody else took it away meanwhile

    # looking

    def _keys(self) -> list[AttachmentKey]:
        found = []
        for endpoint in self._state.endpoints():
            record = self._state.sandbox(endpoint.sandbox_id)
            options = endpoint.request.driver_opts
            if record is not None and labels.ATTACHMENT in options:
                interface = options.get(labels.ENDPOINT_IFNAME, "")
                key = AttachmentKey(options[labels.ATTACHMENT], record.name, interface)
                found.append(key)
        return found

    def _endpoint(self, key: AttachmentKey) -> Endpoint | None:
        record = self._state.sandbox_named(key.container)
        wanted = {labels.ATTACHMENT: key.network, labels.ENDPOINT_IFNAME: key.interface}.items()
        endpoints = self._endpoints(record) if record is not None else ()
        return next(
            (item for item in endpoints if wanted <= item.request.driver_opts.items()), None
        )

    def _endpoints(self, record: SandboxRecord) -> Sequence[Endpoint]:
        return self._state.endpoints_of_sandbox(record.id)

    def _attachment(self, key: AttachmentKey, endpoint: Endpoint) -> Attachment:
        network = self._state.network(endpoint.network_id)
        record = self._state.sandbox(endpoint.sandbox_id)
        if network is None or record is None or endpoint.phase is not Phase.ACTIVE:
            raise NotFound(f"container {key.container} is not on network {key.network} any more")
        return Attachment(key, network, record, endpoint, self._connections.routes(record.id))


def _is_ours(record: SandboxRecord) -> bool:
    return labels.ATTACHED in record.labels
