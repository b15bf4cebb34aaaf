"""Questions as clients write them, made by dnslib."""

from __future__ import annotations

from dnslib import EDNS0, QTYPE, DNSHeader, DNSQuestion, DNSRecord

ID = 0x1234


def query(
    name: str,
    kind: str = "A",
    *,
    klass: int = 1,
    edns: EDNS0 | None = None,
    rd: int = 1,
    cd: int = 0,
    ad: int = 0,
) -> bytes:
    """A whole message."""
    header = DNSHeader(id=ID, qr=0, rd=rd, cd=cd, ad=ad)
    question = DNSQuestion(name, getattr(QTYPE, kind) if kind.isalpha() else int(kind), klass)
    record = DNSRecord(header, q=question)
    if edns is not None:
        record.add_ar(edns)
    return bytes(record.pack())


def opt(size: int = 1232, *, do: bool = False, version: int = 0) -> EDNS0:
    return EDNS0(flags="do" if do else "", udp_len=size, version=version)


def answers(reply: DNSRecord) -> list[str]:
    return [str(record.rdata) for record in reply.rr]
