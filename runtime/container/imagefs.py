"""System calls of the image store that Python has no function for, and durable files."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path

from cnm.errors import KernelError

_OPENAT2 = 437  # the same number on every architecture
# openat2(2): the path stays beneath the directory, no component is a link, magic or not,
# and no mount is crossed.
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_root(path: str | Path) -> int:
    """A descriptor of a directory that is no link. :raises OSError: it is none."""
    return os.open(path, _DIRECTORY | os.O_NOFOLLOW)


def open_beneath(root: int, path: str) -> int:
    """A descriptor of the directory ``path`` below ``root``, reached without any link.

    Source: openat2(2), Linux 5.6.

    :raises OSError: ELOOP, a component is a symbolic link; ENOTDIR; ENOENT; ENAMETOOLONG.
    """
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV
    # without O_NOFOLLOW, which would make a link at the end ENOTDIR
    how = _OpenHow(_DIRECTORY, 0, resolve)
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(
        ctypes.c_long(_OPENAT2),
        ctypes.c_long(root),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return int(descriptor)


def sync_file_system(path: Path) -> None:
    """Write everything of the file system that holds ``path`` to disk: syncfs(2).

    :raises KernelError: the disk failed, or is full.
    """
    descriptor = open_root(path)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) < 0:
            raise KernelError(ctypes.get_errno(), f"write {path} to disk")
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, draft: Path) -> None:
    """Give ``path`` new content, whole or not at all, that survives a power cut.

    ``draft`` is where it is written first, on the same file system.
    """
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(draft, path)


def sync_directory(path: Path) -> None:
    """Make renames in a directory survive a power cut."""
    descriptor = open_root(path)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it, or a file; gone is success.

    :raises OSError: something in it cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
        try:
            shutil.rmtree(path)
        except (RecursionError, OSError):
            # a container may have made a tree deeper than Python's stack or our descriptors
            _remove_deep(path)


def _remove_deep(path: Path) -> None:
    done = subprocess.run(
        ["rm", "-rf", "--", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()
        raise OSError(errno.EIO, reason[0] if reason else "rm failed", str(path))
