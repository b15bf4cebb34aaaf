"""An entry of the query log in words: what was asked, what was said. Pure.

Nothing is trusted: what clients and servers send ends up here as it came.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import Any

from cnm.dns.querylog import Entry

_TYPES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    41: "OPT",
    43: "DS",
    48: "DNSKEY",
    64: "SVCB",
    65: "HTTPS",
    255: "ANY",
}
_CODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
_HEADER = 12
_POINTER = 0xC0
_MOST_JUMPS = 16
_MOST_ANSWERS = 16
_A, _CNAME, _PTR, _AAAA = 1, 5, 12, 28
_RECORD = struct.Struct(">HHIH")


def document(entry: Entry) -> dict[str, Any]:
    """For JSON. ``took_ms`` is what the resolver took, in milliseconds."""
    found: dict[str, Any] = {
        "time": entry.at,
        "container": entry.sandbox_id,
        "transport": entry.transport,
        "took_ms": round(entry.took_s * 1000, 3),
        "from": entry.origin or "local",
        "name": "",
        "type": "",
        "code": "DROPPED",
        "answers": [],
    }
    try:
        name, at = _name(entry.query, _HEADER)
        (kind,) = struct.unpack_from(">H", entry.query, at)
        found.update(name=name, type=_TYPES.get(kind, f"TYPE{kind}"))
    except (IndexError, struct.error, ValueError):
        found["name"] = "(malformed)"
    if entry.reply is not None and len(entry.reply) >= _HEADER:
        number = entry.reply[3] & 0xF
        found["code"] = _CODES[number] if number < len(_CODES) else f"RCODE{number}"
        found["answers"] = list(_answers(entry.reply))
    return found


def _answers(reply: bytes) -> Iterator[str]:
    """The data of the first answers, as far as they can be read."""
    try:
        questions, answers = struct.unpack_from(">HH", reply, 4)
        at = _HEADER
        for _ in range(questions):
            at = _name(reply, at)[1] + 4
        for _ in range(min(answers, _MOST_ANSWERS)):
            at = _name(reply, at)[1]
            kind, _, _, length = _RECORD.unpack_from(reply, at)
            at += _RECORD.size
            yield _data(reply, at, length, kind)
            at += length
    except (IndexError, struct.error, ValueError):
        return


def _data(reply: bytes, at: int, length: int, kind: int) -> str:
    if (kind, length) in ((_A, 4), (_AAAA, 16)):
        return str(ipaddress.ip_address(reply[at : at + length]))
    if kind in (_CNAME, _PTR):
        return _name(reply, at)[0]
    return _TYPES.get(kind, f"TYPE{kind}")


def _name(message: bytes, at: int) -> tuple[str, int]:
    """A name as text, and where what follows it begins. :raises ValueError: :raises IndexError:"""
    labels: list[str] = []
    end = -1
    for _ in range(128 + _MOST_JUMPS):
        length = message[at]
        if length >= _POINTER:
            end = at + 2 if end < 0 else end
            at = (length & ~_POINTER) << 8 | message[at + 1]
        elif length:
            labels.append(_label(message[at + 1 : at + 1 + length]))
            at += 1 + length
        else:
            return ".".join(labels) or ".", at + 1 if end < 0 else end
    raise ValueError("a name without an end")


def _label(raw: bytes) -> str:
    r"""As master files write it (RFC 1035 5.1): ``\.`` and ``\DDD``."""
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and byte not in b'.\\"' else f"\\{byte:03d}"
        for byte in raw
    )
