"""The records in memory: what the store holds, indexed for look-up.

Every change goes to the store first, then here; records are replaced, never edited.
Look-ups take no lock: they read dictionaries whose entries are swapped whole.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TypeVar

from cnm.containerapi import ContainerRecord
from cnm.errors import InvalidParameter, NotFound
from cnm.store import Store, Stored
from cnm.types import (
    Endpoint,
    EndpointID,
    Network,
    NetworkID,
    Phase,
    SandboxID,
    SandboxRecord,
)

R = TypeVar("R", bound=Network | SandboxRecord | ContainerRecord)
S = TypeVar("S", SandboxRecord, ContainerRecord)


class State:
    """All networks, endpoints, sandboxes and containers of one daemon."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._mutex = threading.Lock()  # keeps the indexes in step with one another
        self._networks: dict[NetworkID, Network] = {}
        self._sandboxes: dict[SandboxID, SandboxRecord] = {}
        self._endpoints: dict[EndpointID, Endpoint] = {}
        self._containers: dict[SandboxID, ContainerRecord] = {}
        self._network_names: dict[str, NetworkID] = {}
        self._sandbox_names: dict[str, SandboxID] = {}
        self._container_names: dict[str, SandboxID] = {}
        self._by_network: dict[NetworkID, dict[EndpointID, Endpoint]] = {}
        self._by_sandbox: dict[SandboxID, dict[EndpointID, Endpoint]] = {}
        records: list[Stored] = [*store.all(Network), *store.all(SandboxRecord)]
        for record in [*records, *store.all(Endpoint), *store.all(ContainerRecord)]:
            self._index(record)

    # changes

    def write(
        self, put: Sequence[Stored] = (), remove: Sequence[Stored] = (), *, durable: bool = False
    ) -> None:
        """Store and index in one go. :raises StoreError: nothing changed."""
        self.store.write(put, remove, durable=durable)
        with self._mutex:
            for record in put:
                self._index(record)
            for record in remove:
                self._drop(record)

    def _index(self, record: Stored) -> None:
        if isinstance(record, Network):
            self._networks[record.id] = record
            self._network_names[record.name] = record.id
        elif isinstance(record, SandboxRecord):
            _put(self._sandboxes, self._sandbox_names, record)
        elif isinstance(record, ContainerRecord):
            _put(self._containers, self._container_names, record)
        else:
            self._endpoints[record.id] = record
            self._by_network.setdefault(record.network_id, {})[record.id] = record
            self._by_sandbox.setdefault(record.sandbox_id, {})[record.id] = record

    def _drop(self, record: Stored) -> None:
        if isinstance(record, Network):
            self._networks.pop(record.id, None)
            self._network_names.pop(record.name, None)
            self._by_network.pop(record.id, None)
        elif isinstance(record, SandboxRecord):
            self._sandboxes.pop(record.id, None)
            self._sandbox_names.pop(record.name, None)
            self._by_sandbox.pop(record.id, None)
        elif isinstance(record, ContainerRecord):
            self._containers.pop(record.id, None)
            self._container_names.pop(record.name, None)
        else:
            self._endpoints.pop(record.id, None)
            self._by_network.get(record.network_id, {}).pop(record.id, None)
            self._by_sandbox.get(record.sandbox_id, {}).pop(record.id, None)

    # reading

    def networks(self) -> list[Network]:
        """All networks, oldest first."""
        return list(self._networks.values())

    def sandboxes(self) -> list[SandboxRecord]:
        """All sandboxes, oldest first."""
        return list(self._sandboxes.values())

    def endpoints(self) -> list[Endpoint]:
        """All endpoints, oldest first."""
        return list(self._endpoints.values())

    def network(self, network_id: NetworkID) -> Network | None:
        """By full id."""
        return self._networks.get(network_id)

    def network_named(self, name: str) -> Network | None:
        """By exact name."""
        found = self._network_names.get(name)
        return self._networks.get(found) if found else None

    def sandbox(self, sandbox_id: SandboxID) -> SandboxRecord | None:
        """By full id."""
        return self._sandboxes.get(sandbox_id)

    def sandbox_named(self, name: str) -> SandboxRecord | None:
        """By exact name."""
        found = self._sandbox_names.get(name)
        return self._sandboxes.get(found) if found else None

    def containers(self) -> list[ContainerRecord]:
        """All containers of the runtime, oldest first."""
        return list(self._containers.values())

    def container(self, container_id: SandboxID) -> ContainerRecord | None:
        """By full id."""
        return self._containers.get(container_id)

    def container_named(self, name: str) -> ContainerRecord | None:
        """By exact name."""
        found = self._container_names.get(name)
        return self._containers.get(found) if found else None

    def endpoint(self, endpoint_id: EndpointID) -> Endpoint | None:
        """By full id."""
        return self._endpoints.get(endpoint_id)

    def endpoints_of_network(self, network_id: NetworkID) -> list[Endpoint]:
        """Endpoints of one network, oldest first."""
        return list(self._by_network.get(network_id, {}).values())

    def endpoints_of_sandbox(self, sandbox_id: SandboxID) -> list[Endpoint]:
        """Endpoints of one sandbox, oldest first."""
        return list(self._by_sandbox.get(sandbox_id, {}).values())

    def active_endpoints(self, network_id: NetworkID) -> list[Endpoint]:
        """Endpoints that hold a network: attached, or on the way in or out."""
        return [
            endpoint
            for endpoint in self.endpoints_of_network(network_id)
            if endpoint.phase is not Phase.RESERVED
        ]

    def endpoint_between(self, network_id: NetworkID, sandbox_id: SandboxID) -> Endpoint | None:
        """The endpoint that joins a sandbox to a network, whatever its phase."""
        for endpoint in self.endpoints_of_sandbox(sandbox_id):
            if endpoint.network_id == network_id:
                return endpoint
        return None

    # look-up by what users type

    def find_network(self, reference: str) -> Network:
        """By full id, exact name or unique id prefix, in this order of strength.

        :raises NotFound: ``network X not found``.
        :raises InvalidParameter: the prefix fits several.
        """
        found = self._networks.get(NetworkID(reference)) or self.network_named(reference)
        if found is None:
            found = _by_prefix(
                reference, self.networks(), "network {} not found", _SEVERAL_NETWORKS
            )
        if found.phase is Phase.CREATING:
            raise NotFound(f"network {reference} not found")
        return found

    def find_sandbox(self, reference: str) -> SandboxRecord:
        """The stack of a container, by what :meth:`find_any` takes.

        :raises NotFound: ``No such container: X``.
        :raises InvalidParameter: the prefix fits several, or it has no stack of its own.
        """
        found = self.find_any(reference)
        stack = self._sandboxes.get(found.id)
        if stack is None and isinstance(found, ContainerRecord) and found.own_stack:
            raise NotFound(f"No such container: {reference}")  # removed while we looked
        if stack is None:
            raise InvalidParameter(
                "container sharing network namespace with another container or host cannot be "
                "connected to any other network"
            )
        return stack

    def find_container(self, reference: str) -> ContainerRecord:
        """A container of the runtime, by what :meth:`find_any` takes.

        :raises NotFound: ``No such container: X``.
        :raises InvalidParameter: the prefix fits several, or it is an adopted namespace.
        """
        found = self.find_any(reference)
        if isinstance(found, SandboxRecord):
            raise InvalidParameter(
                f"container {found.name} is an adopted network namespace: it has no process of "
                "ours; release it with `cnm release`"
            )
        return found

    def find_any(self, reference: str) -> ContainerRecord | SandboxRecord:
        """By full id, exact name (also with Docker's leading slash) or unique id prefix.

        One that is being made is known to its maker only, who has its full id.

        :raises NotFound: ``No such container: X``.
        :raises InvalidParameter: the prefix fits several.
        """
        container_id, name = SandboxID(reference), reference.removeprefix("/")
        found = self._containers.get(container_id) or self._sandboxes.get(container_id)
        if found is not None:
            return found
        for item in (self.container_named(name), self.sandbox_named(name)):
            if item is not None and self._is_made(item):
                return item
        return _by_prefix(
            reference, self.everything(), "No such container: {}", _SEVERAL_CONTAINERS
        )

    def _is_made(self, item: ContainerRecord | SandboxRecord) -> bool:
        container = self._containers.get(item.id)
        return container is None or container.phase is not Phase.CREATING

    def everything(self) -> list[ContainerRecord | SandboxRecord]:
        """Containers of the runtime that stand, and adopted namespaces."""
        adopted = [item for item in self.sandboxes() if item.adopted]
        return [*filter(self._is_made, self.containers()), *adopted]


def _put(records: dict[SandboxID, S], names: dict[str, SandboxID], record: S) -> None:
    """Replace a record; a name that it had before is free."""
    former = records.get(record.id)
    if former is not None and former.name != record.name:
        names.pop(former.name, None)
    records[record.id] = record
    names[record.name] = record.id


# Docker's texts for a prefix that fits several ids
_SEVERAL_NETWORKS = "network {} is ambiguous ({} matches found based on ID prefix)"
_SEVERAL_CONTAINERS = "multiple IDs found with provided prefix: {}"


def _by_prefix(reference: str, records: Iterable[R], missing: str, several: str) -> R:
    matches = [record for record in records if reference and record.id.startswith(reference)]
    if not matches:
        raise NotFound(missing.format(reference))
    if len(matches) > 1:
        raise InvalidParameter(several.format(reference, len(matches)))
    return matches[0]
