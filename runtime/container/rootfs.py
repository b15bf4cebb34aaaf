"""The container's view of files, made inside its own mount namespace.

Nothing is ever mounted where the host can see it: the namespace takes all of it along when
its last process ends, so there is no unmounting and nothing to leak.

What comes from the host is opened as detached mounts first; then the root is changed; only
then are paths of the container followed. A link in an image therefore leads to places in
the container, whatever it says.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnm.runtime.container import syscalls, usernamespace
from cnm.runtime.container.cgroup import Hierarchy
from cnm.runtime.container.syscalls import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_STRICTATIME,
    mount,
)
from cnm.runtime.container.usernamespace import Users
from cnm.runtimeapi import RootFS

INIT_DESTINATION = "/sbin/docker-init"  # where Docker shows its --init

_NONE = MS_NOSUID | MS_NODEV | MS_NOEXEC
_TTY_GROUP = 5  # of the device nodes in /dev/pts, everywhere

# Docker's lists (moby, oci/defaults.go): what says too much of the host, or changes it.
MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
# how hot processors are tells what they compute (GHSA-6fw5-f8r9-fgfm)
_MASKED_PATTERN = "/sys/devices/system/cpu/cpu*/thermal_throttle"
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_NODES = {  # name in /dev: major, minor
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
_LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}


@dataclass(frozen=True, slots=True)
class HostNode:
    """A device node of the host, for privileged containers."""

    path: str
    mode: int
    device: int


def detach_host() -> None:
    """Nothing that is mounted from here on shows on the host, nor the other way round."""
    mount("", "/", "", MS_REC | MS_PRIVATE)


def host_nodes(directory: str = "/dev") -> list[HostNode]:
    """Every device node of the host outside of the file systems mounted in ``/dev``."""
    found: list[HostNode] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                if entry.name not in ("pts", "shm", "mqueue", "fd"):
                    found += host_nodes(entry.path)
            elif stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
                found.append(HostNode(entry.path, info.st_mode, info.st_rdev))
    return found


def enter(root: RootFS, mountpoint: str, users: Users) -> None:
    """Mount the layers and make them the root; the host's files are gone from here on.

    Layers go in by descriptor: no limit by the length of their paths, no characters to
    escape, and the container's mount table tells nothing of the host's directories.
    """
    if users.ids is not None:
        layers = usernamespace.mapped_layers(
            root.lower, root.upper, root.work, mountpoint, users.namespace
        )
    else:
        layers = [_open_directory(path) for path in (*root.lower, root.upper, root.work)]
    names = [f"/proc/self/fd/{descriptor}" for descriptor in layers]
    lower = ":".join(names[: len(root.lower)])
    data = f"lowerdir={lower},upperdir={names[-2]},workdir={names[-1]}"
    try:
        mount("overlay", mountpoint, "overlay", 0, data)
    finally:
        for descriptor in layers:
            os.close(descriptor)
    os.chdir(mountpoint)
    syscalls.pivot_root(".", ".")
    syscalls.unmount(".", syscalls.MNT_DETACH)
    os.chdir("/")


def _open_directory(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def mount_system(shm_size_bytes: int, users: Users, *, privileged: bool) -> None:
    """``/proc``, ``/dev`` and ``/sys``."""
    _mount_new("proc", "/proc", _NONE)
    _mount_devices(shm_size_bytes, users.group(_TTY_GROUP))
    _mount_new("sysfs", "/sys", _NONE | (0 if privileged else MS_RDONLY))


def _mount_new(kind: str, target: str, flags: int, data: str = "", *, source: str = "") -> None:
    """Mount a file system on a directory of the image, made if missing.

    A link there is refused: no image needs one, and it could misplace ``/proc``.
    """
    os.makedirs(target, exist_ok=True)
    if not stat.S_ISDIR(os.lstat(target).st_mode):
        raise OSError(20, f"{target} must be mounted on ordinary directory")
    mount(source or kind, target, kind, flags, data)


def _mount_devices(shm_size_bytes: int, tty_group: int) -> None:
    _mount_new("tmpfs", "/dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k")
    for name, numbers in _NODES.items():
        _make_node(f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(*numbers))
    for name, target in _LINKS.items():
        os.symlink(target, f"/dev/{name}")
    if os.path.exists("/proc/kcore"):
        os.symlink("/proc/kcore", "/dev/core")
    pts = f"newinstance,ptmxmode=0666,mode=0620,gid={tty_group}"
    _mount_new("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, pts)
    _mount_new("tmpfs", "/dev/shm", _NONE, f"mode=1777,size={shm_size_bytes}", source="shm")
    _mount_new("mqueue", "/dev/mqueue", _NONE)


def _make_node(path: str, mode: int, device: int) -> None:
    os.mknod(path, mode, device)
    os.chmod(path, stat.S_IMODE(mode))  # whatever the umask is


def mount_groups(groups: Sequence[Hierarchy], *, read_only: bool) -> None:
    """The control groups as the container's namespace shows them: its own, and no more."""
    flags = _NONE | (MS_RDONLY if read_only else 0)
    versioned = [item for item in groups if item.controllers]
    if not groups or not os.path.isdir("/sys/fs/cgroup"):
        return
    if not versioned:
        mount("cgroup", "/sys/fs/cgroup", "cgroup2", flags)
        return
    mount("tmpfs", "/sys/fs/cgroup", "tmpfs", _NONE, "mode=755")
    for hierarchy in versioned:
        names = sorted(hierarchy.controllers)
        directory = "/sys/fs/cgroup/" + ",".join(name.removeprefix("name=") for name in names)
        os.mkdir(directory)
        # A named hierarchy is found by its name alone.
        data = f"none,{names[0]}" if names[0].startswith("name=") else ",".join(names)
        mount("cgroup", directory, "cgroup", flags, data)
    if read_only:
        mount("", "/sys/fs/cgroup", "", MS_REMOUNT | MS_BIND | MS_RDONLY | _NONE)


def add_host_nodes(nodes: Iterable[HostNode]) -> None:
    """Make the host's device nodes in ``/dev``, but for those that are there."""
    for node in nodes:
        os.makedirs(os.path.dirname(node.path), exist_ok=True)
        if not os.path.lexists(node.path):
            _make_node(node.path, node.mode, node.device)


def masked() -> list[str]:
    """What is hidden of ``/proc`` and ``/sys``, as the container has them."""
    return [*MASKED, *glob.glob(_MASKED_PATTERN)]


def link_mounts() -> None:
    """``/etc/mtab``, which old programs read, where an image has none; as Docker does."""
    if os.path.isdir("/etc") and not os.path.lexists("/etc/mtab"):
        os.symlink("/proc/mounts", "/etc/mtab")


def open_null() -> int:
    """Our own ``/dev/null``, to cover files with.

    It is opened before anything of the user's is mounted: a ``/dev`` that came with a bind could
    have a link in its place, and what it leads to would be shown, writable, where the mask should
    be (CVE-2025-31133).
    """
    return os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)


def mask(paths: Iterable[str], null: int) -> None:
    """Cover what exists: directories with an empty one, files with ``null``."""
    for path in paths:
        try:
            info = os.stat(path)
        except OSError:
            continue
        if stat.S_ISDIR(info.st_mode):
            mount("tmpfs", path, "tmpfs", MS_RDONLY | _NONE, "size=0k")
        else:
            mount(f"/proc/self/fd/{null}", path, "", MS_BIND)


def make_read_only(paths: Iterable[str]) -> None:
    """Bind each path that exists onto itself, read-only."""
    for path in paths:
        if os.path.exists(path):
            mount(path, path, "", MS_BIND | MS_REC)
            mount("", path, "", MS_REMOUNT | MS_BIND | MS_RDONLY | _NONE)


def make_root_read_only() -> None:
    """The last step of ``--read-only``: from here on no mount point can be made."""
    mount("", "/", "", MS_REMOUNT | MS_BIND | MS_RDONLY)
