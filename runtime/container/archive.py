"""A reader of tar streams that trusts nothing: entry after entry, in bounded memory.

The standard library's ``tarfile`` was tried and left: in the versions of Python that we
support it keeps every entry in memory, reads extended headers of any size, recurses on
chains of them, and loops for ever on negative sizes (CVE-2025-8194). What is read here:
ustar, GNU (long names, sparse files) and PAX (with extended attributes).

Entries say what the archive says; whether that is wanted is decided by who unpacks.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cnm.errors import InvalidParameter
from cnm.runtime.container import archiveheader
from cnm.runtime.container.archiveheader import BLOCK, BadHeader, Header, SparseMap
from cnm.runtime.container.imagestream import CHUNK, Measured, read_up_to

_XATTR = b"SCHILY.xattr."
_SHOWN = 160  # characters of a name in an error


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may ask of the machine; far above real images.

    ``archive_bytes``: of a tar, unpacked. ``file_bytes``: of one file, holes included
    (a lastlog with large user ids has half a terabyte of them). ``header_bytes``: of one
    extended header (Go's archive/tar has the same 1 MiB).
    """

    archive_bytes: int = 128 << 30
    file_bytes: int = 4 << 40
    header_bytes: int = 1 << 20
    entries: int = 2_000_000


class Kind(enum.Enum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARD_LINK = "hard link"
    CHARACTER = "character device"
    BLOCK = "block device"
    FIFO = "FIFO"


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,  # contiguous
    b"S": Kind.FILE,  # sparse, GNU
    b"1": Kind.HARD_LINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the archive. Names are file system names (surrogates for odd bytes)."""

    path: str
    kind: Kind
    mode: int  # the lowest 12 bits
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0  # of a file, with its holes
    link: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    sparse: SparseMap | None = None


def shown(name: str) -> str:
    """A name fit for one line of an error: quoted, nothing unprintable, not endless."""
    text = name if len(name) <= _SHOWN else name[:_SHOWN] + "…"
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return '"' + "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in safe) + '"'


class TarReader:
    """Iterates over the entries of a tar stream; :meth:`pieces` has the current one's data.

    All errors are ``InvalidParameter`` and name the last entry that was read.

    :param what: names the archive in errors.
    """

    def __init__(self, source: Measured, what: str, limits: Limits) -> None:
        self._source = source
        self._what = what
        self._limits = limits
        self._left = 0  # bytes of the current entry's data that were not read
        self._padding = 0
        self._last = ""
        self._entry: Entry | None = None

    def __iter__(self) -> Iterator[Entry]:
        count = 0
        while (entry := self._next()) is not None:
            count += 1
            if count > self._limits.entries:
                raise self._bad(f"more than {self._limits.entries} entries")
            self._last = entry.path
            self._entry = entry
            yield entry
        self._source.drain()  # the digest is of the whole stream

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """The current entry's data, as (offset in the file, bytes); holes are left out."""
        entry = self._entry
        segments = () if entry is None else entry.sparse
        for offset, length in ((0, self._left),) if segments is None else segments:
            end = offset + length
            while offset < end:
                data = self._exactly(min(CHUNK, end - offset), at_most=True)
                self._left -= len(data)
                yield offset, data
                offset += len(data)

    def _next(self) -> Entry | None:
        self._skip(self._left + self._padding)
        self._left = self._padding = 0
        name = link = None
        records: list[tuple[bytes, bytes]] = []
        started = False
        while (block := self._header_block(started)) is not None:
            header = self._decode(block)
            if header.type == b"L":
                name = self._extension(header).rstrip(b"\0")
            elif header.type == b"K":
                link = self._extension(header).rstrip(b"\0")
            elif header.type in (b"x", b"X"):
                records = self._records(header)
            elif header.type == b"g":
                self._extension(header)  # comments of `git archive`; Docker ignores them too
            else:
                return self._finish(block, header, name, link, records)
            started = True
        return None

    def _header_block(self, started: bool) -> bytes | None:
        block = read_up_to(self._source, BLOCK)
        if len(block) == BLOCK and any(block):
            return block
        if len(block) not in (0, BLOCK) or started:
            raise self._bad("it is cut off")
        if not block and self._source.size == 0:
            raise self._bad("it is empty")
        return None

    def _decode(self, block: bytes) -> Header:
        try:
            return archiveheader.decode(block)
        except BadHeader as error:
            if self._entry is None:
                raise InvalidParameter(f"{self._what} is no tar archive: {error}") from error
            raise self._bad(str(error)) from error

    def _finish(
        self,
        block: bytes,
        header: Header,
        name: bytes | None,
        link: bytes | None,
        records: list[tuple[bytes, bytes]],
    ) -> Entry:
        """The entry from its header and what came before it; its data come next."""
        fields = dict(records)
        path = fields.get(b"GNU.sparse.name") or fields.get(b"path") or name or header.name
        self._last = os.fsdecode(path)
        kind = _KINDS.get(header.type)
        if kind is None:
            raise self._bad(f"unknown type {header.type!r}")
        try:
            stored = self._stored_size(header, fields, kind)
            real, sparse = self._layout(block, header, records, stored)
            entry = Entry(
                path=self._last,
                kind=kind,
                mode=header.mode & 0o7777,
                uid=_number(fields, b"uid", header.uid),
                gid=_number(fields, b"gid", header.gid),
                mtime_ns=_mtime_ns(fields, header.mtime),
                size=real,
                link=os.fsdecode(fields.get(b"linkpath") or link or header.link),
                device=(header.major, header.minor),
                xattrs=_xattrs(fields),
                sparse=sparse,
            )
        except BadHeader as error:
            raise self._bad(str(error)) from error
        if entry.size > self._limits.file_bytes:
            raise self._bad(f"a size of {entry.size} bytes is beyond {self._limits.file_bytes}")
        return entry

    def _stored_size(self, header: Header, fields: Mapping[bytes, bytes], kind: Kind) -> int:
        """What else than a file has no data, whatever its size field says (as Go reads it)."""
        if kind is not Kind.FILE:
            return 0
        size = _number(fields, b"size", header.size)
        self._left, self._padding = size, -size % BLOCK
        return size

    def _layout(
        self, block: bytes, header: Header, records: list[tuple[bytes, bytes]], stored: int
    ) -> tuple[int, SparseMap | None]:
        """Size with holes, and where the data go; reads maps that stand before the data."""
        fields = dict(records)
        if header.type == b"S":
            segments, real = self._old_sparse_map(block)
        elif fields.get(b"GNU.sparse.major") == b"1":
            segments, real = self._data_sparse_map(), archiveheader.pax_real_size(fields)
        else:
            found = archiveheader.pax_sparse_map(records)
            if found is None:
                return stored, None
            segments, real = found, archiveheader.pax_real_size(fields)
        return real, archiveheader.checked_map(segments, self._left, real)

    def _old_sparse_map(self, block: bytes) -> tuple[list[tuple[int, int]], int]:
        segments, more, real = archiveheader.gnu_sparse_map(block)
        while more:
            found, more = archiveheader.gnu_sparse_block(self._exactly(BLOCK))
            segments += found
            if len(segments) * 24 > self._limits.header_bytes:
                raise BadHeader("the map of a sparse file is too long")
        return segments, real

    def _data_sparse_map(self) -> list[tuple[int, int]]:
        """Format 1.0: lines of numbers in the first blocks of the data."""
        lines: list[bytes] = []
        text, wanted = b"", 1
        while len(lines) < wanted:
            if self._left < BLOCK or len(lines) * 24 > self._limits.header_bytes:
                raise BadHeader("damaged map of a sparse file")
            text += self._exactly(BLOCK)
            self._left -= BLOCK
            *found, text = text.split(b"\n")
            lines += found
            wanted = 1 + 2 * archiveheader.pax_number(lines[0]) if lines else 1
        numbers = [archiveheader.pax_number(line) for line in lines[1:wanted]]
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def _records(self, header: Header) -> list[tuple[bytes, bytes]]:
        data = self._extension(header)
        try:
            return archiveheader.pax_records(data)
        except BadHeader as error:
            raise self._bad(str(error)) from error

    def _extension(self, header: Header) -> bytes:
        if header.size > self._limits.header_bytes:
            raise self._bad(f"an extended header of {header.size} bytes")
        data = self._exactly(header.size)
        self._skip(-header.size % BLOCK)
        return data

    def _exactly(self, size: int, *, at_most: bool = False) -> bytes:
        data = self._source.read(size) if at_most else read_up_to(self._source, size)
        if len(data) < size and not (data and at_most):
            raise self._bad("it is cut off")
        return data

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._exactly(min(size, CHUNK), at_most=True))

    def _bad(self, reason: str) -> InvalidParameter:
        where = f" at entry {shown(self._last)}" if self._last else ""
        return InvalidParameter(f"{self._what} is no good tar archive{where}: {reason}")


def _number(fields: Mapping[bytes, bytes], key: bytes, otherwise: int) -> int:
    return archiveheader.pax_number(fields[key]) if key in fields else otherwise


def _mtime_ns(fields: Mapping[bytes, bytes], seconds: int) -> int:
    if b"mtime" in fields:
        return archiveheader.pax_time_ns(fields[b"mtime"])
    return seconds * 10**9


def _xattrs(fields: Mapping[bytes, bytes]) -> dict[str, bytes]:
    return {
        os.fsdecode(key.removeprefix(_XATTR)): value
        for key, value in fields.items()
        if key.startswith(_XATTR)
    }
