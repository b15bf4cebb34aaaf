"""Layers from tars: everything kept, whiteouts turned, hostile entries refused by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel.images.conftest import Unpack
from kernel.images.trees import OPAQUE, Node, kinds, nodes
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

from cnm.errors import InvalidParameter, KernelError
from cnm.runtime.container.archive import Limits, TarReader
from cnm.runtime.container.imagestream import Measured
from cnm.runtime.container.layers import unpack

pytestmark = pytest.mark.kernel


def test_everything_is_kept(unpacked: Unpack) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")  # net_bind_service
    attributes = {
        "SCHILY.xattr.security.capability": capability.decode("latin-1"),
        "SCHILY.xattr.user.note": "n",
    }
    tree = unpacked(
        tar(
            directory("./", mode=0o751, uid=7),
            directory("d", mode=0o2775, uid=1, gid=2),
            member("d/f", b"text", mode=0o6755, uid=1000, gid=1001, pax_headers=attributes),
            hard_link("d/h", "d/f"),
            symlink("d/l", "/etc/passwd", uid=5),
            device("c", 1, 3),
            device("b", 8, 1, tarfile.BLKTYPE),
            member("p", type=tarfile.FIFOTYPE, mode=0o600),
            member("implied/a/b", b""),
        )
    )
    found = nodes(tree)
    assert (found["."].mode, found["."].owner) == (0o751, (7, 0))
    assert (found["d"].mode, found["d"].owner) == (0o2775, (1, 2))
    file = found["d/f"]
    assert (file.mode, file.owner, file.content) == (0o6755, (1000, 1001), b"text")
    assert file.xattrs == (("security.capability", capability), ("user.note", b"n"))
    assert os.path.samefile(tree / "d/f", tree / "d/h")
    assert (found["d/l"].content, found["d/l"].owner) == ("/etc/passwd", (5, 0))
    assert (found["c"].kind, found["c"].content) == ("character", (1, 3))
    assert (found["b"].kind, found["b"].content) == ("block", (8, 1))
    assert (found["p"].kind, found["p"].mode) == ("fifo", 0o600)
    assert (found["implied/a"].mode, found["implied/a"].owner) == (0o755, (0, 0))
    for name in (".", "d", "d/f", "d/l", "c", "p", "implied/a/b"):
        assert found[name].mtime_ns == MTIME * 10**9, name


def test_sparse_files_stay_sparse(unpacked: Unpack, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
        file.truncate(100 << 20)
    command = ["tar", "-C", str(tmp_path), "--sparse", "-cf", "-", "sparse"]
    tree = unpacked(subprocess.run(command, capture_output=True, check=True).stdout)
    status = (tree / "sparse").stat()
    assert (status.st_size, status.st_blocks * 512 < 1 << 20) == (100 << 20, True)
    assert subprocess.run(["cmp", tree / "sparse", tmp_path / "sparse"]).returncode == 0


WHITEOUTS: dict[str, tuple[list[Member], dict[str, str], list[str]]] = {
    "one": ([member(".wh.a")], {"a": "whiteout"}, []),
    "below": ([directory("d"), member("d/.wh.a")], {"d": "directory", "d/a": "whiteout"}, []),
    "in an implied directory": ([member("d/.wh.a")], {"d": "directory", "d/a": "whiteout"}, []),
    "opaque": ([directory("d"), member("d/.wh..wh..opq")], {"d": "directory"}, ["d"]),
    "opaque root": ([member(".wh..wh..opq")], {}, ["."]),
    "before what replaces it": ([member(".wh.a"), member("a")], {"a": "file"}, []),
    "before a directory": ([member(".wh.a"), directory("a")], {"a": "directory"}, ["a"]),
    "before an implied directory": (
        [member(".wh.a"), member("a/b")],
        {"a": "directory", "a/b": "file"},
        ["a"],
    ),
    "behind a file": ([member("a"), member(".wh.a")], {"a": "file"}, []),
    "behind a directory": ([directory("a"), member(".wh.a")], {"a": "directory"}, ["a"]),
    "of a name that begins like one": ([member(".wh..x")], {".x": "whiteout"}, []),
    "what aufs left": (
        [directory(".wh..wh.plnk"), member(".wh..wh.plnk/1.2"), member(".wh..wh.aufs")],
        {},
        [],
    ),
}


@pytest.mark.parametrize(
    ("members", "wanted", "opaque"), WHITEOUTS.values(), ids=WHITEOUTS
)  # fmt: skip
def test_whiteouts(
    unpacked: Unpack, members: list[Member], wanted: dict[str, str], opaque: list[str]
) -> None:
    tree = unpacked(tar(*members))
    assert kinds(tree) == wanted
    marked = [path for path, node in nodes(tree).items() if (OPAQUE, b"y") in node.xattrs]
    assert marked == opaque


def test_names_that_only_look_bad(unpacked: Unpack) -> None:
    """Leading slashes go, as Docker does it; what comes back inside is inside."""
    data = tar(member("/abs/a"), member("x/../b"), member("./c"), member("d//e"), member("..f"))
    assert set(kinds(unpacked(data))) == {"abs", "abs/a", "b", "c", "d", "d/e", "..f"}


def test_directories_may_come_again(unpacked: Unpack) -> None:
    tree = unpacked(tar(member("d/f"), directory("d", mode=0o700), directory("d", mode=0o711)))
    assert nodes(tree)["d"].mode == 0o711


DEEP = "/".join("d" * 300)
HOSTILE: dict[str, tuple[list[Member], str, str]] = {
    "dots": ([member("../evil")], "../evil", "it points outside the root"),
    "dots inside": ([member("a/../../evil")], "a/../../evil", "it points outside the root"),
    "dots behind a slash": ([member("/../evil")], "/../evil", "it points outside the root"),
    "directory of dots": ([directory("..")], "..", "it points outside the root"),
    "link, then through it": (
        [symlink("l", "/OUT"), member("l/evil")], "l/evil", "it lies below a symbolic link"),
    "relative link, then through it": (
        [symlink("l", "../OUT"), member("l/evil")], "l/evil", "it lies below a symbolic link"),
    "link inside, then through it": (
        [directory("d"), symlink("l", "d"), member("l/evil")],
        "l/evil", "it lies below a symbolic link"),
    "link deep below": (
        [symlink("a/b/l", "/OUT"), member("a/b/l/c/d/evil")],
        "a/b/l/c/d/evil", "it lies below a symbolic link"),
    "link, then the same as a file": (
        [symlink("l", "/OUT/evil"), member("l", b"x")], "l", "it is there twice"),
    "link, then the same as a directory": (
        [symlink("l", "/OUT"), directory("l")], "l", "it is there twice"),
    "link, then a whiteout through it": (
        [symlink("l", "/OUT"), member("l/.wh.kept")],
        "l/.wh.kept", "it lies below a symbolic link"),
    "link, then an opaque mark through it": (
        [symlink("l", "/OUT"), member("l/.wh..wh..opq")],
        "l/.wh..wh..opq", "it lies below a symbolic link"),
    "hard link to outside": (
        [hard_link("h", "../OUT/kept")], "h", "it points outside the root"),
    "hard link to an absolute path": (
        [hard_link("h", "/OUT/kept")], "h", 'hard link to "/OUT/kept", which is not in the layer'),
    "hard link through a link": (
        [symlink("l", "/OUT"), hard_link("h", "l/kept")],
        "h", 'hard link to "l/kept", which is not in the layer'),
    "hard link to nothing": (
        [hard_link("h", "nope")], "h", 'hard link to "nope", which is not in the layer'),
    "hard link to the root": ([hard_link("h", "/")], "h", "a hard link to the root"),
    "hard link to a directory": (
        [directory("d"), hard_link("h", "d")], "h", "Operation not permitted"),
    "hard link to a whiteout": (
        [member(".wh.a"), hard_link("h", "a")],
        "h", 'hard link to "a", which is not in the layer'),
    "whiteout of dots": ([member(".wh...")], ".wh...", "points outside its directory"),
    "whiteout of a dot": ([member("d/.wh..")], "d/.wh..", "points outside its directory"),
    "whiteout of nothing": ([member(".wh.")], ".wh.", "points outside its directory"),
    "whiteout with dots": ([member("../.wh.kept")], "../.wh.kept", "points outside the root"),
    "whiteout twice": ([member(".wh.a"), member(".wh.a")], ".wh.a", "it is there twice"),
    "whiteout as a directory": (
        [directory(".wh.d"), member(".wh.d/f")], ".wh.d/f", "a whiteout is no directory"),
    "whiteout as a device": (
        [device("w", 0, 0)], "w", "a device 0:0 would be a whiteout to overlayfs"),
    "overlayfs' own attribute": (
        [directory("d", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/etc"})],
        "d", 'the attribute "trusted.overlay.redirect" would steer overlayfs'),
    "file twice": ([member("f"), member("./f")], "./f", "it is there twice"),
    "file over a directory": ([directory("d"), member("d")], "d", "it is there twice"),
    "directory over a file": ([member("f"), directory("f")], "f", "it is there twice"),
    "below a file": ([member("f"), member("f/g")], "f/g", "below something that is no directory"),
    "root as a file": ([member("./")], ".", "the root cannot be a file"),
    "root as a link": ([symlink(".", "/OUT")], ".", "the root cannot be a symbolic link"),
    "link to nowhere": ([symlink("l", "")], "l", "No such file or directory"),
    "deep": ([member(DEEP)], DEEP[:160] + "…", "it lies deeper than 256 directories"),
    "long name": ([member("n" * 256)], "n" * 160 + "…", "File name too long"),
    "long path": ([member("/".join(["n" * 200] * 21))], "n" * 160 + "…", "the path is too long"),
    "owner": (
        [member("f", pax_headers={"uid": "4294967295"})], "f", "impossible owner 4294967295:0"),
    "device": ([device("c", 4096, 0)], "c", "impossible device 4096:0"),
}  # fmt: skip


@pytest.mark.parametrize(("members", "name", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_hostile(
    unpacked: Unpack, tmp_path: Path, members: list[Member], name: str, reason: str
) -> None:
    outside = tmp_path / "out"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    before = nodes(outside)
    for info, _ in members:
        info.linkname = info.linkname.replace("/OUT", str(outside)).replace("../OUT", "../out")
    with pytest.raises(InvalidParameter) as caught:
        unpacked(tar(directory("first"), *members))
    text = str(caught.value).replace(str(outside), "/OUT")
    # tarfile writes the names of directories with a slash
    assert text.replace('/" is', '" is').startswith(f'the layer: entry "{name}" is refused: ')
    assert reason in text
    assert "\n" not in text
    assert nodes(outside) == before
    assert {path.name for path in tmp_path.iterdir()} == {"out", "tree"}


def test_a_full_disk_is_the_machines_fault(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], check=True)
    try:
        (small / "tree").mkdir()
        source = Measured(Dribble(tar(member("big", b"x" * 200_000))), "the layer", 1 << 30)
        with pytest.raises(KernelError, match='unpack "big": No space left on device'):
            unpack(TarReader(source, "the layer", Limits()), small / "tree", "the layer")
    finally:
        subprocess.run(["umount", small], check=True)


def test_no_descriptor_is_left(unpacked: Unpack) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InvalidParameter):
        unpacked(tar(member("a/b/c/d"), hard_link("x/y", "a/b/c/d"), member("a/f"), member("a/f")))
    assert len(os.listdir("/proc/self/fd")) == before


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=30
).filter(lambda name: name not in (".", "..") and not name.startswith(".wh."))
Maker = Callable[[Path], None]


def _file(content: bytes, mode: int, mtime_ns: int) -> Maker:
    def make(path: Path) -> None:
        path.write_bytes(content)
        os.chown(path, mode, mode * 3)
        path.chmod(mode)
        os.utime(path, ns=(mtime_ns, mtime_ns))

    return make


MAKERS = st.one_of(
    st.builds(_file, st.binary(max_size=3000), st.integers(0, 0o7777), st.integers(0, 4 * 10**18)),
    st.builds(
        lambda target: lambda path: path.symlink_to(target),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50),
    ),
    st.just(lambda path: os.mkfifo(path)),
    st.just(lambda path: os.mknod(path, 0o20600, os.makedev(1, 3))),
)
TREES = st.recursive(MAKERS, lambda below: st.dictionaries(NAMES, below, max_size=5), max_leaves=15)


def _plant(path: Path, tree: object) -> None:
    if not isinstance(tree, dict):
        tree(path)  # type: ignore[operator]
        return
    path.mkdir()
    for name, below in tree.items():
        if len(os.fsencode(name)) <= 255:
            _plant(path / name, below)


@pytest.mark.parametrize("form", ["gnu", "pax"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=st.dictionaries(NAMES, TREES, max_size=5))
def test_what_gnu_tar_packs_is_unpacked_the_same(form: str, tree: dict[str, object]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        _plant(folder / "from", tree)
        command = ["tar", "-C", str(folder / "from"), f"--format={form}", "--xattrs", "-cf", "-"]
        data = subprocess.run([*command, "."], capture_output=True, check=True).stdout
        (folder / "to").mkdir()
        source = Measured(Dribble(data, 10_000), "x", 1 << 30)
        unpack(TarReader(source, "x", Limits()), folder / "to", "x")
        wanted, found = nodes(folder / "from"), nodes(folder / "to")
        if form == "gnu":  # it has whole seconds only
            wanted, found = _whole_seconds(wanted), _whole_seconds(found)
        assert found == wanted
    finally:
        shutil.rmtree(folder)


def _whole_seconds(found: dict[str, Node]) -> dict[str, Node]:
    return {path: replace(node, mtime_ns=node.mtime_ns // 10**9) for path, node in found.items()}
