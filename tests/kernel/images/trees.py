"""Directories as values, read with plain system calls, so that trees can be compared."""

from __future__ import annotations

import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

OPAQUE = "trusted.overlay.opaque"


@dataclass(frozen=True)
class Node:
    """What is at one path. ``content``: of a file, a link's target, a device's numbers."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    content: object
    xattrs: tuple[tuple[str, bytes], ...]


def nodes(tree: Path) -> dict[str, Node]:
    """All that is in the tree, the root as ``.``."""
    found = {".": _node(tree)}
    for parent, directories, files in os.walk(tree):
        for name in directories + files:
            path = Path(parent, name)
            found[str(path.relative_to(tree))] = _node(path)
    return found


def kinds(tree: Path) -> dict[str, str]:
    """The types of all that is in the tree, by path."""
    return {path: node.kind for path, node in nodes(tree).items() if path != "."}


def everything(root: Path) -> list[str]:
    """All paths below, sorted."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def merged(lower: list[str], script: str) -> str:
    """Mount the directories as overlayfs, in a mount namespace of their own, and run a script.

    The mount is at ``$m``; the standard output of the script is returned.
    """
    setup = 'set -e; mount -t tmpfs none "$0"; mkdir "$0/u" "$0/w" "$0/m"; m="$0/m"; '
    setup += 'mount -t overlay none -o "lowerdir=$1,upperdir=$0/u,workdir=$0/w" "$m"; cd "$m"; '
    command = ["unshare", "--mount", "sh", "-c", setup + script, "/mnt", ":".join(lower)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _node(path: Path) -> Node:
    status = path.lstat()
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names))
    kind, content = _content(path, status)
    owner = (status.st_uid, status.st_gid)
    return Node(kind, stat.S_IMODE(status.st_mode), owner, status.st_mtime_ns, content, xattrs)


def _content(path: Path, status: os.stat_result) -> tuple[str, object]:
    if stat.S_ISREG(status.st_mode):
        return "file", path.read_bytes()
    if stat.S_ISLNK(status.st_mode):
        return "link", os.readlink(path)
    device = os.major(status.st_rdev), os.minor(status.st_rdev)
    if stat.S_ISCHR(status.st_mode):
        return ("whiteout" if device == (0, 0) else "character"), device
    if stat.S_ISBLK(status.st_mode):
        return "block", device
    return ("directory" if stat.S_ISDIR(status.st_mode) else "fifo"), None
