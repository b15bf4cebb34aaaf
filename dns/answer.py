"""What other servers answer: checked, measured, and made into replies for who asked. No I/O.

Only what decides about passing on and keeping is looked at: header, question, times to live,
the SOA of a negative answer, the OPT record. Names are skipped, never followed, so that no
message can lead in circles.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cnm.dns import asked as queries
from cnm.dns.asked import Asked
from cnm.dns.message import (
    ANY,
    FORMERR,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    OPT,
    REFUSED,
    SERVFAIL,
    SOA,
)

STALE_ANSWER, UNREACHABLE = 3, 22  # codes of extended errors, RFC 8914

_STALE_TTL_S = 30  # RFC 8767, 4
_LONGEST_POSITIVE_S = 3600
_LONGEST_NEGATIVE_S = 300  # a name that was just made must not be missing for long
_LONGEST_WALKED = 4096  # bytes; a walk through 64 KiB of tiny records would take 10 ms
_LONGEST_REASON = 200  # bytes of an extended error's text
_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")  # after the name: type, class, time to live, length
_RESPONSE, _OPCODE, _AUTHORITATIVE, _TRUNCATED = 0x8000, 0x7800, 0x0400, 0x0200
_RECURSION_AVAILABLE, _RCODE = 0x0080, 0x000F
_COPIED = 0x7910  # of a query into our reply: opcode, recursion desired, checking disabled
_BARE = frozenset((FORMERR, SERVFAIL, NOTIMP, REFUSED))  # some servers send the header only
_EXTENDED_ERROR = 15


class NotOurs(ValueError):
    """No answer to what was asked: another id, another question, no response at all."""


class OtherCase(NotOurs):
    """The question came back with letters of another case."""


class Malformed(ValueError):
    """It answers, but its records make no sense."""


class _Records(NamedTuple):
    end: int  # where the OPT begins, or the message ends
    ttls: tuple[tuple[int, int], ...]
    keep_s: int
    separable: bool
    opt: int  # how many


@dataclass(frozen=True, slots=True)
class Answer:
    """A message that answers a question. ``keep_s``: how long it may be kept; 0: not at all."""

    message: bytes
    flags: int
    counts: tuple[int, int, int]  # answers, authorities, additional without the OPT
    body_at: int  # behind the question
    body_end: int  # where the OPT begins, or the message ends
    ttls: tuple[tuple[int, int], ...]  # where each is, and what it is
    keep_s: int
    separable: bool  # the body can be told from the OPT

    @property
    def rcode(self) -> int:
        return self.flags & _RCODE

    @property
    def truncated(self) -> bool:
        return bool(self.flags & _TRUNCATED)

    def given(self, asked: Asked) -> bytes:
        """As it came, for the one whose query was sent."""
        if asked.plain and not asked.edns and self.separable:
            return self.shared(asked)  # an OPT that nobody asked for would go, RFC 6891, 7
        head = asked.message[:2] + self.message[2 : _HEADER.size]
        return head + asked.question + self.message[self.body_at :]

    def shared(self, asked: Asked) -> bytes:
        """For another one who asked the same: without the OPT that was not meant for it."""
        if not self.separable:
            return self.given(asked)
        body = self.message[self.body_at : self.body_end]
        return _reply(asked, self.flags, self.counts, body)

    def kept(self, asked: Asked, body: bytes) -> bytes:
        """Out of the cache, with a :meth:`body`; not authoritative any more (RFC 1034, 6.2.7)."""
        return _reply(asked, self.flags & ~_AUTHORITATIVE, self.counts, body)

    def stale(self, asked: Asked) -> bytes:
        """Out of date, because nobody can be asked (RFC 8767)."""
        body = self.body(lambda _ttl: _STALE_TTL_S)
        reason = _extended_error(STALE_ANSWER, "")
        return _reply(asked, self.flags & ~_AUTHORITATIVE, self.counts, body, reason)

    def body(self, ttl_of: Callable[[int], int]) -> bytes:
        """The records without the OPT, with other times to live (in seconds)."""
        changed = bytearray(self.message[: self.body_end])
        for at, ttl in self.ttls:
            struct.pack_into("!I", changed, at, ttl_of(ttl))
        return bytes(changed[self.body_at :])


def read(message: bytes, number: int, asked: Asked, *, any_case: bool = False) -> Answer:
    """An answer with this id to this question.

    The question must be the one that was sent, its letters' case included; ``any_case``: over TCP,
    where nobody else can have sent it.

    :raises NotOurs: :raises OtherCase: :raises Malformed:
    """
    if len(message) < _HEADER.size:
        raise NotOurs("no header")
    found, flags, questions, *counts = _HEADER.unpack_from(message)
    if found != number or not flags & _RESPONSE or flags & _OPCODE:
        raise NotOurs("another id, or no response")
    if not questions and flags & _RCODE in _BARE:
        message = _with_question(message, asked)
        counts = [0, 0, 0]
    else:
        _check_question(message, questions, asked, any_case)
    body_at = _HEADER.size + len(asked.question)
    if flags & _TRUNCATED or len(message) > _LONGEST_WALKED or not asked.plain:
        records = _Records(len(message), (), 0, False, 0)
    else:
        records = _walk(message, body_at, counts, asked.kind, flags & _RCODE)
    inner = (counts[0], counts[1], counts[2] - records.opt)
    return Answer(
        message, flags, inner, body_at, records.end, records.ttls, records.keep_s, records.separable
    )


def _with_question(message: bytes, asked: Asked) -> bytes:
    return message[:4] + _HEADER.pack(0, 0, 1, 0, 0, 0)[4:] + asked.question


def _check_question(message: bytes, questions: int, asked: Asked, any_case: bool) -> None:
    question = message[_HEADER.size : _HEADER.size + len(asked.question)]
    if questions == 1 and question == asked.question:
        return
    same = question[:-4].lower() == asked.question[:-4].lower()
    if questions != 1 or not same or question[-4:] != asked.question[-4:]:
        raise NotOurs("another question")
    if not any_case:
        raise OtherCase("another case")


def _walk(message: bytes, at: int, counts: list[int], kind: int, rcode: int) -> _Records:
    try:
        return _measure(message, at, counts, kind, rcode)
    except (struct.error, IndexError):
        raise Malformed("records beyond the end") from None


def _measure(message: bytes, at: int, counts: list[int], kind: int, rcode: int) -> _Records:
    ttls: list[tuple[int, int]] = []
    answers = opts = 0
    minimum: int | None = None  # of a SOA among the authorities
    opt_at = opt_end = -1
    extended = False
    first_authority, first_additional = counts[0], counts[0] + counts[1]
    for number in range(sum(counts)):
        start, at = at, skip_name(message, at)
        found, _, ttl, length = _RECORD.unpack_from(message, at)
        ttl_at, at = at + 4, at + _RECORD.size + length
        if found == OPT and number >= first_additional:
            opts, opt_at, opt_end, extended = opts + 1, start, at, extended or ttl >> 24 != 0
            continue
        ttls.append((ttl_at, ttl))
        if number < first_authority:
            answers += found == kind or kind == ANY
        elif found == SOA and number < first_additional:
            (minimum,) = struct.unpack_from("!I", message, at - 4)
    if at != len(message) or opts > 1:
        raise Malformed("trailing bytes, or two OPT records")
    separable = not extended and (not opts or opt_end == at)
    keep_s = _lifetime(rcode, answers, minimum, ttls) if separable else 0
    return _Records(opt_at if opts and separable else at, tuple(ttls), keep_s, separable, opts)


def _lifetime(rcode: int, answers: int, minimum: int | None, ttls: list[tuple[int, int]]) -> int:
    """RFC 2308, 5: a negative answer without a SOA is not kept."""
    if rcode not in (NOERROR, NXDOMAIN) or not ttls:
        return 0
    lowest = min(ttl if ttl < 1 << 31 else 0 for _, ttl in ttls)  # RFC 2181, 8
    if answers and rcode == NOERROR:
        return min(lowest, _LONGEST_POSITIVE_S)
    return 0 if minimum is None else min(lowest, minimum, _LONGEST_NEGATIVE_S)


def skip_name(message: bytes, at: int) -> int:
    """Where a name that may be compressed ends. :raises IndexError: beyond the message."""
    while length := message[at]:
        if length > 63:
            return at + 2  # a pointer (or an unknown kind of label, which ends it as well)
        at += length + 1
    return at + 1


def failure(asked: Asked, reason: str) -> bytes:
    """SERVFAIL of ours, with the reason for those who can read it (RFC 8914)."""
    flags = int.from_bytes(asked.message[2:4]) & _COPIED | _RESPONSE | _RECURSION_AVAILABLE
    options = _extended_error(UNREACHABLE, reason)
    return _reply(asked, flags | SERVFAIL, (0, 0, 0), b"", options)


def refusal(message: bytes, rcode: int) -> bytes:
    """For a query that is not forwarded. Its question comes back if it has one."""
    padded = message.ljust(_HEADER.size, b"\0")
    flags = int.from_bytes(padded[2:4]) & _COPIED | _RESPONSE | _RECURSION_AVAILABLE | rcode
    try:
        question = message[_HEADER.size : queries.question_end(message)]
    except queries.Unanswerable:
        question = b""
    number = int.from_bytes(padded[:2])
    return _HEADER.pack(number, flags, bool(question), 0, 0, 0) + question


def _extended_error(code: int, text: str) -> bytes:
    raw = text.encode()[:_LONGEST_REASON]
    return struct.pack("!HHH", _EXTENDED_ERROR, len(raw) + 2, code) + raw


def _reply(
    asked: Asked, flags: int, counts: tuple[int, int, int], body: bytes, options: bytes = b""
) -> bytes:
    """With an OPT of ours if the client sent one."""
    answers, authorities, additional = counts
    header = struct.pack("!HHHHH", flags, 1, answers, authorities, additional + asked.edns)
    opt = queries.opt_record(asked.dnssec_ok, options) if asked.edns else b""
    return b"".join((asked.message[:2], header, asked.question, body, opt))
