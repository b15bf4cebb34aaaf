"""The profile compiled to BPF by libseccomp, in the daemon; the supervisor only loads bytes.

So the one process that stays resident needs no library, and a program is compiled once for
each set of capabilities, not for each start.

libseccomp is reached through ``pyseccomp`` (its own Python API over ctypes; Debian's
``python3-seccomp`` cannot be installed into a virtual environment).
"""

from __future__ import annotations

import errno
import functools
import os
import struct
import tempfile
from dataclasses import dataclass

import pyseccomp

from cnm.runtime.container import seccomp_profile as profile
from cnm.runtime.container.capabilities import NAMES

_X32_BIT, _LAST_OF_X32 = 0x40000000, 547  # the x32 calls that x86-64 has not: 512 to 547
_ARM_PRIVATE = 0x0F0000  # set_tls and others lie far above the rest
_SUB_ARCHITECTURES = {
    "x86_64": (pyseccomp.Arch.X86, pyseccomp.Arch.X32),
    "aarch64": (pyseccomp.Arch.ARM,),
}
# Classic BPF (linux/bpf_common.h): load a word of seccomp_data, compare, return.
_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_NOT_LESS, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH = 0, 4


@dataclass(frozen=True, slots=True)
class _Unknown:
    """Calls of an architecture (linux/audit.h) that nobody knows: above ``last``, below ``end``."""

    architecture: int
    last: int
    end: int = 0xFFFFFFFF


@functools.cache
def program(capabilities: int, machine: str = "") -> bytes:
    """The BPF program for processes with these capabilities: 8 bytes an instruction."""
    machine = machine or os.uname().machine
    compiled = _compiled(capabilities, machine)
    return _unknown_calls_guard(machine) + compiled


def _compiled(capabilities: int, machine: str) -> bytes:
    rules = pyseccomp.SyscallFilter(defaction=pyseccomp.ERRNO(errno.EPERM))
    for architecture in _SUB_ARCHITECTURES.get(machine, ()):
        if not rules.exist_arch(architecture):
            rules.add_arch(architecture)
    _allow(rules, profile.ALLOWED)
    _allow(rules, profile.BY_MACHINE.get(machine, []))
    for name, calls in profile.BY_CAPABILITY.items():
        if capabilities >> NAMES.index(name) & 1:
            _allow(rules, calls)
    _conditional(rules, bool(capabilities >> NAMES.index("SYS_ADMIN") & 1))
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def _conditional(rules: pyseccomp.SyscallFilter, admin: bool) -> None:
    """Calls that depend on their arguments."""
    allow, argument = pyseccomp.ALLOW, pyseccomp.Arg
    for value in profile.PERSONALITIES:
        rules.add_rule(allow, "personality", argument(0, pyseccomp.EQ, value))
    # every family but these two, which stand side by side but for one
    rules.add_rule(allow, "socket", argument(0, pyseccomp.LT, profile.AF_ALG))
    rules.add_rule(allow, "socket", argument(0, pyseccomp.EQ, profile.AF_ALG + 1))
    rules.add_rule(allow, "socket", argument(0, pyseccomp.GT, profile.AF_VSOCK))
    if not admin:
        masked = argument(0, pyseccomp.MASKED_EQ, profile.NAMESPACE_FLAGS, 0)
        rules.add_rule(allow, "clone", masked)
        # Its flags lie in memory, where a filter cannot look: ENOSYS makes libc use clone.
        rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")


def _allow(rules: pyseccomp.SyscallFilter, calls: list[str]) -> None:
    for name in calls:
        if _number(name) is not None:
            rules.add_rule(pyseccomp.ALLOW, name)


def _number(name: str) -> int | None:
    """The number on this machine; negative for another architecture's; None: never heard of."""
    number: int = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
    return None if number == -1 else number


def _unknown_calls_guard(machine: str) -> bytes:
    """ENOSYS for calls newer than libseccomp: a C library falls back on that, not on EPERM."""
    return b"".join(
        struct.pack("=HBBI", *instruction)
        for item in _unknown_calls(machine)
        for instruction in (
            (_LOAD, 0, 0, _OFFSET_ARCH),
            (_JUMP_EQUAL, 0, 4, item.architecture),
            (_LOAD, 0, 0, _OFFSET_NUMBER),
            (_JUMP_NOT_LESS, 2, 0, item.end),
            (_JUMP_GREATER, 0, 1, item.last),
            (_RETURN, 0, 0, pyseccomp.ERRNO(errno.ENOSYS)),
        )
    )


def _unknown_calls(machine: str) -> list[_Unknown]:
    if machine == "x86_64":
        last = _last_known(pyseccomp.Arch.X86_64)
        return [
            _Unknown(0xC000003E, last, _X32_BIT),
            _Unknown(0xC000003E, _X32_BIT | max(last, _LAST_OF_X32)),
            _Unknown(0x40000003, _last_known(pyseccomp.Arch.X86)),
        ]
    if machine == "aarch64":
        return [
            _Unknown(0xC00000B7, _last_known(pyseccomp.Arch.AARCH64)),
            _Unknown(0x40000028, _last_known(pyseccomp.Arch.ARM), _ARM_PRIVATE),
        ]
    return []


def _last_known(architecture: int) -> int:
    """The highest number that libseccomp has a name for, found by asking it."""
    return max(number for number in range(1024) if _has_name(architecture, number))


def _has_name(architecture: int, number: int) -> bool:
    try:
        return bool(pyseccomp.resolve_syscall(architecture, number))
    except ValueError:
        return False
