"""What the user has mounted in a container: parts of the host, and file systems in memory.

What comes from the host is opened before the root is changed (:func:`take`), and put in its
place afterwards (:func:`place`), when the container's paths can lead nowhere outside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnm.runtime.container import mountoptions, syscalls, usernamespace
from cnm.runtime.container.usernamespace import Users
from cnm.runtimeapi import Bind, Propagation, Tmpfs

_TYPES_DIFFER = (
    "not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if "
    "the specified host path exists and is the expected type"
)
_PROPAGATIONS = {
    Propagation.PRIVATE: syscalls.MS_PRIVATE,
    Propagation.SLAVE: syscalls.MS_SLAVE,
}


@dataclass(frozen=True, slots=True)
class Detached:
    """A mount of the host's, not yet anywhere."""

    descriptor: int
    source: str
    destination: str
    directory: bool


def take(binds: Iterable[Bind], users: Users) -> list[Detached]:
    """Open what is to be shown of the host; a source that is made is the container's root's."""
    return [_take(bind, users) for bind in binds]


def _take(bind: Bind, users: Users) -> Detached:
    mapped = users.ids is not None and bind.mapped
    if bind.make_source and not os.path.lexists(bind.source):
        os.makedirs(bind.source, 0o755)
        if not mapped:
            os.chown(bind.source, users.user(0), users.group(0))
    if mapped:
        descriptor = usernamespace.mapped(bind.source, users.namespace, recursive=bind.recursive)
    else:
        descriptor = syscalls.clone_mount(bind.source, recursive=bind.recursive)
    syscalls.set_propagation(descriptor, _PROPAGATIONS[bind.propagation])
    if bind.read_only:
        syscalls.set_read_only(descriptor)
    directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    return Detached(descriptor, bind.source, bind.destination, directory)


def place(binds: Sequence[Detached], tmpfs: Sequence[Tmpfs]) -> None:
    """Mount all of it where it belongs, outer places first; a missing one is made.

    :raises OSError: with what cannot be mounted where.
    """
    everything: list[Detached | Tmpfs] = [*binds, *tmpfs]
    for item in sorted(everything, key=lambda item: item.destination.rstrip("/").count("/")):
        if isinstance(item, Detached):
            _place_bind(item)
        else:
            _place_tmpfs(item)


def _place_bind(bind: Detached) -> None:
    place = _open_place(bind.source, bind.destination, directory=bind.directory)
    syscalls.attach_mount(bind.descriptor, place)
    os.close(place)
    os.close(bind.descriptor)


def _place_tmpfs(item: Tmpfs) -> None:
    """A directory that was there keeps its mode, as with Docker; it becomes root's."""
    existed = os.path.isdir(item.destination)
    place = _open_place("tmpfs", item.destination, directory=True)
    flags, values = mountoptions.tmpfs(item.options)
    if existed:
        values.setdefault("mode", f"{stat.S_IMODE(os.fstat(place).st_mode):o}")
    data = ",".join(f"{name}={value}" for name, value in values.items())
    try:
        syscalls.mount("tmpfs", f"/proc/self/fd/{place}", "tmpfs", flags, data)
    except OSError as error:
        reason = f"{os.strerror(error.errno or 0).lower()} ({data})"
        raise _refused("tmpfs", item.destination, reason) from error
    os.close(place)


def _open_place(source: str, destination: str, *, directory: bool) -> int:
    """The place to mount on, held by a descriptor from here on.

    A directory on the way may be shared with another container, which could replace it by a link
    into ``/proc`` after we have looked: what counts is where the descriptor leads.
    """
    resolved = os.path.realpath(destination)
    _make(resolved, directory=directory)
    place = os.open(resolved, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    there = os.readlink(f"/proc/self/fd/{place}")
    if there == "/" or there == "/proc" or there.startswith("/proc/"):
        raise _refused(source, destination, f"it is {there}")
    if stat.S_ISDIR(os.fstat(place).st_mode) != directory:
        raise _refused(source, destination, _TYPES_DIFFER)
    return place


def _make(path: str, *, directory: bool) -> None:
    if os.path.exists(path):
        return
    if directory:
        os.makedirs(path)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _refused(source: str, destination: str, reason: str) -> OSError:
    return OSError(errno.EPERM, f'error mounting "{source}" to rootfs at "{destination}": {reason}')
