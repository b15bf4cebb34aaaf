"""The names of networks, as immutable tables; and what one sandbox sees of them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from cnm.discovery import NamedEndpoint, NameLink, NetworkNames
from cnm.types import EndpointID, IPAddress, NetworkID


class Table:
    """The names of one network."""

    def __init__(self, names: NetworkNames) -> None:
        self.network_id: NetworkID = names.network_id
        self.name = names.name
        self._endpoints = {endpoint.endpoint_id: endpoint for endpoint in names.endpoints}

    @classmethod
    def build(cls, names: NetworkNames) -> Table:
        """A table of all the names of a network."""
        return cls(names)

    def with_endpoint(self, endpoint: NamedEndpoint) -> Table:
        """A table that has this endpoint, added or replaced. Cheap: it shares the rest."""
        kept = {**self._endpoints, endpoint.endpoint_id: endpoint}
        return Table(NetworkNames(self.network_id, self.name, tuple(kept.values())))

    def without(self, endpoint_id: EndpointID) -> Table:
        """A table that does not have it; the same one if it never had."""
        if endpoint_id not in self._endpoints:
            return self
        kept = {key: value for key, value in self._endpoints.items() if key != endpoint_id}
        return Table(NetworkNames(self.network_id, self.name, tuple(kept.values())))

    def names(self) -> NetworkNames:
        """What it was made of."""
        return NetworkNames(self.network_id, self.name, tuple(self._endpoints.values()))


@dataclass(frozen=True, slots=True)
class View:
    """What one sandbox sees: tables in the order in which they are asked, links before them.

    ``servers``: who is asked for the rest; empty: the host's. ``forward`` false: nobody.
    """

    tables: tuple[Table, ...] = ()
    links: tuple[NameLink, ...] = ()
    forward: bool = True
    servers: tuple[IPAddress, ...] = ()
