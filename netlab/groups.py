"""Control groups of a lab: ``netlab/<lab>/<host>`` in every hierarchy that is mounted.

All processes of a host are in its groups, and a cgroup namespace (cgroup_namespaces(7)) makes
them the top of what the host sees: the groups of its containers lie below, daemons of two hosts
do not see one another's, a lab outlives the session that made it, and all goes with the lab.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_TOP = "netlab"
_LEAF = "init"  # version 2 wants processes in leaves only, once there are groups below
_REMOVE_WITHIN_S = 5.0  # killed processes leave their group when they are reaped
_POLL_S = 0.01
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")
_COPIED = ("cpuset.cpus", "cpuset.mems")  # version 1: a new group has none and takes no process


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where a hierarchy is mounted, and its version."""

    mountpoint: str
    unified: bool


def mounted() -> list[Hierarchy]:
    """Those under /sys/fs/cgroup, each once."""
    found: dict[str, Hierarchy] = {}
    with open("/proc/self/mounts", encoding="utf-8") as file:
        for line in file:
            _, mountpoint, kind, *_ = line.split(" ")
            if kind in ("cgroup", "cgroup2") and mountpoint.startswith("/sys/fs/cgroup"):
                found[mountpoint] = Hierarchy(mountpoint, kind == "cgroup2")
    return list(found.values())


def create(lab: str, hosts: Iterable[str]) -> None:
    """Make the groups of a lab and of new hosts; what dead hosts of those names left goes.

    :raises OSError: the machine's groups cannot be changed.
    """
    names = list(hosts)
    for hierarchy in mounted():
        top = os.path.join(hierarchy.mountpoint, _TOP)
        own = os.path.join(top, lab)
        new = [os.path.join(own, name) for name in names]
        _clear(new)
        for folder in (top, own, *new):
            if hierarchy.unified:
                _hand_down(os.path.dirname(folder))
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
                _copy_sets(folder)


def folders(lab: str, host: str) -> list[tuple[str, str]]:
    """Of a host: where each hierarchy is mounted, and the host's group in it, where it has one."""
    found = [
        (hierarchy.mountpoint, os.path.join(hierarchy.mountpoint, _TOP, lab, host))
        for hierarchy in mounted()
    ]
    return [(mountpoint, group) for mountpoint, group in found if os.path.isdir(group)]


def join(group: str) -> None:
    """Move the calling process into a host's group, and so all that it starts from now on."""
    leaf = os.path.join(group, _LEAF)
    _write(os.path.join(leaf if os.path.isdir(leaf) else group, "cgroup.procs"), "0")


def leave_top(group: str) -> None:
    """In version 2: move the calling process into a leaf, so that groups below can be limited."""
    if os.path.exists(os.path.join(group, "cgroup.subtree_control")):
        os.makedirs(os.path.join(group, _LEAF), exist_ok=True)
        join(group)


def labs() -> set[str]:
    """Names of labs that have control groups."""
    found: set[str] = set()
    for hierarchy in mounted():
        with contextlib.suppress(OSError), os.scandir(f"{hierarchy.mountpoint}/{_TOP}") as entries:
            found.update(entry.name for entry in entries if entry.is_dir())
    return found


def remove(lab: str) -> None:
    """Kill what is left in the groups of a lab and remove them. None is fine.

    :raises TimeoutError: processes stayed in spite of SIGKILL.
    """
    tops = [os.path.join(hierarchy.mountpoint, _TOP) for hierarchy in mounted()]
    _clear([os.path.join(top, lab) for top in tops])
    for top in tops:
        with contextlib.suppress(OSError):  # other labs are in it
            os.rmdir(top)


def _clear(folders: Iterable[str]) -> None:
    """Remove groups with all below and in them."""
    trees = list(folders)
    deadline = time.monotonic() + _REMOVE_WITHIN_S
    while not _remove_trees(trees):
        if time.monotonic() > deadline:
            raise TimeoutError(f"control groups cannot be removed: processes in {trees[0]}")
        for tree in trees:
            for pid in _members(tree):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_S)


def _hand_down(folder: str) -> None:
    """Let version 2's groups below have the controllers; one that cannot be is left out."""
    with contextlib.suppress(FileNotFoundError):
        with open(os.path.join(folder, "cgroup.controllers"), encoding="ascii") as file:
            available = file.read().split()
        for name in _V2_CONTROLLERS:
            if name in available:
                with contextlib.suppress(OSError):
                    _write(os.path.join(folder, "cgroup.subtree_control"), f"+{name}")


def _copy_sets(folder: str) -> None:
    for name in _COPIED:
        with contextlib.suppress(FileNotFoundError):
            with open(os.path.join(os.path.dirname(folder), name), encoding="ascii") as file:
                value = file.read().strip()
            if value:
                _write(os.path.join(folder, name), value)


def _remove_trees(folders: Iterable[str]) -> bool:
    """Whether all are gone; each is tried."""
    done = [_remove_tree(folder) for folder in folders]
    return all(done)


def _remove_tree(folder: str) -> bool:
    below = _remove_trees(_children(folder))
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        return False
    return below


def _members(folder: str) -> Iterator[int]:
    for child in _children(folder):
        yield from _members(child)
    with contextlib.suppress(OSError):
        with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as file:
            yield from (int(line) for line in file)


def _children(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
