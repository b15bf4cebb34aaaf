"""System calls that Python 3.11 does not offer: namespaces, mounts, capabilities, pidfds.

Thin: each raises ``OSError`` with the errno and what was asked. Numbers are those of the
generic table, which x86-64 and arm64 share from 424 on; the few older ones are glibc's
functions. Nothing here is async or threaded: it runs between fork and exec.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_DIRSYNC = 0x80
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_RELATIME = 0x200000
MS_STRICTATIME = 0x1000000
MNT_DETACH = 2

PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_SECCOMP = 22
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_IDMAP = 0x1, 0x100000

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_CLOSE_RANGE = 436
_SYS_MOUNT_SETATTR = 442

_KEYCTL_JOIN_SESSION_KEYRING = 1
_CAPABILITY_VERSION_3 = 0x20080522
# _IOWR(0xFF, 11, struct pidfd_info) with the first published size, 64 bytes (Linux 6.13);
# the exit code is there from 6.15 on, for a pidfd that was open when the process ended.
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 1 << 3

_LAST_SIGNAL = 64
_SIGNAL_SET_BYTES = 8
_DEFAULT_ACTION = bytes(32)  # the kernel's struct sigaction: SIG_DFL, no flags, nothing blocked

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def raw(number: int, what: str, *arguments: int | bytes) -> int:
    """A system call by number, for those used in one place only."""
    values = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *values), what)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, flags: int) -> None:
    """setns(2); with a pidfd, all the namespaces of ``flags`` at once (Linux 5.8)."""
    _check(_libc.setns(fd, ctypes.c_int(flags)), "setns")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()
    )
    _check(result, f"mounting {kind or source} on {target}")


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target.encode(), flags), f"unmounting {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2); with ``.`` twice the old root lies on the new one, to be unmounted."""
    _check(_libc.syscall(_pivot_number(), new_root.encode(), put_old.encode()), "pivot_root")


def _pivot_number() -> int:
    return 155 if os.uname().machine == "x86_64" else 41


def clone_mount(path: str, *, recursive: bool) -> int:
    """A detached copy of the mount (or file, or directory in it) at ``path``: a descriptor."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    result = _libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), ctypes.c_uint(flags))
    return _check(result, f"bind source {path}")


def set_read_only(mount_fd: int) -> None:
    """Make a detached mount, and what is in it, read-only (Linux 5.12)."""
    _set_attributes(mount_fd, _MOUNT_ATTR_RDONLY)


def set_propagation(mount_fd: int, propagation: int) -> None:
    """Make a detached mount, and what is in it, MS_PRIVATE or MS_SLAVE (Linux 5.12)."""
    _set_attributes(mount_fd, propagation=propagation)


def set_ids(mount_fd: int, user_namespace: int) -> None:
    """Show files as those users' of a namespace that they are of outside (Linux 5.12).

    What is mounted in it stays as it is. EINVAL: the file system cannot do that.
    """
    _set_attributes(mount_fd, _MOUNT_ATTR_IDMAP, user_namespace=user_namespace, recursive=False)


def _set_attributes(
    mount_fd: int,
    attributes: int = 0,
    *,
    propagation: int = 0,
    user_namespace: int = 0,
    recursive: bool = True,
) -> None:
    data = struct.pack("=QQQQ", attributes, 0, propagation, user_namespace)
    result = _libc.syscall(
        _SYS_MOUNT_SETATTR,
        mount_fd,
        b"",
        ctypes.c_uint(_AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)),
        data,
        ctypes.c_size_t(len(data)),
    )
    _check(result, "mount_setattr")


def attach_mount(mount_fd: int, place: int) -> None:
    """Put a detached mount onto what the descriptor ``place`` stands for."""
    result = _libc.syscall(
        _SYS_MOVE_MOUNT,
        mount_fd,
        b"",
        place,
        b"",
        ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH),
    )
    _check(result, "move_mount")


def prctl(option: int, argument: int = 0, second: int = 0) -> int:
    """prctl(2) with up to two numbers."""
    result = _libc.prctl(
        ctypes.c_int(option),
        ctypes.c_ulong(argument),
        ctypes.c_ulong(second),
        ctypes.c_ulong(0),
        ctypes.c_ulong(0),
    )
    return _check(result, f"prctl {option}")


def set_capabilities(mask: int) -> None:
    """capset(2): effective and permitted become ``mask``, inheritable empty."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    _check(_libc.capset(header, data), "capset")


def load_seccomp(program: bytes) -> None:
    """Put a BPF program before every later system call of this process and its children."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    result = _libc.prctl(ctypes.c_int(PR_SET_SECCOMP), ctypes.c_ulong(_SECCOMP_MODE_FILTER), header)
    _check(result, "loading the seccomp filter")


def set_file_ids(uid: int, gid: int) -> None:
    """setfsuid(2), setfsgid(2): who files belong to that this process makes."""
    for function, number in ((_libc.setfsgid, gid), (_libc.setfsuid, uid)):
        function(ctypes.c_uint(number))
        if function(ctypes.c_uint(-1)) != number:  # the first call does not tell whether it failed
            raise OSError(errno.EPERM, f"setfsuid {uid}:{gid}")


def close_from(first: int) -> None:
    """Close every descriptor from ``first`` on (Linux 5.9)."""
    _check(_libc.syscall(_SYS_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(-1), 0), "close")


def reset_signals() -> None:
    """Every signal's disposition becomes the kernel's default.

    By rt_sigaction(2) itself: glibc keeps 32 and 33 for its threads, refuses them to ``sigaction``
    and hides them from Python, but a program that ignores them hands that on through execve.
    """
    number = {"x86_64": 13, "aarch64": 134}[os.uname().machine]
    for item in range(1, _LAST_SIGNAL + 1):
        if item not in (signal.SIGKILL, signal.SIGSTOP):
            raw(number, f"signal {item}", item, _DEFAULT_ACTION, 0, _SIGNAL_SET_BYTES)


def set_domain_name(name: str) -> None:
    """setdomainname(2)."""
    raw = name.encode()
    _check(_libc.setdomainname(raw, ctypes.c_size_t(len(raw))), "setdomainname")


def join_new_keyring() -> None:
    """keyctl(2): have a new, empty session keyring; children have it too."""
    number = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
    raw(number, "new session keyring", _KEYCTL_JOIN_SESSION_KEYRING, 0)


def exit_status(pidfd: int) -> int | None:
    """Wait status of an ended process that is not our child; None if the kernel cannot tell.

    The pidfd must have been opened before it ended.
    """
    buffer = ctypes.create_string_buffer(struct.pack("=Q", _PIDFD_INFO_EXIT), 64)
    if _libc.ioctl(pidfd, ctypes.c_ulong(_PIDFD_GET_INFO), buffer) < 0:
        if ctypes.get_errno() in (errno.ENOTTY, errno.EINVAL, errno.ESRCH):
            return None
        raise OSError(ctypes.get_errno(), "PIDFD_GET_INFO")
    # struct pidfd_info: mask, cgroupid (u64), 11 x u32 from pid to fsgid, then exit_code (s32).
    mask = struct.unpack_from("=Q", buffer)[0]
    code: int = struct.unpack_from("=i", buffer, 60)[0]
    return code if mask & _PIDFD_INFO_EXIT else None
