"""A container's making: checked against image, names and partners, then written down."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from cnm.containerapi import (
    HOST_MODE,
    NO_NETWORK,
    SHARED_PREFIX,
    ContainerDefinition,
    ContainerRecord,
    NameService,
    RestartMode,
)
from cnm.core import merging, names, signals
from cnm.core.connect import Connections
from cnm.core.containerfiles import ContainerFiles
from cnm.core.locks import Locks
from cnm.core.runs import Machinery, Runs
from cnm.core.state import State
from cnm.errors import Forbidden, InvalidParameter, NotFound
from cnm.types import (
    EndpointRequest,
    NamespaceIdentity,
    Phase,
    SandboxID,
    SandboxRecord,
    SandboxStatus,
)
from cnm.undo import Undo

_LONGEST_HOSTNAME = 64  # HOST_NAME_MAX, linux/limits.h
IMAGES_LOCK = "images"  # held while a container is made of an image, and while one is removed


class Creation:
    """Makes containers.

    ``discard`` takes a half-made one away; ``follow`` has the runtime listened to.
    """

    def __init__(
        self,
        state: State,
        locks: Locks,
        connections: Connections,
        machinery: Machinery,
        runs: Runs,
        files: ContainerFiles,
        discard: Callable[[ContainerRecord], None],
        follow: Callable[[], None],
    ) -> None:
        self._state = state
        self._locks = locks
        self._connections = connections
        self._machinery = machinery
        self._runs = runs
        self._files = files
        self._discard = discard
        self._follow = follow

    def create(self, name: str, definition: ContainerDefinition) -> ContainerRecord:
        """Make a container that does not run yet. A name is invented if there is none.

        :raises InvalidParameter: :raises NotFound: :raises Conflict: nothing is left behind.
        """
        _check(definition)
        name = names.check(name) if name else names.invent(self._taken)
        with self._locks.name(f"container {name}"), Undo() as undo:
            holder = self.holder(name)
            if holder is not None:
                raise names.in_use(name, holder)
            record = self._draft(name, definition)
            undo.push(self._discard, record)
            self._follow()
            self._files.make(record.id)
            self._runs.register(record)
            self.reserve_networks(record)
            record = replace(record, phase=Phase.ACTIVE)
            self._state.write(put=[record], durable=True)
        return record

    def holder(self, name: str) -> str | None:
        found = self._state.container_named(name) or self._state.sandbox_named(name)
        return found.id if found else None

    def _taken(self, name: str) -> bool:
        return self.holder(name) is not None

    def _draft(self, name: str, wish: ContainerDefinition) -> ContainerRecord:
        """Check against image and partners, and write the intent."""
        images = self._machinery.images
        with self._locks.name(IMAGES_LOCK):
            image_id = images.find(wish.image)
            wish = merging.merged(self._resolved(wish), images.config(image_id))
            container_id = SandboxID(secrets.token_hex(32))
            record = ContainerRecord(
                container_id, name, Phase.CREATING, time.time_ns(), image_id, wish
            )
            stack = self._stack_of(record)
            self._state.write(put=[record] if stack is None else [record, stack])
        return record

    def _stack_of(self, record: ContainerRecord) -> SandboxRecord | None:
        if not record.own_stack:
            return None
        return SandboxRecord(
            record.id,
            record.name,
            self._runs.key(record.id),
            NamespaceIdentity(0),
            SandboxStatus.EXITED,
            record.created_ns,
            adopted=False,
            labels=record.definition.labels,
            publish=record.definition.ports,
        )

    def _resolved(self, wish: ContainerDefinition) -> ContainerDefinition:
        """References to other containers made into ids; the first network among the endpoints."""
        mode = wish.network_mode
        if mode.startswith(SHARED_PREFIX):
            partner = self._partner(mode.removeprefix(SHARED_PREFIX))
            return replace(wish, network_mode=f"{SHARED_PREFIX}{partner.id}", endpoints={})
        links = tuple((self._linked(reference), alias) for reference, alias in wish.names.links)
        wish = replace(wish, names=replace(wish.names, links=links))
        if mode in (HOST_MODE, NO_NETWORK):
            return replace(wish, endpoints={})
        others = {self._network_name(key): item for key, item in wish.endpoints.items()}
        first = self._network_name(mode)
        endpoints = {first: others.pop(first, EndpointRequest()), **others}
        return replace(wish, endpoints=endpoints)

    def _partner(self, reference: str) -> ContainerRecord | SandboxRecord:
        """Not found is a bad parameter here: of a 404 clients think that the image is missing."""
        try:
            return self._state.find_any(reference)
        except NotFound as error:
            raise InvalidParameter(str(error)) from None

    def _linked(self, reference: str) -> str:
        try:
            return self._state.find_container(reference).id
        except NotFound as error:
            text = f"could not get container for {reference}: {error}"
            raise InvalidParameter(text) from None

    def _network_name(self, reference: str) -> str:
        """Its own name, or as it was written while it is not there."""
        try:
            return self._state.find_network(reference).name
        except NotFound:
            return reference

    def reserve_networks(self, record: ContainerRecord, *, all_exist: bool = False) -> None:
        """Keep its wishes; a network that is not there counts at the start only, as Docker's."""
        for reference, request in record.definition.endpoints.items():
            network = self._state.network_named(reference)
            if network is None and not all_exist:
                continue
            if network is None or not self._state.endpoint_between(network.id, record.id):
                self._reserve(reference, record.id, request)

    def _reserve(self, reference: str, container_id: SandboxID, request: EndpointRequest) -> None:
        try:
            self._connections.connect(reference, container_id, request)
        except Forbidden:
            network = self._state.find_network(reference)
            if not self._state.endpoint_between(network.id, container_id):
                raise  # otherwise another start of it was faster


def _check(wish: ContainerDefinition) -> None:
    if wish.auto_remove and wish.restart.mode is not RestartMode.NO:
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
    if wish.stop_signal:
        signals.parse(wish.stop_signal)
    if len(wish.hostname.encode()) > _LONGEST_HOSTNAME:
        raise InvalidParameter(
            f'hostname "{wish.hostname}" is too long (maximum {_LONGEST_HOSTNAME} bytes)'
        )
    shared = wish.network_mode.startswith(SHARED_PREFIX)
    private = wish.network_mode in (HOST_MODE, NO_NETWORK) or shared
    if private:
        _check_private(wish)
    _check_shared(wish, shared)
    if wish.names.links and wish.network_mode == HOST_MODE:
        raise InvalidParameter("conflicting options: host type networking can't be used with links")


def _check_private(wish: ContainerDefinition) -> None:
    """``host``, ``none`` and ``container:``: nothing can be asked of an endpoint there."""
    for key, asked in wish.endpoints.items():
        if key != wish.network_mode:
            raise InvalidParameter(
                "conflicting options: cannot attach both user-defined and non-user-defined "
                "network-modes"
            )
        if asked.ipv4 is not None or asked.ipv6 is not None:
            raise InvalidParameter(
                "invalid endpoint settings:\nuser specified IP address is supported on user "
                "defined networks only"
            )
        if asked.mac is not None:
            raise InvalidParameter("conflicting options: mac-address and the network mode")


def _check_shared(wish: ContainerDefinition, shared: bool) -> None:
    """Docker's texts: who uses another's stack has that one's names and ports."""
    if not shared:
        return
    what: Mapping[str, bool] = {
        "hostname and the network mode": bool(wish.hostname),
        "links and the network mode": bool(wish.names.links),
        "dns and the network mode": wish.names
        != replace(NameService(), hosts=wish.names.hosts, links=wish.names.links),
        "custom host-to-IP mapping and the network mode": bool(wish.names.hosts),
        "port publishing and the container type network mode": bool(wish.ports) or wish.publish_all,
        "port exposing and the container type network mode": bool(wish.exposed_ports),
    }
    for text, conflicting in what.items():
        if conflicting:
            raise InvalidParameter(f"conflicting options: {text}")
