"""View and query to answer, or to "ask others". No sockets.

Three ways, each for what the one before cannot decide:

1. *kept*: the whole answer by the bytes of the question; the listener looks there itself.
2. *quick*: the header and what follows the question were seen before, and the name is in a table.
   What equals a table's key is a well-formed name, so it needs no reading.
3. *strict*: every byte is read. What is forwarded, refused or malformed always goes this way.

Everything kept belongs to one view and goes with it, so nothing stale can be answered.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, cycle
from typing import Final

from cnm.dns import message
from cnm.dns.message import HEADER, Malformed, NotAQuery, Query
from cnm.dns.names import TTL_S, Owner, Rotation, Table, View, wire_key
from cnm.dns.statistics import Counters

Body = bytes  # a message without its id

# Names times types that one sandbox asks again and again. 16,384 take 5 MB; all sandboxes together
# have no more than four times as much.
_KEPT: Final = 16384
_KEPT_IN_ALL: Final = 65536
_ROTATIONS: Final = 8  # holders up to which all rotations of an answer are kept
_SHAPES: Final = 256  # a handful is in use
_A, _AAAA, _PTR = (struct.pack(">HH", kind, message.IN) for kind in (1, 28, 12))
_KINDS: Final = (_A, _AAAA, _PTR)
_IN: Final = struct.pack(">H", message.IN)
_META: Final = 249  # from here on types of a question are requests (RFC 6895 3.1)
_USUAL: Final = (b"\x01\x00", b"\x01\x20")  # flags of glibc and musl (RD), of dig (RD, AD)
_USUAL_SHAPES: Final = 16
_SHORT: Final = 64  # bytes: an OPT with a cookie, which a client keeps while it runs
_ONE: Final = struct.pack(">H", 1)
_OPT: Final = 11  # bytes of an OPT record without options, of which the last two are their length
# Length of what follows a question -> the last two of those bytes, if it is one OPT record.
_LENGTHS: Final = {_OPT + length: struct.pack(">H", length) for length in range(512)}
_TRANSFERS: Final = (message.AXFR, message.IXFR)  # answers of many messages; we have no zones
# Without a SOA nobody may keep a negative answer (RFC 2308 3). The name is its own zone's apex.
_SOA: Final = message.record(
    message.SOA, TTL_S, struct.pack(">2x5I", 1, TTL_S, TTL_S, TTL_S, TTL_S)
)


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody else must be asked. ``limit``: the longest reply that the client takes, bytes."""

    limit: int


class Allowance:
    """How many whole answers all resolvers together may keep."""

    def __init__(self) -> None:
        self.left = _KEPT_IN_ALL


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a query's header and EDNS make of its answer, whatever it asks."""

    one: bytes  # the head over one record
    nodata: bytes  # the head over a SOA
    opt: bytes
    soa: bytes  # with the OPT behind
    flags: bytes
    limit: int
    usual: bool  # of a usual client: whole answers are worth keeping


class Resolver:
    """Answers for one view, until the sandbox sees another. ``kept``: whole answers."""

    def __init__(self, view: View, counters: Counters, allowance: Allowance) -> None:
        self.view = view
        self.kept: dict[Body, Body | Iterator[Body]] = {}
        self._counters = counters
        self._allowance = allowance
        self._shapes: dict[bytes, _Shape] = {}
        self._around: list[tuple[bytes, bytes]] = []  # what is before and behind kept questions
        self._links = _links(view)
        self._finds = [table.find for table in view.tables]
        self._finds += [table.find_qualified for table in view.tables]
        self._only = self._finds[0] if len(view.tables) == 1 and not self._links else None

    def succeeded(self, view: View) -> Resolver:
        """The resolver for the view that follows; this one is done with.

        It inherits what is kept, less the names that changed: 10,000 answers are not made again
        because one container came.
        """
        heir = Resolver(view, self._counters, self._allowance)
        names = _changed(self.view, view)
        if names is None:
            self.close()
            return heir
        heir.kept, heir._shapes, heir._around = self.kept, self._shapes, self._around
        for name in names:
            for before, behind in heir._around:
                for kind in _KINDS:
                    if heir.kept.pop(before + name + kind + behind, None) is not None:
                        heir._allowance.left += 1
        return heir

    def close(self) -> None:
        """Keep nothing."""
        self._allowance.left += len(self.kept)
        self.kept.clear()
        self._shapes.clear()
        self._around.clear()

    def answer(self, body: Body, *, tcp: bool = False) -> Body | Ask | None:
        """The answer's body, whom to ask, or None: no answer at all."""
        end = body.find(0, HEADER) + 1
        behind = body[end + 4 :]
        shape = self._shapes.get(body[:HEADER] + behind)
        if shape is None:
            shape = self._alike(body, behind)
            if shape is None:
                return self._strictly(body, tcp)
        name, kind = body[HEADER:end].lower(), body[end : end + 4]
        owner = self._only(name) if self._only else None
        if owner is None:
            owner = self._find(name, kind)
            if owner is None:
                return self._strictly(body, tcp)
        if kind == _A:
            records = owner.a
        elif kind == _AAAA:
            records = owner.aaaa
        elif kind == _PTR:
            records = owner.ptr
        elif kind[2:] == _IN and kind[0] == 0 and kind[1] < _META:  # first, whether it is whole
            records = None
        else:
            return self._strictly(body, tcp)
        question = body[HEADER : end + 4]
        kept = shape.usual and kind in _KINDS and question.startswith(name)
        if records is None:
            self._counters.nodata += 1
            reply = shape.nodata + question + shape.soa
        elif isinstance(records, bytes):
            self._counters.answered += 1
            reply = shape.one + question + records + shape.opt
        else:
            limit = message.LARGEST if tcp else shape.limit
            return self._several(shape, body, question, records, limit, kept)
        if kept:
            self._keep(body, reply)
        return reply

    def _find(self, name: bytes, kind: bytes) -> Owner | None:
        """The first owner that has records of that type, else the first at all.

        A link hides what bears its alias otherwise, also while its target is not there.
        """
        link = self._links.get(name)
        if link is not None:
            table, target = link
            return table.find(target)
        first = None
        for find in self._finds:
            owner = find(name)
            if owner is not None:
                if owner.has(int.from_bytes(kind[:2], "big")):
                    return owner
                first = first or owner
        return first

    def _several(
        self,
        shape: _Shape,
        body: Body,
        question: bytes,
        rotation: Rotation,
        limit: int,
        kept: bool,
    ) -> Body:
        self._counters.answered += 1
        size = 2 + HEADER + len(question) + len(shape.opt) + sum(map(len, rotation.records))
        if not kept or len(rotation.records) > _ROTATIONS or size > message.PLAIN_LIMIT:
            return self._render(shape, question, rotation.take(), limit)
        turns = cycle(
            [self._render(shape, question, rotation.take(), limit) for _ in rotation.records]
        )
        self._keep(body, turns)
        return next(turns)

    def _render(self, shape: _Shape, question: bytes, records: Sequence[bytes], limit: int) -> Body:
        """As many whole records as there is room for, and TC if that is not all of them."""
        room = limit - 2 - HEADER - len(question) - len(shape.opt)
        count = sum(end <= room for end in accumulate(map(len, records)))
        head = message.reply_head(shape.flags, count, 0, bool(shape.opt))
        if count < len(records):
            self._counters.truncated += 1
            head = message.truncated(head)
        return head + question + b"".join(records[:count]) + shape.opt

    def _keep(self, body: Body, reply: Body | Iterator[Body]) -> None:
        if len(self.kept) >= _KEPT or not self._allowance.left:
            self._allowance.left += len(self.kept)
            self.kept.clear()
        if self._allowance.left:
            self._allowance.left -= body not in self.kept  # it is there while a log is written
            self.kept[body] = reply

    def _strictly(self, body: Body, tcp: bool) -> Body | Ask | None:
        try:
            if message.opcode(body):
                return self._refused(message.bare_refusal(body, message.NOTIMP))
            query = message.read(body)
        except NotAQuery:
            self._counters.dropped += 1
            return None
        except Malformed:
            self._counters.malformed += 1
            return message.bare_refusal(body, message.FORMERR)
        if query.edns and query.edns.version:
            return self._refused(message.refusal(body, query, message.BADVERS))
        if query.klass != message.IN or query.type in _TRANSFERS:
            return self._refused(message.refusal(body, query, message.REFUSED))
        return self._well_formed(body, query, tcp)

    def _refused(self, reply: Body) -> Body:
        self._counters.refused += 1
        return reply

    def _well_formed(self, body: Body, query: Query, tcp: bool) -> Body | Ask | None:
        limit = message.LARGEST if tcp else query.limit
        owner = self._find(query.name.lower(), body[query.end - 4 : query.end])
        if owner is None:
            return self._of_others(body, query, limit)
        shape = self._shape(body, query)
        question = body[HEADER : query.end]
        records = owner.records(query.type)
        if records:
            self._counters.answered += 1
            return self._render(shape, question, records, limit)
        self._counters.nodata += 1
        return shape.nodata + question + shape.soa

    def _of_others(self, body: Body, query: Query, limit: int) -> Body | Ask:
        if self.view.forward:
            return Ask(limit)
        self._counters.unavailable += 1
        return message.refusal(body, query, message.SERVFAIL)

    def _alike(self, body: Body, behind: bytes) -> _Shape | None:
        """The shape of what differs in the options of its OPT only: a random cookie."""
        if behind[9:_OPT] == _LENGTHS.get(len(behind)):
            return self._shapes.get(body[:HEADER] + behind[:9])
        return None

    def _shape(self, body: Body, query: Query) -> _Shape:
        """Made once for all queries that look alike around their question."""
        behind = body[query.end :]
        known = self._shapes.get(body[:HEADER] + behind) or self._alike(body, behind)
        if known is not None:
            return known
        shape = _new_shape(body[:2], query, usual=False)
        if behind and (query.edns is None or body[8:HEADER] != _ONE):
            return shape  # more than an OPT, or something else
        if len(self._shapes) >= _SHAPES:
            self.close()
        self._shapes[body[:HEADER] + behind[:9]] = shape
        if body[:2] in _USUAL and len(behind) <= _SHORT and len(self._around) < _USUAL_SHAPES:
            self._around.append((body[:HEADER], behind))
            self._shapes[body[:HEADER] + behind] = _new_shape(body[:2], query, usual=True)
        return shape


def _new_shape(flags: bytes, query: Query, *, usual: bool) -> _Shape:
    opt = message.opt_record(query.edns)
    return _Shape(
        one=message.reply_head(flags, 1, 0, bool(opt)),
        nodata=message.reply_head(flags, 0, 1, bool(opt)),
        opt=opt,
        soa=_SOA + opt,
        flags=flags,
        limit=query.limit,
        usual=usual,
    )


def _changed(before: View, after: View) -> frozenset[bytes] | None:
    """The names that mean something else now; None: it cannot be told, or all."""
    if len(before.tables) != len(after.tables) or before.links or after.links:
        return None
    found: frozenset[bytes] = frozenset()
    for old, new in zip(before.tables, after.tables, strict=True):
        names = new.changed_since(old)
        if names is None:
            return None
        found |= names
    return found


def _links(view: View) -> Mapping[bytes, tuple[Table, bytes]]:
    """By alias, alone and in front of the network's name: where it points."""
    tables = {table.network_id: table for table in view.tables}
    found = {}
    for link in view.links:
        table = tables.get(link.network_id)
        if table is not None:
            target = (table, wire_key(link.name))
            found[wire_key(link.alias)] = target
            found[wire_key(f"{link.alias}.{table.name}")] = target
    found.pop(b"", None)
    return found
