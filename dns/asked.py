"""A client's query on its way to other servers: what is passed on and what not. No I/O.

The question goes out byte for byte, its letters' case with it (0x20). The client's OPT record is
passed on, except what concerns one hop only (RFC 6891, 6.2.6): cookies, whose server half
would reach another server than the one that gave it, and a client that once had one must
not miss it in an answer out of the cache (RFC 7873, 5.3); padding and keep-alives, which are
about connections that are not ours. The UDP size is ours (1232 bytes): larger answers would
come in fragments, which neither id nor port protects (RFC 9715).

A query that is more than a question and an OPT (signed, for instance: RFC 8945) is passed on
as it is, and its answer is for nobody else.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cnm.dns.message import AXFR, FORMERR, IXFR, NOTIMP, OPT, OUR_SIZE

_LONGEST = OUR_SIZE  # bytes of a query; a question has at most 259
_LONGEST_NAME = 255  # RFC 1035, 2.3.4
_HEADER = struct.Struct("!HHHHHH")
_OPT_FIELDS = struct.Struct("!xHHBBHH")  # root name, type, size, extended rcode, version, flags
_OPTION = struct.Struct("!HH")
_RESPONSE, _OPCODE = 0x8000, 0x7800
_KEY_FLAGS = 0x0170  # recursion desired; the reserved bit, authentic data, checking disabled
_DNSSEC_OK = 0x8000
_TRANSFERS = (IXFR, AXFR)  # answers of many messages
_ONE_HOP = frozenset((10, 11, 12))  # cookie, keep-alive, padding
_NO_OPTIONS = b""


class Unanswerable(ValueError):
    """It is not to be forwarded; ``rcode`` says why."""

    def __init__(self, rcode: int) -> None:
        super().__init__(f"rcode {rcode}")
        self.rcode = rcode


class Asked(NamedTuple):
    """A query as it came, and what of it matters."""

    message: bytes
    question: bytes  # name, type and class
    kind: int  # the type
    edns: bool
    dnssec_ok: bool
    options: bytes  # what is passed on
    key: bytes | None  # equal keys have equal answers; None: its answer is for nobody else
    plain: bool  # a question and perhaps an OPT

    def to_server(self, number: int) -> bytes:
        """The message for a server, with this id."""
        if not self.plain:
            return number.to_bytes(2) + self.message[2:]
        header = number.to_bytes(2) + self.message[2:10] + bytes((0, self.edns))
        return header + self.question + (self._opt() if self.edns else b"")

    def _opt(self) -> bytes:
        return opt_record(self.dnssec_ok, self.options)


def read(message: bytes) -> Asked:
    """:raises Unanswerable: malformed, no query, or not of a kind that is forwarded."""
    if len(message) < _HEADER.size:
        raise Unanswerable(FORMERR)
    _, flags, questions, answers, authorities, additional = _HEADER.unpack_from(message)
    if flags & _RESPONSE or questions != 1 or len(message) > _LONGEST:
        raise Unanswerable(FORMERR)
    if flags & _OPCODE:
        raise Unanswerable(NOTIMP)
    end = question_end(message)
    question = message[_HEADER.size : end]
    kind = int.from_bytes(question[-4:-2])
    if kind in _TRANSFERS:
        raise Unanswerable(NOTIMP)
    if answers or authorities or additional > 1:
        return _as_it_is(message, question, kind)
    if not additional:
        if end != len(message):
            return _as_it_is(message, question, kind)
        key = _key(flags, question, False)
        return Asked(message, question, kind, False, False, _NO_OPTIONS, key, True)
    return _with_opt(message, flags, question, kind)


def _as_it_is(message: bytes, question: bytes, kind: int) -> Asked:
    return Asked(message, question, kind, False, False, _NO_OPTIONS, None, False)


def _with_opt(message: bytes, flags: int, question: bytes, kind: int) -> Asked:
    at = _HEADER.size + len(question)
    if len(message) < at + _OPT_FIELDS.size or message[at]:
        return _as_it_is(message, question, kind)
    found, _, extended, version, bits, length = _OPT_FIELDS.unpack_from(message, at)
    options = message[at + _OPT_FIELDS.size :]
    if found != OPT or extended or version or length != len(options):
        return _as_it_is(message, question, kind)
    try:
        options = _passed_on(options)
    except struct.error:
        return _as_it_is(message, question, kind)
    dnssec_ok = bool(bits & _DNSSEC_OK)
    key = None if options else _key(flags, question, dnssec_ok)
    return Asked(message, question, kind, True, dnssec_ok, options, key, True)


def _passed_on(options: bytes) -> bytes:
    """:raises struct.error: they are malformed."""
    kept, at = [], 0
    while at < len(options):
        code, length = _OPTION.unpack_from(options, at)
        end = at + _OPTION.size + length
        if end > len(options):
            raise struct.error("an option is longer than its record")
        if code not in _ONE_HOP:
            kept.append(options[at:end])
        at = end
    return b"".join(kept)


def _key(flags: int, question: bytes, dnssec_ok: bool) -> bytes:
    bits = flags & _KEY_FLAGS | dnssec_ok
    return question[:-4].lower() + question[-4:] + bits.to_bytes(2)


def question_end(message: bytes) -> int:
    """Where the first question ends. Its name is not compressed: nothing stands before it.

    :raises Unanswerable: it is cut off, or longer than a name may be.
    """
    at = _HEADER.size
    while at < len(message) and (length := message[at]):
        if length > 63:
            raise Unanswerable(FORMERR)
        at += length + 1
    end = at + 5
    if end > len(message) or at - _HEADER.size >= _LONGEST_NAME:
        raise Unanswerable(FORMERR)
    return end


def opt_record(dnssec_ok: bool, options: bytes = b"") -> bytes:
    """An OPT record of ours (RFC 6891, 6.1.2)."""
    bits = _DNSSEC_OK if dnssec_ok else 0
    return _OPT_FIELDS.pack(OPT, OUR_SIZE, 0, 0, bits, len(options)) + options
