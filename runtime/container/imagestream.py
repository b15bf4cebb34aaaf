"""Byte streams of archives: what they are packed with, how long they are, their digest.

Nothing is held but a buffer. gzip, xz and bzip2 are unpacked by the standard library;
zstd by Python 3.14's or by the package ``zstandard``, if it is installed.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import importlib
import lzma
import zlib
from collections.abc import Callable
from typing import Any, cast

from cnm.errors import InvalidParameter, KernelError
from cnm.imageapi import ByteSource

CHUNK = 1 << 18  # bytes; larger reads were not faster

# The largest xz preset needs 65 MB; a hostile header may ask for 4 GB.
_XZ_MEMORY = 256 << 20
_ZSTD_WINDOW = 128 << 20  # what `zstd --long=27` makes; more is refused by its own default too


def decompressed(source: ByteSource, what: str) -> ByteSource:
    """The stream unpacked, whatever it is packed with (told by its first bytes).

    Reading raises ``InvalidParameter`` if the packed data are damaged or cut off.

    :param what: names the stream in errors.
    :raises InvalidParameter: it is packed with something that cannot be unpacked here.
    """
    head = read_up_to(source, 6)
    whole = _Prefixed(head, source)
    if head.startswith(b"\x1f\x8b"):
        return _Checked(cast(ByteSource, gzip.GzipFile(fileobj=cast(Any, whole))), what, "gzip")
    if head.startswith(b"BZh"):
        return _Checked(_Blocks(whole, bz2.BZ2Decompressor), what, "bzip2")
    if head.startswith(b"\xfd7zXZ\x00"):
        return _Checked(_Blocks(whole, _xz_engine), what, "xz")
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _Checked(_zstd(whole, what), what, "zstd")
    return whole


def read_up_to(source: ByteSource, size: int) -> bytes:
    """``size`` bytes, fewer only at the end."""
    data = source.read(size)
    while len(data) < size and (more := source.read(size - len(data))):
        data += more
    return data


class Measured:
    """Passes a stream on, counting and hashing it.

    :param limit: reading beyond so many bytes raises ``InvalidParameter``.
    """

    def __init__(self, source: ByteSource, what: str, limit: int) -> None:
        self._source = source
        self._what = what
        self._limit = limit
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int, /) -> bytes:
        try:
            data = self._source.read(size)
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, f"read {self._what}") from error
        self.size += len(data)
        if self.size > self._limit:
            raise InvalidParameter(f"{self._what} holds more than {self._limit} bytes unpacked")
        self._hash.update(data)
        return data

    def drain(self) -> None:
        """Read to the end."""
        while self.read(CHUNK):
            pass

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of what was read so far."""
        return f"sha256:{self._hash.hexdigest()}"


class _Prefixed:
    """A stream whose first bytes were already read."""

    def __init__(self, head: bytes, source: ByteSource) -> None:
        self._head = head
        self._source = source

    def read(self, size: int, /) -> bytes:
        if not self._head:
            return self._source.read(size)
        data, self._head = self._head[:size], self._head[size:]
        return data


class _Checked:
    """Turns the unpackers' errors into ours."""

    def __init__(self, source: ByteSource, what: str, kind: str) -> None:
        self._source = source
        self._message = f"{what}: damaged {kind} data"

    def read(self, size: int, /) -> bytes:
        try:
            return self._source.read(size)
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, _BadBlock) as error:
            raise InvalidParameter(f"{self._message}: {error}") from error
        except Exception as error:
            # each of the two zstd packages has an error class of its own, called ZstdError
            if type(error).__name__ != "ZstdError":
                raise
            raise InvalidParameter(f"{self._message}: {error}") from error


class _BadBlock(Exception):
    """bzip2 data that are damaged (its unpacker raises a bare OSError), or rubbish behind."""


class _Blocks:
    """Unpacks with an engine of the bz2 and lzma modules, member after member.

    Their file classes would do, but for the limit on memory, which xz needs.
    """

    def __init__(self, source: ByteSource, engine: Callable[[], Any]) -> None:
        self._source = source
        self._start = engine
        self._engine = engine()

    def read(self, size: int, /) -> bytes:
        while True:
            if self._engine.eof and not self._next_member():
                return b""
            packed = self._source.read(CHUNK) if self._engine.needs_input else b""
            if self._engine.needs_input and not packed:
                raise _BadBlock("it ends too early")
            if data := self._unpack(packed, size):
                return data

    def _unpack(self, packed: bytes, size: int) -> bytes:
        try:
            return cast(bytes, self._engine.decompress(packed, size))
        except (OSError, ValueError) as error:
            raise _BadBlock(str(error)) from error

    def _next_member(self) -> bool:
        """Start with the data behind the last member; zeros are padding (xz format, 2.2)."""
        rest = self._engine.unused_data.lstrip(b"\0")
        while not rest:
            if not (rest := self._source.read(CHUNK)):
                return False
            rest = rest.lstrip(b"\0")
        self._engine = self._start()
        self._source = _Prefixed(rest, self._source)
        return True


def _xz_engine() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


def _zstd(source: ByteSource, what: str) -> ByteSource:
    for name in ("compression.zstd", "zstandard"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if name == "zstandard":
            engine = module.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
            return cast(ByteSource, engine.stream_reader(source, read_across_frames=True))
        return cast(ByteSource, module.ZstdFile(source))
    raise InvalidParameter(
        f"{what} is packed with zstd, which this Python cannot unpack: "
        "install the package zstandard, or pack it with gzip"
    )
