"""A container in a user namespace: whose root is an ordinary user of the host.

The namespace came with the network namespace, which belongs to it. The root file system is
built by us, outside of it: its layers are idmapped mounts, so that nothing on the disk depends
on the map, and everything that is made meanwhile is made in the name of the container's root.
The very last step into confinement enters the namespace; then the process has no rights outside.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnm.idmap import IdMap
from cnm.runtime.container import syscalls
from cnm.runtime.container.confine import Refused

_NS_GET_USERNS = 0xB701  # ioctl_ns(2)
_NO_SETUID_FIXUP = 1 << 2  # securebits, capabilities(7): a change of user leaves capabilities alone
_OURS = "/proc/self/ns/user"


@dataclass(frozen=True, slots=True)
class Users:
    """Whose users a container has: the host's, or those of a user namespace (a descriptor)."""

    ids: IdMap | None = None
    namespace: int = -1

    def user(self, inside: int) -> int:
        """The host's number of a user. :raises Refused: there is none of that number inside."""
        return self._outside("user", inside, self.ids.user(inside) if self.ids else inside)

    def group(self, inside: int) -> int:
        """The host's number of a group. :raises Refused: there is none of that number inside."""
        return self._outside("group", inside, self.ids.group(inside) if self.ids else inside)

    def _outside(self, what: str, inside: int, found: int | None) -> int:
        if found is None:
            raise Refused(f"{what} {inside} is not in the user namespace of the container")
        return found

    def act_for_root(self) -> None:
        """From here on files are made in the name of the container's root; our rights stay."""
        if self.ids is not None:
            syscalls.prctl(syscalls.PR_SET_SECUREBITS, _NO_SETUID_FIXUP)
            syscalls.set_file_ids(self.user(0), self.group(0))

    @contextlib.contextmanager
    def as_root(self) -> Iterator[None]:
        """Meanwhile be the container's root, without rights."""
        os.seteuid(self.user(0))
        try:
            yield
        finally:
            os.seteuid(0)

    def enter(self, *, own_mounts: bool) -> None:
        """Give up all rights outside. ``own_mounts``: the mounts become the namespace's, too.

        What is mounted by then cannot be taken apart any more, nor be made writable
        (mount_namespaces(7), "Restrictions on mount namespaces").
        """
        if self.ids is None:
            return
        syscalls.setns(self.namespace, syscalls.CLONE_NEWUSER)
        if own_mounts:
            syscalls.unshare(syscalls.CLONE_NEWNS)

    def unshare(self, kinds: int) -> None:
        """Enter new namespaces of these ``kinds`` (CLONE_NEW…) that the container's root rules."""
        if self.ids is None:
            syscalls.unshare(kinds)
        else:
            _join_new(self.namespace, kinds)


def users_of(ids: IdMap | None, network_namespace: int) -> Users:
    """Those of the user namespace that a network namespace belongs to; the host's without ``ids``.

    :raises Refused: it belongs to none but the host's.
    """
    if ids is None:
        return Users()
    if network_namespace < 0:
        raise Refused("a user namespace needs a network namespace of its own")
    found = fcntl.ioctl(network_namespace, _NS_GET_USERNS)
    if os.fstat(found).st_ino == os.stat(_OURS).st_ino:
        raise Refused("its network namespace belongs to no user namespace of its own")
    return Users(ids, found)


def _join_new(user_namespace: int, kinds: int) -> None:
    """A child goes in there, where we do not want to be yet, and makes them."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _make(user_namespace, kinds, theirs, ours)
    theirs.close()
    try:
        if not ours.recv(1):
            raise Refused("its user namespace cannot be entered")
        maker = os.pidfd_open(pid)
        syscalls.setns(maker, kinds)
        os.close(maker)
    finally:
        ours.close()
        os.waitpid(pid, 0)


def _make(user_namespace: int, kinds: int, channel: socket.socket, other: socket.socket) -> None:
    try:
        other.close()
        syscalls.setns(user_namespace, syscalls.CLONE_NEWUSER)
        syscalls.unshare(kinds)
        channel.send(b"x")
        channel.recv(1)  # until they have been entered
    finally:
        os._exit(0)


def mapped(path: str, user_namespace: int, *, recursive: bool) -> int:
    """A detached view of a path that shows its files with the namespace's users.

    :raises Refused: its file system cannot do that.
    """
    view = syscalls.clone_mount(path, recursive=recursive)
    try:
        syscalls.set_ids(view, user_namespace)
    except OSError as error:
        raise Refused(
            f"{path} cannot be shown in a user namespace: its file system has no idmapped mounts"
            f" ({os.strerror(error.errno or 0).lower()})"
        ) from error
    return view


def mapped_layers(
    lower: Sequence[str], upper: str, work: str, mountpoint: str, user_namespace: int
) -> list[int]:
    """Descriptors of the layers of a root, topmost first, then of its two own directories.

    Those two must be on one mount: it is the directory that both are in. Before Linux 6.15
    overlayfs takes layers from attached mounts only, so they are put where the root will be.
    """
    views = [mapped(path, user_namespace, recursive=False) for path in lower]
    own = os.path.commonpath([upper, work])
    views.append(mapped(own, user_namespace, recursive=False))
    for view in views:
        place = os.open(mountpoint, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        syscalls.attach_mount(view, place)
        os.close(place)
    both = [
        os.open(os.path.relpath(path, own), os.O_PATH | os.O_CLOEXEC, dir_fd=views[-1])
        for path in (upper, work)
    ]
    os.close(views.pop())
    return [*views, *both]
