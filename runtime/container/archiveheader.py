"""Blocks of a tar archive, decoded: headers, PAX records, maps of sparse files. No I/O.

Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU
tar's manual, "Basic Tar Format" and "Storing Sparse Files".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BLOCK = 512
_CHECKSUM = slice(148, 156)
_NUMBER = re.compile(rb"[0-9]{1,19}")
# Seconds fit a signed 64-bit number, and no exponent can blow the number up.
_TIME = re.compile(rb"(-?)([0-9]{1,18})(?:\.([0-9]*))?")

SparseMap = tuple[tuple[int, int], ...]  # (offset, length) of what is not a hole


class BadHeader(Exception):
    """The block or record cannot be what it should be."""


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of one header block as they stand there."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    type: bytes
    link: bytes
    major: int
    minor: int


def decode(block: bytes) -> Header:
    """:raises BadHeader: it is no tar header."""
    _verify_checksum(block)
    name = _text(block[:100])
    magic = block[257:265]
    is_ustar = magic.startswith(b"ustar")
    prefix = _text(block[345:500]) if is_ustar and magic != b"ustar  \0" else b""
    kind = block[156:157]
    return Header(
        name=prefix + b"/" + name if prefix else name,
        mode=_number(block[100:108]),
        uid=_number(block[108:116]),
        gid=_number(block[116:124]),
        size=_positive(block[124:136]),
        mtime=_number(block[136:148]),
        # before POSIX a directory was a file whose name ends with a slash
        type=b"5" if kind in b"\0" and name.endswith(b"/") else kind,
        link=_text(block[157:257]),
        major=_number(block[329:337]) if is_ustar else 0,
        minor=_number(block[337:345]) if is_ustar else 0,
    )


def pax_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """The ``length keyword=value\\n`` records of an extended header, in order.

    :raises BadHeader: they do not add up.
    """
    records = []
    position = 0
    while position < len(data) and data[position] != 0:
        digits = data[position : position + 20].partition(b" ")[0]
        length = pax_number(digits)
        record = data[position : position + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if len(record) != length or not equals or not key or record[-1:] != b"\n":
            raise BadHeader("damaged extended header")
        records.append((key, value))
        position += length
    return records


def pax_number(value: bytes) -> int:
    """A decimal number. :raises BadHeader: it is none."""
    if not _NUMBER.fullmatch(value):
        raise BadHeader("damaged number in an extended header")
    return int(value)


def pax_time_ns(value: bytes) -> int:
    """Nanoseconds since the epoch. :raises BadHeader: it is no time."""
    match = _TIME.fullmatch(value)
    if match is None:
        raise BadHeader("damaged time in an extended header")
    nanoseconds = int(match[2]) * 10**9 + int((match[3] or b"0")[:9].ljust(9, b"0"))
    return -nanoseconds if match[1] else nanoseconds


def gnu_sparse_map(block: bytes) -> tuple[list[tuple[int, int]], bool, int]:
    """Of an old GNU sparse header: its first segments, whether blocks follow, the real size."""
    return _segments(block[386:482]), block[482] != 0, _positive(block[483:495])


def gnu_sparse_block(block: bytes) -> tuple[list[tuple[int, int]], bool]:
    """Of a continuation block: its segments, and whether another one follows."""
    return _segments(block[:504]), block[504] != 0


def pax_sparse_map(records: Sequence[tuple[bytes, bytes]]) -> list[tuple[int, int]] | None:
    """The map that formats 0.0 and 0.1 keep in the extended header, if there is one."""
    fields = dict(records)
    if b"GNU.sparse.map" in fields:  # 0.1
        text = fields[b"GNU.sparse.map"]
        return _pairs([pax_number(item) for item in text.split(b",")] if text else [])
    if b"GNU.sparse.numblocks" not in fields:
        return None
    keys = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")  # 0.0
    return _pairs([pax_number(value) for key, value in records if key in keys])


def pax_real_size(fields: Mapping[bytes, bytes]) -> int:
    """The size of a sparse file with its holes. :raises BadHeader: it is missing."""
    for key in (b"GNU.sparse.realsize", b"GNU.sparse.size"):
        if key in fields:
            return pax_number(fields[key])
    raise BadHeader("sparse file without its size")


def checked_map(segments: Sequence[tuple[int, int]], stored: int, real: int) -> SparseMap:
    """The map, if it is in order, inside the file and as long as the data that follow.

    :raises BadHeader: it is not.
    """
    position = total = 0
    for offset, length in segments:
        if offset < position or offset + length > real:
            raise BadHeader("damaged map of a sparse file")
        position = offset + length
        total += length
    if total != stored:
        raise BadHeader("the map of a sparse file does not fit its data")
    return tuple((offset, length) for offset, length in segments if length)


def _verify_checksum(block: bytes) -> None:
    try:
        wanted = _number(block[_CHECKSUM])
    except BadHeader:
        wanted = -1
    blank = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    if wanted == sum(blank):
        return
    # old tars summed signed bytes
    if wanted != sum(byte - 256 if byte > 127 else byte for byte in blank):
        raise BadHeader("wrong checksum")


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    """Octal digits, or (GNU) a big-endian number with the first bit set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        sign = 1 << (8 * len(field) - 2)  # two's complement of what is left
        return value - 2 * sign if value & sign else value
    digits = _text(field).strip(b" ")
    try:
        return int(digits, 8) if digits else 0
    except ValueError as error:
        raise BadHeader("damaged number") from error


def _positive(field: bytes) -> int:
    value = _number(field)
    if value < 0:
        raise BadHeader("negative size")
    return value


def _segments(area: bytes) -> list[tuple[int, int]]:
    found = []
    for start in range(0, len(area), 24):
        if not area[start : start + 24].strip(b"\0"):
            break
        found.append(
            (_positive(area[start : start + 12]), _positive(area[start + 12 : start + 24]))
        )
    return found


def _pairs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise BadHeader("damaged map of a sparse file")
    return list(zip(numbers[::2], numbers[1::2], strict=True))
