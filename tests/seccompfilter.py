"""System call filters, read from the kernel and run, by an interpreter of its description.

``PTRACE_SECCOMP_GET_FILTER`` (ptrace(2)) gives what a process really has, ours or another's, so
filters can be compared for every call without making it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Iterator

NATIVE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[os.uname().machine]
ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM
UNKNOWN = 0x00050000 | errno.ENOSYS

_PTRACE_ATTACH, _PTRACE_DETACH, _PTRACE_SECCOMP_GET_FILTER = 16, 17, 0x420C
_WALL = 0x40000000  # wait(2): whatever kind of child
_INSTRUCTION = 8  # bytes

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def verdict(program: bytes, number: int, *arguments: int, arch: int = NATIVE) -> int:
    """What a filter says of a call (linux/bpf_common.h, linux/filter.h)."""
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


def strictest(programs: Iterable[bytes], number: int, *arguments: int, arch: int = NATIVE) -> int:
    """What all filters of a process say together: kill before refuse before allow."""
    found = (verdict(program, number, *arguments, arch=arch) for program in programs)
    return min(found, key=lambda value: value & 0x7FFF0000 if value < 0x80000000 else -1)


def filters_of(pid: int) -> list[bytes]:
    """The filters of a process, newest first."""
    _ptrace(_PTRACE_ATTACH, pid)
    try:
        os.waitpid(pid, _WALL)
        return list(_filters(pid))
    finally:
        _ptrace(_PTRACE_DETACH, pid)


def _filters(pid: int) -> Iterator[bytes]:
    for index in range(100):
        try:
            length = _ptrace(_PTRACE_SECCOMP_GET_FILTER, pid, index)
        except FileNotFoundError:
            return
        buffer = ctypes.create_string_buffer(length * _INSTRUCTION)
        _ptrace(_PTRACE_SECCOMP_GET_FILTER, pid, index, ctypes.addressof(buffer))
        yield buffer.raw


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    result = int(_libc.ptrace(request, pid, address, data))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")
    return result
