"""Which device nodes a container may open: Docker's rules, for cgroup v1 and for v2.

The capability MKNOD is among the default ones, so this is what keeps a container from the
host's disks. Version 1 has a controller with text rules; version 2 wants an eBPF program,
assembled here since ten instructions do not justify a compiler.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass

from cnm.runtime.container import syscalls

_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI = 15, 6, 2
_ACCESS = {"m": 1, "r": 2, "w": 4}  # linux/bpf.h, BPF_DEVCG_ACC_*
_TYPES = {"b": 1, "c": 2}

# eBPF operations (kernel: Documentation/bpf/standardization/instruction-set.rst).
_LOAD_WORD, _SHIFT_RIGHT, _AND, _MOVE, _COPY, _JUMP_NOT_EQUAL, _EXIT = (
    0x61,
    0x77,
    0x57,
    0xB7,
    0xBF,
    0x55,
    0x95,
)


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """``kind`` is b or c; None stands for every number; ``access`` is of r, w, m."""

    kind: str
    major: int | None
    minor: int | None
    access: str

    def __str__(self) -> str:
        major, minor = ("*" if number is None else number for number in (self.major, self.minor))
        return f"{self.kind} {major}:{minor} {self.access}"


DEFAULT = (
    DeviceRule("c", None, None, "m"),  # a node may be made, though not opened
    DeviceRule("b", None, None, "m"),
    DeviceRule("c", 1, 3, "rwm"),  # null
    DeviceRule("c", 1, 5, "rwm"),  # zero
    DeviceRule("c", 1, 7, "rwm"),  # full
    DeviceRule("c", 1, 8, "rwm"),  # random
    DeviceRule("c", 1, 9, "rwm"),  # urandom
    DeviceRule("c", 5, 0, "rwm"),  # tty
    DeviceRule("c", 5, 1, "rwm"),  # console
    DeviceRule("c", 5, 2, "rwm"),  # ptmx
    DeviceRule("c", 10, 200, "rwm"),  # net/tun: of no use without the right to rule the network
    DeviceRule("c", 136, None, "rwm"),  # pts/*
)


def write_rules(directory: str) -> None:
    """Set the default rules in a group of the v1 devices controller."""
    _write(os.path.join(directory, "devices.deny"), "a")
    for rule in DEFAULT:
        _write(os.path.join(directory, "devices.allow"), str(rule))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def attach_program(directory: str) -> None:
    """Set the default rules in a v2 group: load the program, attach it to the group.

    It lives as long as the group.
    """
    code = program()
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    load = struct.pack(
        "=IIQQ",
        _TYPE_CGROUP_DEVICE,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
    )
    group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        loaded = _bpf(_PROG_LOAD, load.ljust(120, b"\0"))
        try:
            _bpf(
                _PROG_ATTACH,
                struct.pack("=IIII", group, loaded, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI),
            )
        finally:
            os.close(loaded)
    finally:
        os.close(group)


def _bpf(command: int, attributes: bytes) -> int:
    return syscalls.raw(_SYS_BPF[os.uname().machine], "bpf", command, attributes, len(attributes))


def program() -> bytes:
    """The rules as eBPF: r2 type, r3 access, r4 major, r5 minor; returns 1 to allow."""
    code = [
        _instruction(_LOAD_WORD, 2, 1, 0),
        _instruction(_COPY, 3, 2),
        _instruction(_SHIFT_RIGHT, 3, value=16),
        _instruction(_AND, 2, value=0xFFFF),
        _instruction(_LOAD_WORD, 4, 1, 4),
        _instruction(_LOAD_WORD, 5, 1, 8),
    ]
    for rule in DEFAULT:
        code += _rule(rule)
    code += [_instruction(_MOVE, 0, value=0), _instruction(_EXIT)]
    return b"".join(code)


def _rule(rule: DeviceRule) -> list[bytes]:
    """Compare, and leave with 1; each mismatch jumps past the end of the rule."""
    wanted: list[tuple[int, int]] = [(2, _TYPES[rule.kind]), (6, 0)]
    wanted += [(4, rule.major)] if rule.major is not None else []
    wanted += [(5, rule.minor)] if rule.minor is not None else []
    forbidden = 7 & ~sum(_ACCESS[letter] for letter in rule.access)
    head = [_instruction(_COPY, 6, 3), _instruction(_AND, 6, value=forbidden)]
    tail = [_instruction(_MOVE, 0, value=1), _instruction(_EXIT)]
    tests = [
        _instruction(_JUMP_NOT_EQUAL, register, 0, len(wanted) - index - 1 + len(tail), value)
        for index, (register, value) in enumerate(wanted)
    ]
    return head + tests + tail


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | to, offset, value)
