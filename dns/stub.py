"""A stub's question to one server, for those who look from outside: labs and tests (RFC 1035)."""

from __future__ import annotations

import socket

from dnslib import QTYPE, RCODE, DNSError, DNSRecord

from cnm.ids import IPAddress

_PORT = 53
_LONGEST = 65535


class Refused(Exception):
    """The server answered with an error, or with nonsense."""


def ask(server: IPAddress, name: str, record: str, timeout_s: float) -> tuple[str, ...]:
    """The records of that type, as texts without a last dot; none: no such name or type.

    Over UDP, and over TCP if the answer was cut off. Aliases (CNAME) on the way are left out.

    :raises Refused: SERVFAIL, REFUSED and the like.
    :raises OSError: it does not answer in time, or cannot be reached.
    """
    question = DNSRecord.question(name, record)
    answer = _parsed(_over_udp(server, question.pack(), timeout_s), question)
    if answer.header.tc:
        answer = _parsed(_over_tcp(server, question.pack(), timeout_s), question)
    code = RCODE.get(answer.header.rcode)
    if code not in ("NOERROR", "NXDOMAIN"):
        raise Refused(f"answered {code}")
    kind = getattr(QTYPE, record)
    return tuple(str(item.rdata).rstrip(".") for item in answer.rr if item.rtype == kind)


def _parsed(data: bytes, question: DNSRecord) -> DNSRecord:
    try:
        answer = DNSRecord.parse(data)
    except DNSError as error:
        raise Refused(f"answered nonsense: {error}") from error
    if answer.header.id != question.header.id or answer.q.qname != question.q.qname:
        raise Refused("answered another question")
    return answer


def _over_udp(server: IPAddress, question: bytes, timeout_s: float) -> bytes:
    family = socket.AF_INET6 if server.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as link:
        link.settimeout(timeout_s)
        link.connect((str(server), _PORT))
        link.send(question)
        return link.recv(_LONGEST)


def _over_tcp(server: IPAddress, question: bytes, timeout_s: float) -> bytes:
    with socket.create_connection((str(server), _PORT), timeout_s) as link:
        link.sendall(len(question).to_bytes(2, "big") + question)
        with link.makefile("rb") as stream:
            return stream.read(int.from_bytes(stream.read(2), "big"))
