"""Packed streams: unpacked in bounded memory, or refused for what is wrong with them."""

import bz2
import gzip
import hashlib
import importlib.util
import lzma
import zlib
from collections.abc import Callable

import pytest
from unit.images.tars import Dribble

from cnm.errors import InvalidParameter, KernelError
from cnm.imageapi import ByteSource
from cnm.runtime.container.imagestream import Measured, decompressed

TEXT = b"".join(b"%d\n" % number for number in range(40_000))
PACKERS = [gzip.compress, bz2.compress, lzma.compress]


def whole(source: ByteSource) -> bytes:
    parts = []
    while data := source.read(10_000):
        assert len(data) <= 10_000
        parts.append(data)
    return b"".join(parts)


@pytest.mark.parametrize("pack", [*PACKERS, bytes])
def test_unpacked(pack: Callable[[bytes], bytes]) -> None:
    assert whole(decompressed(Dribble(pack(TEXT)), "x")) == TEXT


@pytest.mark.parametrize("pack", PACKERS)
def test_members_behind_one_another_with_padding(pack: Callable[[bytes], bytes]) -> None:
    data = pack(TEXT) + bytes(8) + pack(b"more") + bytes(512)
    assert whole(decompressed(Dribble(data, 100), "x")) == TEXT + b"more"


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("change", ["cut", "damaged", "rubbish behind"])
def test_damaged(pack: Callable[[bytes], bytes], change: str) -> None:
    data = bytearray(pack(TEXT))
    if change == "cut":
        del data[-20:]
    elif change == "damaged":
        data[len(data) // 2 : len(data) // 2 + 9] = b"\xff" * 9
    else:
        data += b"rubbish that is not packed"
    with pytest.raises(InvalidParameter, match=r"^the archive: damaged \w+ data: "):
        whole(decompressed(Dribble(bytes(data)), "the archive"))


def test_bombs_are_unpacked_piece_by_piece() -> None:
    bomb = gzip.compress(bytes(50 << 20), 1)
    source = Measured(decompressed(Dribble(bomb, 1 << 16), "x"), "the archive", 1 << 20)
    with pytest.raises(InvalidParameter, match="the archive holds more than 1048576 bytes unpack"):
        source.drain()
    assert source.size < 2 << 20


def test_xz_that_wants_too_much_memory() -> None:
    data = bytearray(lzma.compress(TEXT))
    # the first block's header, behind the 12 bytes of the stream's (xz format, 3.1)
    end = 12 + 4 * (data[12] + 1)
    assert data[14:16] == b"\x21\x01"  # LZMA2, one byte of properties: the dictionary's size
    data[16] = 40  # 4 GiB
    data[end - 4 : end] = zlib.crc32(data[12 : end - 4]).to_bytes(4, "little")
    with pytest.raises(InvalidParameter, match="damaged xz data: Memory usage limit exceeded"):
        whole(decompressed(Dribble(bytes(data)), "x"))


def test_zstd_is_unpacked_or_refused_by_name() -> None:
    # RFC 8878: magic, single segment with a size of 5, one raw block, the last
    packed = bytes.fromhex("28b52ffd 20 05 290000") + b"hello"
    if importlib.util.find_spec("zstandard") or importlib.util.find_spec("compression"):
        assert whole(decompressed(Dribble(packed), "x")) == b"hello"
        return
    with pytest.raises(InvalidParameter, match="packed with zstd, .*install the package zstandard"):
        decompressed(Dribble(packed), "the archive")


def test_measured() -> None:
    source = Measured(Dribble(TEXT), "x", len(TEXT))
    source.drain()
    assert source.size == len(TEXT)
    assert source.digest == "sha256:" + hashlib.sha256(TEXT).hexdigest()


def test_a_stream_that_breaks() -> None:
    class Broken:
        def read(self, size: int, /) -> bytes:
            raise ConnectionResetError(104, "Connection reset by peer")

    with pytest.raises(KernelError, match="read the archive: Connection reset by peer"):
        Measured(Broken(), "the archive", 10).read(1)
