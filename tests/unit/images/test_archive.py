"""The tar reader against Python's and GNU's writers, and against what no writer makes."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from unit.images.tars import (
    MTIME,
    Dribble,
    Member,
    device,
    directory,
    hard_link,
    member,
    symlink,
    tar,
)

from cnm.errors import InvalidParameter
from cnm.runtime.container.archive import Entry, Kind, Limits, TarReader, shown
from cnm.runtime.container.archiveheader import BadHeader, pax_time_ns
from cnm.runtime.container.imagestream import Measured

LONG = "d" * 99 + "/" + "e" * 150 + "/" + "f" * 200
FORMATS = {
    "ustar": tarfile.USTAR_FORMAT,
    "gnu": tarfile.GNU_FORMAT,
    "pax": tarfile.PAX_FORMAT,
}


def read(data: bytes, limits: Limits | None = None) -> list[tuple[Entry, bytes]]:
    """All entries with their content, holes filled."""
    limits = limits or Limits()
    measured = Measured(Dribble(data), "the archive", limits.archive_bytes)
    reader = TarReader(measured, "the archive", limits)
    found = []
    for entry in reader:
        content = bytearray(min(entry.size, 1 << 22))
        for offset, piece in reader.pieces():
            content[offset : offset + len(piece)] = piece
        found.append((entry, bytes(content)))
    assert measured.size == len(data)
    return found


@pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
def test_all_kinds_in_all_formats(kind: int) -> None:
    members = [
        directory("d", mode=0o1777),
        member("d/f", b"x" * 1000, mode=0o4755, uid=1000, gid=2000),
        symlink("d/l", "../../etc"),
        hard_link("d/h", "d/f"),
        device("c", 1, 3),
        device("b", 8, 0, tarfile.BLKTYPE),
        member("p", type=tarfile.FIFOTYPE),
        member("empty"),
    ]
    found = read(tar(*members, kind=kind))
    assert [(entry.path.rstrip("/"), entry.kind) for entry, _ in found] == [
        ("d", Kind.DIRECTORY),
        ("d/f", Kind.FILE),
        ("d/l", Kind.SYMLINK),
        ("d/h", Kind.HARD_LINK),
        ("c", Kind.CHARACTER),
        ("b", Kind.BLOCK),
        ("p", Kind.FIFO),
        ("empty", Kind.FILE),
    ]
    file, content = found[1]
    assert (file.mode, file.uid, file.gid, file.size) == (0o4755, 1000, 2000, 1000)
    assert (file.mtime_ns, content) == (MTIME * 10**9, b"x" * 1000)
    assert [found[index][0].link for index in (2, 3)] == ["../../etc", "d/f"]
    assert [found[index][0].device for index in (4, 5)] == [(1, 3), (8, 0)]
    assert found[0][0].mode == 0o1777


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_long_names_and_large_numbers(kind: int) -> None:
    members = [
        member(LONG, b"1", uid=3_000_000, gid=2**31),
        symlink("l", LONG),
        hard_link("h", LONG),
        member("after", b"2"),
    ]
    found = read(tar(*members, kind=kind))
    assert [entry.path for entry, _ in found] == [LONG, "l", "h", "after"]
    assert [entry.link for entry, _ in found] == ["", LONG, LONG, ""]
    assert (found[0][0].uid, found[0][0].gid) == (3_000_000, 2**31)
    assert found[3][1] == b"2"


def test_ustar_prefix() -> None:
    name = "p" * 150 + "/" + "n" * 90
    [(entry, _)] = read(tar(member(name), kind=tarfile.USTAR_FORMAT))
    assert entry.path == name


def test_pax_times_and_attributes() -> None:
    headers = {"mtime": "12.5", "SCHILY.xattr.user.a": "b\nc=d", "SCHILY.xattr.user.e": ""}
    [(entry, _)] = read(tar(member("f", pax_headers=headers)))
    assert entry.mtime_ns == 12_500_000_000
    assert entry.xattrs == {"user.a": b"b\nc=d", "user.e": b""}


def test_global_headers_are_passed_over() -> None:
    info = tarfile.TarInfo.create_pax_global_header({"comment": "0123", "path": "evil"})
    [(entry, content)] = read(info + tar(member("f", b"x")))
    assert (entry.path, content) == ("f", b"x")


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(["--format=gnu"], id="gnu"),
        pytest.param(["--format=pax", "--sparse-version=0.0"], id="0.0"),
        pytest.param(["--format=pax", "--sparse-version=0.1"], id="0.1"),
        pytest.param(["--format=pax", "--sparse-version=1.0"], id="1.0"),
    ],
)
def test_sparse_files_of_gnu_tar(tmp_path: Path, form: list[str]) -> None:
    """More than 4 and 21 pieces, so that old GNU maps need blocks of their own."""
    content = bytearray(1 << 21)
    with (tmp_path / "sparse").open("wb") as file:
        for number in range(40):
            at = number * 50_000 // 4096 * 4096
            content[at : at + 3] = b"%03d" % number
            file.seek(at)
            file.write(b"%03d" % number)
        file.truncate(len(content))
    command = ["tar", "-C", str(tmp_path), "--sparse", *form, "-cf", "-", "sparse"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    assert len(data) < 300_000
    [(entry, found)] = read(data + b"")
    assert (entry.path, entry.size, found) == ("sparse", len(content), bytes(content))
    assert entry.sparse is not None


def header(members: Sequence[Member], **patches: bytes) -> bytes:
    """A tar whose first header has bytes put in place, with a checksum that fits again."""
    data = bytearray(tar(*members, kind=tarfile.GNU_FORMAT))
    for where, patch in patches.items():
        start = int(where.removeprefix("at"))
        data[start : start + len(patch)] = patch
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def test_signed_checksums_of_old_tars() -> None:
    data = bytearray(tar(member("ä", b"x"), kind=tarfile.GNU_FORMAT))
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(byte - 256 if byte > 127 else byte for byte in data[:512])
    assert read(bytes(data))[0][0].path == "ä"


def test_directories_before_posix() -> None:
    [(entry, _)] = read(header([member("d/")], at156=b"\0"))
    assert entry.kind is Kind.DIRECTORY


def record(text: bytes) -> bytes:
    """A record of an extended header with its length."""
    length = len(text) + 4
    return b"%d %s\n" % (length + (length > 99), text)


def sparse(pieces: bytes, size: int) -> bytes:
    return record(b"GNU.sparse.map=" + pieces) + record(b"GNU.sparse.realsize=%d" % size)


FILE = [member("f", b"x" * 600)]
NEGATIVE = b"\xff" * 11 + b"\x00"
HOSTILE = {
    "nothing": (b"", "it is empty"),
    "a text": (b"no tar" * 200, "is no tar archive: wrong checksum"),
    "a short text": (b"no tar", "it is cut off"),
    "checksum": (tar(*FILE, member("g"))[:1536] + b"x" * 512, 'at entry "f": wrong checksum'),
    "cut in a header": (tar(*FILE)[:300], "it is cut off"),
    "cut in the data": (tar(*FILE)[:900], "it is cut off"),
    "cut in the padding": (tar(*FILE)[:1112], "it is cut off"),
    "cut behind an extension": (tar(member(LONG))[:1024], "it is cut off"),
    "negative size": (header(FILE, at124=NEGATIVE), "negative size"),
    "size of no digits": (header(FILE, at124=b"99999999999\0"), "damaged number"),
    "unknown type": (header(FILE, at156=b"V"), "at entry \"f\": unknown type b'V'"),
    "exabytes": (header(FILE, at124=b"\x80\0\0\0\x0f" + b"\xff" * 7), "is beyond 4398046511104"),
    "huge long name": (
        header([member("f", b"x", type=b"L")], at124=b"77777777777\0"),
        "an extended header of 8589934591 bytes",
    ),
    "huge pax header": (
        header([member("f", b"x", type=b"x")], at124=b"77777777777\0"),
        "an extended header of 8589934591 bytes",
    ),
    "huge global header": (
        header([member("f", b"x", type=b"g")], at124=b"77777777777\0"),
        "an extended header of 8589934591 bytes",
    ),
    **{
        f"pax {text!r}": (header([member("x", text, type=b"x")])[:1024] + tar(*FILE), message)
        for text, message in {
            b"999 path=x\n": "damaged extended header",
            b"0 path=x\n": "damaged extended header",
            b"-1 path=x\n": "damaged number",
            b"path=x\n": "damaged number",
            b"9 path=xx": "damaged extended header",
            b"8 pathx\n": "damaged extended header",
            record(b"size=-1"): "damaged number",
            record(b"size=1e99"): "damaged number",
            record(b"mtime=1e999999999"): "damaged time",
            record(b"uid=0x1"): "damaged number",
            record(b"GNU.sparse.major=1"): "damaged map of a sparse file",
            record(b"GNU.sparse.map=0,700"): "sparse file without its size",
            sparse(b"0,700", 100): "damaged map of a sparse file",
            sparse(b"10,300,0,300", 1000): "damaged map of a sparse file",
            sparse(b"0,9", 100): "does not fit its data",
            sparse(b"0", 100): "damaged map of a sparse file",
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile(data: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        read(data)
    assert message in str(caught.value)
    assert str(caught.value).startswith("the archive ")
    assert "\n" not in str(caught.value)


def test_a_long_chain_of_extensions_ends() -> None:
    chain = tar(member("x" * 200), kind=tarfile.GNU_FORMAT)[:1024] * 5000
    with pytest.raises(InvalidParameter, match="it is cut off"):
        read(chain)


def test_limits() -> None:
    data = tar(*(member(f"f{number}") for number in range(11)))
    with pytest.raises(InvalidParameter, match='at entry "f10": more than 10 entries'):
        read(data, Limits(entries=10))
    with pytest.raises(InvalidParameter, match="holds more than 2000 bytes unpacked"):
        read(data, Limits(archive_bytes=2000))
    with pytest.raises(InvalidParameter, match='"f": a size of 600 bytes is beyond 599'):
        read(tar(*FILE), Limits(file_bytes=599))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a b", '"a b"'),
        ("a\x1b[31m\n", '"a\\x1b[31m\\n"'),
        (os.fsdecode(b"\xff"), '"\\udcff"'),
        ("x" * 500, '"' + "x" * 160 + '…"'),
    ],
)
def test_shown(name: str, text: str) -> None:
    assert shown(name) == text


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [(b"0", 0), (b"-1.25", -1_250_000_000), (b"1.1234567891", 1_123_456_789), (b"3.", 3 * 10**9)],
)
def test_times(text: bytes, nanoseconds: int) -> None:
    assert pax_time_ns(text) == nanoseconds


@pytest.mark.parametrize("text", [b"", b"1e9", b"nan", b"1.2.3", b"9" * 19])
def test_times_that_are_none(text: bytes) -> None:
    with pytest.raises(BadHeader):
        pax_time_ns(text)
