"""Classic BPF on sockets: the kernel wakes us only for what a program lets through (socket(7))."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection

# linux/filter.h, linux/bpf_common.h: code, jump if true, jump if false, value
Instruction = tuple[int, int, int, int]
LOAD_WORD, LOAD_HALF, LOAD_BYTE, JUMP_EQUAL, RETURN = 0x20, 0x28, 0x30, 0x15, 0x06
LOAD_HALF_X, LOAD_X_HEADER, JUMP_SET = 0x48, 0xB1, 0x45  # by X; X: the bytes of an IPv4 header
VLAN_TAG = 0xFFFFF000 + 48  # SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT: where LOAD_BYTE tells of a tag
WHOLE = 0xFFFFFFFF  # what RETURN gives for a message that passes; 0: it does not
TYPE_AT = 4  # bytes into a netlink message (nlmsghdr)
_INSTRUCTION = struct.Struct("=HBBI")
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h


def attach(listener: socket.socket, program: Collection[Instruction]) -> None:
    """Have the kernel run a filter on a socket, in the place of the one before."""
    code = b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("@HP", len(program), ctypes.addressof(buffer))  # sock_fprog
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def read_type(kind: int) -> int:
    """A netlink message's type as LOAD_HALF sees it: in network order, what is in the machine's."""
    return int.from_bytes(struct.pack("=H", kind), "big")
