"""One layer: a tar's entries made into a directory that overlayfs can use as a lower one.

The archive is hostile until shown otherwise. Every directory is opened with openat2
beneath the layer's root and without following any link; everything is made new, never
opened or written through; what exists already is an error, but for directories. So a
link inside the archive may point anywhere: nothing here ever follows it. An archive
that puts a file below a symbolic link of its own is refused, where Docker would follow
the link inside the root: no layer that is made from a file system has that.

Whiteouts (``.wh.NAME``, ``.wh..wh..opq``) become overlayfs' own: a character device 0:0,
and the attribute ``trusted.overlay.opaque``. As the OCI specification says, they hide
what lower layers have, never what this layer brings itself.

Sources: OCI image specification, "Image Layer Filesystem Changeset"; the kernel's
Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from cnm.errors import InvalidParameter, KernelError
from cnm.runtime.container.archive import Entry, Kind, TarReader, shown
from cnm.runtime.container.imagefs import open_beneath, open_root

_log = logging.getLogger(__name__)

OPAQUE = "trusted.overlay.opaque"
_WHITEOUT = ".wh."
_WHITEOUT_META = ".wh..wh."  # aufs' own; only the opaque mark means something to us
_WHITEOUT_OPAQUE = ".wh..wh..opq"
_LONGEST_PATH = 4095  # PATH_MAX without its NUL
_DEEPEST = 256  # directories: removal recurses, and no real tree has half of it
_LARGEST_ID = 2**32 - 2  # the number above means "do not change" to chown(2)
_IMPLIED_MODE = 0o755  # of a directory that has no entry of its own; Docker's too

# What says that this machine failed, not that the archive is bad.
_MACHINE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
)
_Path = tuple[str, ...]
_Pieces = Iterable[tuple[int, bytes]]


def unpack(reader: TarReader, tree: Path, what: str) -> int:
    """Fill the empty directory ``tree`` from the archive; the bytes of file content.

    :raises InvalidParameter: an entry is hostile, impossible or absurd: it is named.
    :raises KernelError: the disk is full, …; what was made is for the caller to remove.
    """
    with Layer(tree, what) as layer:
        for entry in reader:
            layer.add(entry, reader.pieces())
        layer.finish()
        return layer.size


def components(path: str) -> _Path:
    """The names on the way, ``.`` and a leading ``/`` left out, ``..`` resolved as text.

    :raises ValueError: it leaves the root, is too long, too deep, or not a path at all.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ValueError("the path is too long")
    if "\0" in path:
        raise ValueError("the path has a NUL in it")
    found: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not found:
                raise ValueError("it points outside the root")
            found.pop()
        elif part not in ("", "."):
            found.append(part)
    if len(found) > _DEEPEST:
        raise ValueError(f"it lies deeper than {_DEEPEST} directories")
    return tuple(found)


def is_opaque(tree: Path) -> bool:
    """Whether a layer hides everything below it (the mark on its root)."""
    try:
        return os.getxattr(tree, OPAQUE, follow_symlinks=False) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return False
        raise KernelError(error.errno or 0, f"read {OPAQUE} of {tree}") from error


class Layer:
    """A directory that is being filled. A context manager: it holds descriptors."""

    def __init__(self, tree: Path, what: str) -> None:
        self._what = what
        self._root = open_root(tree)
        os.fchmod(self._root, _IMPLIED_MODE)
        self._open: tuple[_Path, int] | None = None  # the directory used last: most come in runs
        self._mtimes: dict[_Path, int] = {}  # of directories, set when nothing changes any more
        self._lost_xattrs = 0
        self.size = 0
        self._makers: dict[Kind, Callable[[Entry, int, str, _Pieces], None]] = {
            Kind.FILE: self._make_file,
            Kind.HARD_LINK: self._make_hard_link,
            Kind.SYMLINK: self._make_symlink,
            Kind.CHARACTER: self._make_node,
            Kind.BLOCK: self._make_node,
            Kind.FIFO: self._make_node,
        }

    def __enter__(self) -> Layer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._forget_open()
        os.close(self._root)

    def add(self, entry: Entry, pieces: _Pieces) -> None:
        """Make one entry; ``pieces`` are a file's data. Errors as :func:`unpack`."""
        try:
            self._add(entry, pieces)
        except OSError as error:
            raise self._translated(entry, error) from error
        except (ValueError, OverflowError) as error:
            raise self._bad(entry, str(error)) from error

    def finish(self) -> None:
        """Set the directories' times; call it after the last entry."""
        for path, mtime_ns in self._mtimes.items():
            os.utime(self._directory(path), ns=(mtime_ns, mtime_ns))
        if self._lost_xattrs:
            _log.warning(
                "%s: %d extended attributes were not kept, the file system refuses them",
                self._what,
                self._lost_xattrs,
            )

    def _add(self, entry: Entry, pieces: _Pieces) -> None:
        _check(entry)
        path = components(entry.path)
        if not path:
            self._describe_root(entry)
            return
        *parents, name = path
        if name == _WHITEOUT_OPAQUE:
            os.setxattr(self._directory(tuple(parents)), OPAQUE, b"y")
        elif any(part.startswith(_WHITEOUT_META) for part in path):
            return
        elif any(part.startswith(_WHITEOUT) for part in parents):
            raise ValueError("a whiteout is no directory")
        elif name.startswith(_WHITEOUT):
            self._hide(self._directory(tuple(parents)), name.removeprefix(_WHITEOUT))
        elif entry.kind is Kind.DIRECTORY:
            self._make_directory(entry, path)
        else:
            self._make(entry, self._directory(tuple(parents)), name, pieces)

    def _describe_root(self, entry: Entry) -> None:
        if entry.kind is not Kind.DIRECTORY:
            raise ValueError(f"the root cannot be a {entry.kind.value}")
        self._describe(entry, self._root)
        self._mtimes[()] = entry.mtime_ns

    def _hide(self, parent: int, name: str) -> None:
        """A whiteout. What this layer has itself stays, but hides what is below it."""
        if name in ("", ".", ".."):
            raise ValueError("the whiteout points outside its directory")
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        except FileExistsError:
            if _is_whiteout(parent, name):
                raise
            self._make_opaque(parent, name)

    def _make_opaque(self, parent: int, name: str) -> None:
        """Keep the directory from merging with lower ones; other things never do."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.setxattr(f"/proc/self/fd/{parent}/{name}", OPAQUE, b"y", follow_symlinks=False)

    def _make_directory(self, entry: Entry, path: _Path) -> None:
        """A directory may come twice, or after what is in it: its description counts."""
        self._directory(path[:-1])
        try:
            descriptor = self._directory(path)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
            raise
        self._describe(entry, descriptor)
        self._mtimes[path] = entry.mtime_ns

    def _make(self, entry: Entry, parent: int, name: str, pieces: _Pieces) -> None:
        make = self._makers[entry.kind]
        try:
            make(entry, parent, name, pieces)
        except FileExistsError:
            if not _is_whiteout(parent, name):
                raise
            os.unlink(name, dir_fd=parent)
            make(entry, parent, name, pieces)

    def _make_file(self, entry: Entry, parent: int, name: str, pieces: _Pieces) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            for offset, data in pieces:
                _write(descriptor, data, offset)
                self.size += len(data)
            if entry.sparse is not None:
                os.ftruncate(descriptor, entry.size)
            self._describe(entry, descriptor)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)

    def _make_hard_link(self, entry: Entry, parent: int, name: str, pieces: _Pieces) -> None:
        target = components(entry.link)
        if not target:
            raise ValueError("a hard link to the root")
        # not through the cache: it holds the descriptor of ``parent``
        source = self._root if len(target) == 1 else open_beneath(self._root, "/".join(target[:-1]))
        try:
            if _is_whiteout(source, target[-1]):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            if source != self._root:
                os.close(source)

    def _make_symlink(self, entry: Entry, parent: int, name: str, pieces: _Pieces) -> None:
        os.symlink(entry.link, name, dir_fd=parent)
        self.size += len(os.fsencode(entry.link))  # Docker counts it too
        self._describe_name(entry, parent, name)

    def _make_node(self, entry: Entry, parent: int, name: str, pieces: _Pieces) -> None:
        types = {Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}
        device = os.makedev(*entry.device) if entry.kind is not Kind.FIFO else 0
        os.mknod(name, types[entry.kind] | 0o600, device, dir_fd=parent)
        self._describe_name(entry, parent, name)

    def _describe(self, entry: Entry, descriptor: int) -> None:
        """Owner, then mode (chown clears set-id bits), then attributes (it clears those too)."""
        os.fchown(descriptor, entry.uid, entry.gid)
        os.fchmod(descriptor, entry.mode)
        for key, value in entry.xattrs.items():
            self._set_xattr(descriptor, key, value)

    def _describe_name(self, entry: Entry, parent: int, name: str) -> None:
        """The same for what must not be opened."""
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind is not Kind.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=parent)
        for key, value in entry.xattrs.items():
            self._set_xattr(f"/proc/self/fd/{parent}/{name}", key, value)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _set_xattr(self, target: int | str, key: str, value: bytes) -> None:
        """A file system without attributes, or a link that may have none, loses them: told once."""
        try:
            if isinstance(target, int):
                os.setxattr(target, key, value)
            else:
                os.setxattr(target, key, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                raise
            self._lost_xattrs += 1

    def _directory(self, path: _Path) -> int:
        """A descriptor of a directory of the layer, good until the next call; made if missing."""
        if not path:
            return self._root
        if self._open is not None and self._open[0] == path:
            return self._open[1]
        try:
            descriptor = open_beneath(self._root, "/".join(path))
        except (FileNotFoundError, NotADirectoryError):
            self._make_implied(self._directory(path[:-1]), path[-1])
            descriptor = open_beneath(self._root, "/".join(path))
        self._forget_open()
        self._open = (path, descriptor)
        return descriptor

    def _make_implied(self, parent: int, name: str) -> None:
        """A directory that is missing, or that this layer's own whiteout stands for."""
        hidden = _is_whiteout(parent, name)
        if hidden:
            os.unlink(name, dir_fd=parent)
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
        os.chmod(name, _IMPLIED_MODE, dir_fd=parent)  # whatever the umask is
        if hidden:
            self._make_opaque(parent, name)

    def _forget_open(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def _translated(self, entry: Entry, error: OSError) -> Exception:
        number = error.errno or errno.EIO
        if number in _MACHINE:
            return KernelError(number, f"{self._what}: unpack {shown(entry.path)}")
        reasons = {
            errno.ELOOP: "it lies below a symbolic link",
            errno.ENOTDIR: "it lies below something that is no directory",
            errno.EEXIST: "it is there twice",
        }
        if entry.kind is Kind.HARD_LINK and number in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return self._bad(entry, f"hard link to {shown(entry.link)}, which is not in the layer")
        return self._bad(entry, reasons.get(number, os.strerror(number)))

    def _bad(self, entry: Entry, reason: str) -> InvalidParameter:
        return InvalidParameter(f"{self._what}: entry {shown(entry.path)} is refused: {reason}")


def _check(entry: Entry) -> None:
    """:raises ValueError: what no honest layer has."""
    if not (0 <= entry.uid <= _LARGEST_ID and 0 <= entry.gid <= _LARGEST_ID):
        raise ValueError(f"impossible owner {entry.uid}:{entry.gid}")
    if entry.kind in (Kind.CHARACTER, Kind.BLOCK):
        major, minor = entry.device
        if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
            raise ValueError(f"impossible device {major}:{minor}")
        if entry.kind is Kind.CHARACTER and entry.device == (0, 0):
            raise ValueError("a device 0:0 would be a whiteout to overlayfs")
    for key in entry.xattrs:
        if key.startswith("trusted.overlay."):
            raise ValueError(f"the attribute {shown(key)} would steer overlayfs")


def _is_whiteout(parent: int, name: str) -> bool:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(0, 0)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
