"""The filter, run for chosen calls."""

from __future__ import annotations

import os

import pyseccomp
import pytest
from seccompfilter import ALLOW, REFUSE, UNKNOWN, verdict

from cnm.runtime.container import capabilities, seccomp
from cnm.runtime.container.seccomp_profile import ALLOWED

DEFAULT = capabilities.mask(capabilities.DEFAULT)


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
        ("socket", (37, 1), ALLOW),
        ("socket", (38, 5), REFUSE),  # ALG
        ("socket", (39, 1), ALLOW),
        ("socket", (40, 1), REFUSE),  # VSOCK
        ("socket", (41, 1), ALLOW),
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
    program = seccomp.program(DEFAULT)
    assert verdict(program, 1000) == verdict(program, 0x3FFFFFFF) == UNKNOWN
    foreign = {"x86_64": (0x40000003, 1000), "aarch64": (0x40000028, 1000)}[os.uname().machine]
    assert verdict(program, foreign[1], arch=foreign[0]) == UNKNOWN
    if os.uname().machine == "x86_64":  # as x32 it has further numbers, from 512 to 547
        assert verdict(program, 0x40000000 | 1000) == UNKNOWN
        assert verdict(program, 0x40000000 | 520) != UNKNOWN  # execve


def test_other_architectures_are_not_a_way_around() -> None:
    program = seccomp.program(DEFAULT)
    assert verdict(program, 21, arch=0x40000003) in (REFUSE, 0)  # mount of i386
    assert verdict(program, 4, arch=0x8) == 0  # MIPS: the process is killed
