"""The names of networks, as immutable tables; and what one sandbox sees of them. No I/O.

A table holds, for each name as the wire spells it in lower case, the records that answer it, ready
to be sent: a query costs a look-up and no encoding. Names and addresses (``in-addr.arpa``,
``ip6.arpa``) lie in one map, since they are asked alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cnm.discovery import NamedEndpoint, NameLink, NetworkNames
from cnm.dns import message
from cnm.ids import EndpointID, IPAddress, NetworkID

# Long enough that a client's cache saves the second look-up of one task, short enough that a
# container made again under its name, with another address, is found while somebody watches.
# Docker's 600 s keep clients on dead addresses (moby#42833).
TTL_S = 5


class Rotation:
    """Several records of one type, handed out with another one first each time."""

    __slots__ = ("_turn", "records")

    def __init__(self, records: tuple[bytes, ...]) -> None:
        self.records = records
        self._turn = 0

    def take(self) -> tuple[bytes, ...]:
        """All of them. Whose turn it is, is the name's and type's: A and AAAA come in pairs."""
        turn = self._turn
        self._turn = (turn + 1) % len(self.records)
        return self.records[turn:] + self.records[:turn]


Records = bytes | Rotation | None  # one record, several, none


class Owner:
    """What one name means in one network. ``holders``: the endpoints that have it."""

    __slots__ = ("a", "aaaa", "holders", "ptr")

    def __init__(
        self, holders: tuple[EndpointID, ...], a: Records, aaaa: Records, ptr: Records
    ) -> None:
        self.holders = holders
        self.a = a
        self.aaaa = aaaa
        self.ptr = ptr

    def has(self, kind: int) -> bool:
        """Whether there are records of a type."""
        return any(records is not None for records in self._of(kind))

    def records(self, kind: int) -> tuple[bytes, ...]:
        """Those of a type, or of ``ANY``."""
        return tuple(record for records in self._of(kind) for record in _each(records))

    def _of(self, kind: int) -> tuple[Records, ...]:
        if kind == message.A:
            return (self.a,)
        if kind == message.AAAA:
            return (self.aaaa,)
        if kind == message.PTR:
            return (self.ptr,)
        return (self.a, self.aaaa, self.ptr) if kind == message.ANY else ()


def _each(records: Records) -> tuple[bytes, ...]:
    if isinstance(records, Rotation):
        return records.take()
    return () if records is None else (records,)


def _unturned(records: Records) -> tuple[bytes, ...]:
    return records.records if isinstance(records, Rotation) else _each(records)


def _packed(records: Iterable[bytes]) -> Records:
    several = tuple(dict.fromkeys(records))  # an address may be given twice
    if len(several) > 1:
        return Rotation(several)
    return several[0] if several else None


class _Member:
    """An endpoint of a table, with what its names and its addresses mean while they are its own."""

    __slots__ = ("backward", "endpoint", "forward")

    def __init__(self, endpoint: NamedEndpoint, network: str) -> None:
        self.endpoint = endpoint
        holders = (endpoint.endpoint_id,)
        records: dict[int, list[bytes]] = {4: [], 6: []}
        for address in endpoint.addresses:
            kind = message.A if address.version == 4 else message.AAAA
            records[address.version].append(message.record(kind, TTL_S, address.packed))
        self.forward = Owner(holders, _packed(records[4]), _packed(records[6]), None)
        self.backward = Owner(holders, None, None, _pointer(endpoint.names, network))

    def keys(self) -> Iterator[bytes]:
        """What it is asked by: its names, and its addresses backwards.

        A name below the addresses' domains is not taken: it would answer for others' addresses.
        """
        for name in self.endpoint.names:
            key = wire_key(name)
            if key and not key.endswith(_REVERSE):
                yield key
        if self.backward.ptr is not None:
            yield from (message.reverse_name(each.packed) for each in self.endpoint.addresses)


_REVERSE = (message.IN_ADDR, message.IP6)


def wire_key(name: str) -> bytes:
    """A name as tables know it; empty: the wire cannot carry it."""
    return (message.encode_name(name) or b"").lower()


def _pointer(names: Iterable[str], network: str) -> Records:
    for name in names:
        target = message.encode_name(f"{name}.{network}") or message.encode_name(name)
        if target is not None:
            return message.record(message.PTR, TTL_S, target)
    return None


class Table:
    """The names of one network."""

    __slots__ = (
        "_before",
        "_changed",
        "_identity",
        "_members",
        "_owners",
        "_suffix",
        "name",
        "network_id",
    )

    def __init__(self, network_id: NetworkID, name: str) -> None:
        self.network_id = network_id
        self.name = name
        self._identity = object()
        self._before: object = None  # of the table that this one was made of
        self._changed: frozenset[bytes] = frozenset()
        self._suffix = wire_key(name)
        self._members: dict[EndpointID, _Member] = {}
        self._owners: dict[bytes, Owner] = {}

    @classmethod
    def build(cls, names: NetworkNames) -> Table:
        """A table of all the names of a network.

        A name that the wire cannot carry (a label over 63 bytes) is left out; nobody can ask it.
        """
        table = cls(names.network_id, names.name)
        members = {each.endpoint_id: _Member(each, names.name) for each in names.endpoints}
        holders: dict[bytes, dict[EndpointID, None]] = {}  # in the order of the endpoints
        for endpoint_id, member in members.items():
            for key in member.keys():
                holders.setdefault(key, {})[endpoint_id] = None
        table._members = members
        table._owners = {key: table._owner(key, tuple(ids)) for key, ids in holders.items()}
        return table

    def with_endpoint(self, endpoint: NamedEndpoint) -> Table:
        """A table that has this endpoint, added or replaced; itself, if it has it already."""
        before = self._members.get(endpoint.endpoint_id)
        if before is not None and before.endpoint == endpoint:
            return self
        return self._with(endpoint.endpoint_id, before, _Member(endpoint, self.name))

    def without(self, endpoint_id: EndpointID) -> Table:
        """A table that does not have it; itself, if it never had."""
        before = self._members.get(endpoint_id)
        return self if before is None else self._with(endpoint_id, before, None)

    @property
    def find(self) -> Callable[[bytes], Owner | None]:
        """What a name, on the wire and in lower case, means. To be kept: a call less each time."""
        return self._owners.get

    def find_qualified(self, name: bytes) -> Owner | None:
        """What ``web.network`` means."""
        if not self._suffix or not name.endswith(self._suffix):
            return None
        owner = self._owners.get(name[: -len(self._suffix)] + b"\0")
        return owner if owner is not None and owner.ptr is None else None

    def changed_since(self, before: Table) -> frozenset[bytes] | None:
        """The names that mean something else than in ``before``; None: it is not the last one."""
        if self is before:
            return frozenset()
        return self._changed if self._before is before._identity else None

    def names(self) -> NetworkNames:
        """What it was made of, in no order."""
        endpoints = tuple(member.endpoint for member in self._members.values())
        return NetworkNames(self.network_id, self.name, endpoints)

    def _with(self, endpoint_id: EndpointID, before: _Member | None, now: _Member | None) -> Table:
        """Copies of both maps: 0.2 ms among 10,000 endpoints, once for each change."""
        table = Table(self.network_id, self.name)
        table._members = self._members.copy()
        table._owners = self._owners.copy()
        table._members.pop(endpoint_id, None)
        if now is not None:
            table._members[endpoint_id] = now
        keys_now = set(now.keys()) if now else set()
        keys = keys_now | (set(before.keys()) if before else set())
        for key in keys:
            owner = self._owners.get(key)
            others = tuple(each for each in owner.holders if each != endpoint_id) if owner else ()
            table._set(key, (*others, endpoint_id) if key in keys_now else others)
        table._before = self._identity
        table._changed = frozenset(keys).union(
            key[:-1] + self._suffix for key in keys if not key.endswith(_REVERSE)
        )
        return table

    def _set(self, key: bytes, holders: tuple[EndpointID, ...]) -> None:
        if holders:
            self._owners[key] = self._owner(key, holders)
        else:
            self._owners.pop(key, None)

    def _owner(self, key: bytes, holders: tuple[EndpointID, ...]) -> Owner:
        members = [self._members[each] for each in holders]
        backward = key.endswith(_REVERSE)
        owners = [member.backward if backward else member.forward for member in members]
        return owners[0] if len(owners) == 1 else _joined(holders, owners)


def _joined(holders: tuple[EndpointID, ...], owners: Sequence[Owner]) -> Owner:
    def join(each: Callable[[Owner], Records]) -> Records:
        return _packed(record for owner in owners for record in _unturned(each(owner)))

    return Owner(
        holders, join(lambda one: one.a), join(lambda one: one.aaaa), join(lambda one: one.ptr)
    )


@dataclass(frozen=True, slots=True)
class View:
    """What one sandbox sees: tables in the order in which they are asked, links before them.

    ``servers``: who is asked for the rest; empty: the host's. ``forward`` false: nobody.
    """

    tables: tuple[Table, ...] = ()
    links: tuple[NameLink, ...] = ()
    forward: bool = True
    servers: tuple[IPAddress, ...] = ()
