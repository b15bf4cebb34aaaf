"""What engines keep with us, in memory: the store's guest records, indexed for look-up.

As with ``state``: every change goes to the store first; records are replaced, never
edited; look-ups take no lock.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from cnm.guestapi import GuestEndpoint, GuestNetwork, GuestPool, GuestRecord
from cnm.store import Store
from cnm.types import EndpointID, NetworkID, PoolID


class GuestRecords:
    """All guests of one daemon."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mutex = threading.Lock()  # keeps the indexes in step with one another
        self._networks = {record.id: record for record in store.all(GuestNetwork)}
        self._pools = {record.id: record for record in store.all(GuestPool)}
        self._endpoints: dict[EndpointID, GuestEndpoint] = {}
        self._by_network: dict[NetworkID, dict[EndpointID, GuestEndpoint]] = {}
        for record in store.all(GuestEndpoint):
            self._put(record)

    def write(
        self,
        put: Sequence[GuestRecord] = (),
        remove: Sequence[GuestRecord] = (),
        *,
        durable: bool = False,
    ) -> None:
        """Store and index in one go. :raises StoreError: nothing changed."""
        self._store.write(put, remove, durable=durable)
        with self._mutex:
            for record in put:
                self._put(record)
            for record in remove:
                self._drop(record)

    def _put(self, record: GuestRecord) -> None:
        if isinstance(record, GuestNetwork):
            self._networks[record.id] = record
        elif isinstance(record, GuestPool):
            self._pools[record.id] = record
        else:
            self._endpoints[record.id] = record
            self._by_network.setdefault(record.network_id, {})[record.id] = record

    def _drop(self, record: GuestRecord) -> None:
        if isinstance(record, GuestNetwork):
            self._networks.pop(record.id, None)
            self._by_network.pop(record.id, None)
        elif isinstance(record, GuestPool):
            self._pools.pop(record.id, None)
        else:
            self._endpoints.pop(record.id, None)
            self._by_network.get(record.network_id, {}).pop(record.id, None)

    def networks(self) -> list[GuestNetwork]:
        """All networks, oldest first."""
        return list(self._networks.values())

    def pools(self) -> list[GuestPool]:
        """All pools, oldest first."""
        return list(self._pools.values())

    def endpoints(self) -> list[GuestEndpoint]:
        """All endpoints, oldest first."""
        return list(self._endpoints.values())

    def endpoints_of(self, network_id: NetworkID) -> list[GuestEndpoint]:
        """Endpoints of one network, oldest first."""
        return list(self._by_network.get(network_id, {}).values())

    def network(self, network_id: NetworkID) -> GuestNetwork | None:
        """By full id."""
        return self._networks.get(network_id)

    def endpoint(self, endpoint_id: EndpointID) -> GuestEndpoint | None:
        """By full id."""
        return self._endpoints.get(endpoint_id)

    def pool(self, pool_id: PoolID) -> GuestPool | None:
        """By id."""
        return self._pools.get(pool_id)
