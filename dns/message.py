"""The wire format (RFC 1035, 6891), as far as the resolver needs it. No I/O.

Made by hand because a codec that builds an object per field takes 23 µs for a message and the
whole budget is 4. What is read here is a *body*: a message without its first two bytes, the id,
which belongs to the transport; :func:`error_reply` and :func:`fit` take whole messages.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

A, SOA, PTR, AAAA, OPT = 1, 6, 12, 28, 41
IXFR, AXFR, ANY = 251, 252, 255
IN = 1

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

IN_ADDR, IP6 = b"\x07in-addr\x04arpa\0", b"\x03ip6\x04arpa\0"

HEADER = 10  # bytes of a body's header
PLAIN_LIMIT = 512  # bytes over UDP without EDNS (RFC 1035 4.2.1)
LARGEST = 65535  # bytes over TCP
# What we say that we take over UDP: the size that is never fragmented (DNS flag day 2020).
OUR_SIZE = 1232

_QR, _AA, _TC, _RD = 0x80, 0x04, 0x02, 0x01  # first byte of the flags
_RA, _CD = 0x80, 0x10  # second byte
_OPCODE = 0x78
_DO = 0x80  # first byte of an OPT's flags
_LABEL = 63  # longest label; what is above is a pointer or reserved
_NAME = 255  # longest name on the wire
_POINTER = 0xC0
_OPT_FIXED = 11  # bytes of an OPT record without options
_counts = struct.Struct(">4H")
_record = struct.Struct(">HHIH")  # type, class, TTL, length of the data


class Malformed(Exception):
    """Not a message that can be answered by more than FORMERR."""


class NotAQuery(Exception):
    """Never to be answered: too short, or itself an answer."""


class Edns(NamedTuple):
    """A client's OPT record. Options are ignored, as unknown ones must be (RFC 6891 6.1.2)."""

    size: int
    version: int
    dnssec: bool


class Query(NamedTuple):  # a frozen dataclass takes three times as long to make
    """A body that is one well-formed question. ``end``: where the question ends in it."""

    name: bytes  # as it was spelled
    type: int
    klass: int
    end: int
    edns: Edns | None

    @property
    def limit(self) -> int:
        """The longest message that the client takes over UDP, in bytes."""
        return max(PLAIN_LIMIT, self.edns.size) if self.edns else PLAIN_LIMIT


def opcode(body: bytes) -> int:
    """0 is a query.

    :raises NotAQuery:
    """
    if len(body) < HEADER or body[0] & _QR:
        raise NotAQuery
    return (body[0] & _OPCODE) >> 3


def read(body: bytes) -> Query:
    """Read a query, every byte of it.

    :raises NotAQuery: :raises Malformed:
    """
    opcode(body)
    questions, answers, authorities, additional = _counts.unpack_from(body, 2)
    if questions != 1 or answers or authorities:
        raise Malformed
    name_end = _end_of_name(body, HEADER, pointers=False)
    end = name_end + 4
    if end > len(body):
        raise Malformed
    kind, klass = struct.unpack_from(">HH", body, name_end)
    return Query(body[HEADER:name_end], kind, klass, end, _read_edns(body, end, additional))


def _end_of_name(data: bytes, at: int, *, pointers: bool) -> int:
    """Where a name ends. Pointers are not followed, so nothing here can loop."""
    begin = at
    while at < len(data):
        length = data[at]
        if length == 0:
            return at + 1
        if length >= _POINTER and pointers and at + 2 <= len(data):
            return at + 2
        at += 1 + length
        if length > _LABEL or at - begin >= _NAME:
            break
    raise Malformed


def _read_edns(body: bytes, at: int, records: int) -> Edns | None:
    found = None
    for _ in range(records):
        begin, at, kind = _next_record(body, at)
        if kind == OPT:
            if found is not None or body[begin]:  # one, and owned by the root
                raise Malformed
            size, _, version, flags = struct.unpack_from(">HBBB", body, begin + 3)
            found = Edns(size, version, bool(flags & _DO))
    if at != len(body):
        raise Malformed
    return found


def _next_record(data: bytes, begin: int) -> tuple[int, int, int]:
    """Where it begins and ends, and its type."""
    at = _end_of_name(data, begin, pointers=True)
    if at + _record.size > len(data):
        raise Malformed
    kind, _, _, length = _record.unpack_from(data, at)
    end = at + _record.size + length
    if end > len(data):
        raise Malformed
    return begin, end, kind


def encode_name(text: str) -> bytes | None:
    """A name on the wire, as it is spelled; None: it cannot be one (RFC 1035 2.3.4)."""
    labels = text.removesuffix(".").encode().split(b".")
    if not all(0 < len(label) <= _LABEL for label in labels):
        return None
    wire = b"".join([bytes((len(label),)) + label for label in labels]) + b"\0"
    return wire if len(wire) <= _NAME else None


def reverse_name(packed: bytes) -> bytes:
    """What an address is asked by (RFC 1035 3.5, 3596 2.5), on the wire."""
    if len(packed) == 4:
        labels = (str(octet).encode() for octet in reversed(packed))
        zone = IN_ADDR
    else:
        labels = (nibble.encode() for nibble in reversed(packed.hex()))
        zone = IP6
    return b"".join([bytes((len(label),)) + label for label in labels]) + zone


def record(kind: int, ttl_s: int, data: bytes, owner: bytes = b"\xc0\x0c") -> bytes:
    """A record, by default owned by the name of the question."""
    return owner + _record.pack(kind, IN, ttl_s, len(data)) + data


def opt_record(edns: Edns | None, code: int = NOERROR) -> bytes:
    """What answers a client's OPT record: none if it sent none (RFC 6891 7)."""
    if edns is None:
        return b""
    ttl = (code >> 4) << 24 | (0x8000 if edns.dnssec else 0)
    return b"\0" + _record.pack(OPT, OUR_SIZE, ttl, 0)


def reply_head(
    flags: bytes, answers: int, authorities: int, additional: int, *, code: int = NOERROR
) -> bytes:
    """The head of a body that answers one with these flags, and its one question.

    We are the authority for what is ours, and a recursive server to the client whatever is
    asked (glibc takes an empty answer without either flag for a referral).
    """
    authority = _AA if code == NOERROR else 0
    first = _QR | authority | (flags[0] & (_OPCODE | _RD))
    second = _RA | (flags[1] & _CD) | (code & 0xF)  # CD is copied: RFC 4035 3.2.2
    return bytes((first, second)) + _counts.pack(1, answers, authorities, additional)


def truncated(head: bytes) -> bytes:
    """The same head, with TC."""
    return bytes((head[0] | _TC,)) + head[1:]


def refusal(body: bytes, query: Query, code: int) -> bytes:
    """A body that answers a well-formed query by a code alone."""
    head = reply_head(body[:2], 0, 0, 1 if query.edns else 0, code=code)
    if code == BADVERS:
        head = reply_head(body[:2], 0, 0, 1)[:1] + head[1:]
    return head + body[HEADER : query.end] + opt_record(query.edns, code)


def bare_refusal(body: bytes, code: int) -> bytes:
    """A body of a header alone: what was asked cannot be told."""
    return reply_head(body[:2], 0, 0, 0, code=code)[:2] + bytes(8)


def error_reply(query: bytes, code: int) -> bytes:
    """A whole message that answers a whole query by a code; of a malformed one, by FORMERR.

    :raises NotAQuery: it must not be answered.
    """
    body = query[2:]
    try:
        return query[:2] + refusal(body, read(body), code)
    except Malformed:
        return query[:2] + bare_refusal(body, FORMERR)


def fit(message: bytes, limit: int) -> bytes:
    """A whole answer in at most ``limit`` bytes: whole records, and TC (RFC 2181 9).

    As many records of the answer section as there is room for, since some clients cannot ask
    again over TCP (musl before 1.2.4), and the OPT record. What cannot be read becomes a header.
    """
    if len(message) <= limit:
        return message
    try:
        return _cut(message, limit)
    except Malformed:
        return message[:2] + truncated(message[2:4]) + bytes(8)


def _cut(message: bytes, limit: int) -> bytes:
    questions, answers, authorities, additional = _counts.unpack_from(message, 4)
    at = 12
    for _ in range(questions):
        at = _end_of_name(message, at, pointers=True) + 4
    if questions > 1 or at > len(message):
        raise Malformed
    opt = b""
    ends = [at]
    for _ in range(answers + authorities + additional):
        begin, at, kind = _next_record(message, at)
        ends.append(at)
        opt = message[begin:at] if kind == OPT else opt
    if ends[0] + len(opt) > limit:
        opt = b""
    kept = max(n for n in range(answers + 1) if n == 0 or ends[n] + len(opt) <= limit)
    head = message[:2] + truncated(message[2:4])
    return head + _counts.pack(questions, kept, 0, bool(opt)) + message[12 : ends[kept]] + opt
