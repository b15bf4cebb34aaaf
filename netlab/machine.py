"""The inside of a host: what its first process does before it only waits.

It runs in namespaces of its own (network, mount, UTS, process, cgroup), forked from the spawner: it
mounts what a machine has of its own, says whose it is, and becomes ``sleep infinity``.

The root file system stays the machine's, and what programs write is kept from it:

- ``/proc`` and ``/sys`` are of the host's namespaces, ``/sys/fs/cgroup`` is its group;
- ``/run`` is a tmpfs, and all below lies on it;
- ``/etc``, ``/var/lib`` and ``/opt`` are overlays: what is there shows, what is written stays;
- ``/var/lib/cnm`` and others that hold containers' layers are plain (no overlay on an overlay);
- ``/var/log`` is a folder of the lab's, so that logs can be read when the host has ended.

All of it goes with the mount namespace. Standard library only, and no threads: this is between
fork and exec.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cnm.netlab import groups, marks, syscalls

_OWN = "/run/.host"  # what the overlays write
_OVERLAID = ("/etc", "/var/lib", "/opt")  # containerd makes folders in /opt
_PLAIN = ("cnm", "docker", "containerd", "etcd")  # of /var/lib
_CGROUPS = "/sys/fs/cgroup"
_SIOCSIFFLAGS = 0x8914  # netdevice(7)
_IFF_UP = 1
_SLEEP = ("/usr/bin/sleep", "/bin/sleep")


@dataclass(frozen=True, slots=True)
class Plan:
    """A host to be made. ``groups``: pairs of mountpoint and the host's group there."""

    lab: str
    host: str
    log_folder: str
    files: Mapping[str, str] = field(default_factory=dict)  # path and text
    defaults: Sequence[tuple[str, str]] = ()  # sysctls, where the kernel has them
    groups: Sequence[tuple[str, str]] = ()


def become(plan: Plan) -> None:
    """Make the host around the calling process, then wait for ever. Returns by raising only.

    All descriptors but 0 to 2 must close by themselves at an exec, as Python's own do.

    :raises OSError: what the kernel refused.
    """
    for _, group in plan.groups:
        groups.leave_top(group)
    tops = [(path, os.open(group, os.O_PATH)) for path, group in plan.groups]
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_SLAVE)
    syscalls.mount(plan.log_folder, "/var/log", flags=syscalls.MS_BIND)
    _mount_kernel(tops)
    syscalls.mount(marks.host_mark(plan.lab, plan.host), "/run", "tmpfs", data="mode=755")
    for folder in ("/run/lock", "/run/netns", _OWN):
        os.mkdir(folder)
    for path in filter(os.path.isdir, _OVERLAID):
        _mount_overlay(path, path.strip("/").replace("/", "."))
    for name in _PLAIN:
        os.makedirs(f"/var/lib/{name}", exist_ok=True)
        os.mkdir(f"{_OWN}/{name}")
        syscalls.mount(f"{_OWN}/{name}", f"/var/lib/{name}", flags=syscalls.MS_BIND)
    for path, text in plan.files.items():
        _write_file(path, text)
    socket.sethostname(plan.host)
    _mark_loopback(plan)
    for name, value in plan.defaults:
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            write_sysctl(name, value)
    _wait_for_ever(plan)


def _mount_kernel(tops: Sequence[tuple[str, int]]) -> None:
    """/proc, /sys and the control groups, whose place the new /sys hides."""
    links = _cgroup_links()
    syscalls.mount("proc", "/proc", "proc")
    syscalls.mount("sysfs", "/sys", "sysfs")
    if tops and all(path != _CGROUPS for path, _ in tops):
        syscalls.mount("cgroups", _CGROUPS, "tmpfs", data="mode=755")
    for path, top in tops:
        os.makedirs(path, exist_ok=True)
        syscalls.mount(f"/proc/self/fd/{top}", path, flags=syscalls.MS_BIND)
    for path, target in links if tops else ():
        with contextlib.suppress(FileExistsError):
            os.symlink(target, path)


def _cgroup_links() -> list[tuple[str, str]]:
    """``cpu -> cpu,cpuacct`` and the like."""
    with contextlib.suppress(FileNotFoundError), os.scandir(_CGROUPS) as entries:
        return [(entry.path, os.readlink(entry.path)) for entry in entries if entry.is_symlink()]
    return []


def _mount_overlay(path: str, name: str) -> None:
    upper, work = f"{_OWN}/{name}", f"{_OWN}/.{name}"
    os.mkdir(upper)
    os.mkdir(work)
    options = f"lowerdir={path},upperdir={upper},workdir={work}"
    syscalls.mount("overlay", path, "overlay", data=options)


def _write_file(path: str, text: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # it may be a link to a place that only the machine has
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _mark_loopback(plan: Plan) -> None:
    with open("/sys/class/net/lo/ifalias", "w", encoding="utf-8") as file:
        file.write(marks.host_mark(plan.lab, plan.host))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def write_sysctl(name: str, value: str) -> None:
    """Set a sysctl of the calling thread's network namespace, by its dotted name.

    :raises OSError: the kernel has none of that name, or refuses the value.
    """
    path = f"/proc/sys/{name if '/' in name else name.replace('.', '/')}"
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        raise OSError(error.errno, f"sysctl {name}={value}: {error.strerror}") from None


def _wait_for_ever(plan: Plan) -> None:
    os.setsid()
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    # The kernel itself then reaps what is orphaned in the namespace: nobody has to wait for it.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python's own settings would be inherited
    mark = {marks.VARIABLE: f"{plan.lab}:{plan.host}"}
    for program in _SLEEP:
        with contextlib.suppress(FileNotFoundError):
            os.execve(program, ["sleep", "infinity"], mark)
    raise FileNotFoundError(f"no {_SLEEP[0]}: install coreutils")
