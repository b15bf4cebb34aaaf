"""The filter, run: by an interpreter of classic BPF written here from the kernel's description."""

from __future__ import annotations

import errno
import os
import struct

import pyseccomp
import pytest

from cnm.runtime.container import capabilities, seccomp
from cnm.runtime.container.seccomp_profile import ALLOWED

NATIVE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[os.uname().machine]
ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM
UNKNOWN = 0x00050000 | errno.ENOSYS
DEFAULT = capabilities.mask(capabilities.DEFAULT)


def verdict(program: bytes, number: int, *arguments: int, arch: int = NATIVE) -> int:
    """What the filter says of a call (linux/bpf_common.h, linux/filter.h)."""
    values = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *values)
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = position = 0
    while True:
        operation, true, false, constant = code[position]
        position += 1
        if operation == 0x06:
            return int(constant)
        if operation == 0x20:
            accumulator = struct.unpack_from("=I", data, constant)[0]
        elif operation == 0x54:
            accumulator &= constant
        elif operation == 0x05:
            position += constant
        else:
            tests = {
                0x15: accumulator == constant,
                0x25: accumulator > constant,
                0x35: accumulator >= constant,
                0x45: bool(accumulator & constant),
            }
            position += true if tests[operation] else false


def number_of(name: str) -> int:
    return int(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name))


def test_everything_on_the_list_is_allowed_and_nothing_else() -> None:
    program = seccomp.program(DEFAULT)
    for name in ("read", "execve", "openat", "clone", "socket", "chroot", "ptrace", "personality"):
        assert verdict(program, number_of(name)) == ALLOW, name
    known = {number_of(name) for name in ALLOWED}
    refused = (
        "mount umount2 setns unshare bpf perf_event_open init_module finit_module delete_module"
        " kexec_load reboot swapon swapoff settimeofday clock_settime add_key keyctl request_key"
        " io_uring_setup io_uring_enter userfaultfd open_by_handle_at acct quotactl syslog"
        " pivot_root fsopen move_mount open_tree mount_setattr vhangup kcmp pidfd_getfd"
    ).split()
    for name in refused:
        assert number_of(name) not in known
        assert verdict(program, number_of(name)) == REFUSE, name


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (0x01200011,), ALLOW),
        ("clone", (0x10000000,), REFUSE),  # NEWUSER
        ("clone", (0x00020011,), REFUSE),  # NEWNS
        ("clone3", (), UNKNOWN),
        ("socket", (2, 1), ALLOW),
        ("socket", (16, 3), ALLOW),
        ("socket", (40, 1), REFUSE),  # VSOCK
        ("personality", (0xFFFFFFFF,), ALLOW),
        ("personality", (0x0040000,), REFUSE),  # ADDR_NO_RANDOMIZE
    ],
)
def test_calls_that_depend_on_their_arguments(
    name: str, arguments: tuple[int, ...], expected: int
) -> None:
    assert verdict(seccomp.program(DEFAULT), number_of(name), *arguments) == expected


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("SYS_ADMIN", "mount"),
        ("SYS_ADMIN", "clone3"),
        ("SYS_TIME", "clock_settime"),
        ("SYS_MODULE", "init_module"),
        ("BPF", "bpf"),
        ("SYSLOG", "syslog"),
    ],
)
def test_calls_that_come_with_a_capability(capability: str, name: str) -> None:
    program = seccomp.program(DEFAULT | capabilities.bit(capability))
    assert verdict(program, number_of(name)) == ALLOW


def test_without_chroot() -> None:
    program = seccomp.program(DEFAULT & ~capabilities.bit("SYS_CHROOT"))
    assert verdict(program, number_of("chroot")) == REFUSE


def test_calls_that_nobody_knows_do_not_exist() -> None:
    assert verdict(seccomp.program(DEFAULT), 1000) == UNKNOWN


def test_other_architectures_are_not_a_way_around() -> None:
    program = seccomp.program(DEFAULT)
    assert verdict(program, 21, arch=0x40000003) in (REFUSE, 0)  # mount of i386
    assert verdict(program, 4, arch=0x8) == 0  # MIPS: the process is killed
