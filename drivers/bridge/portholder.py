"""Which program holds a host port, for the error that refuses it (proc(5), /proc/net/tcp)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from cnm.types import IPAddress

_LISTENING = "0A"  # TCP_LISTEN, linux/tcp_states.h
_CLOSED = "07"  # what the kernel shows of an unconnected UDP socket: TCP_CLOSE


def holder(protocol: str, address: str, port: int) -> str:
    """``nginx, process 1234``; empty if it cannot be told."""
    wanted = _parse(address)
    inodes = {
        inode
        for local, at, inode in _sockets(protocol)
        if at == port and (local == wanted or local.is_unspecified or wanted.is_unspecified)
    }
    for pid in _processes():
        if inodes & _inodes_of(pid):
            name = _read(f"/proc/{pid}/comm").strip()
            if name:
                return f"{name}, process {pid}"
    return ""


def _parse(address: str) -> IPAddress:
    return IPv6Address(address.partition("%")[0]) if ":" in address else IPv4Address(address)


def _sockets(protocol: str) -> Iterator[tuple[IPAddress, int, str]]:
    """Address, port and inode of sockets in the calling thread's namespace that bar a bind."""
    state = _LISTENING if protocol == "tcp" else _CLOSED
    for name in (protocol, f"{protocol}6"):
        for line in _read(f"/proc/thread-self/net/{name}").splitlines()[1:]:
            fields = line.split()
            if fields[3] == state:
                address, _, port = fields[1].partition(":")
                yield _unpack(address), int(port, 16), fields[9]


def _unpack(text: str) -> IPAddress:
    """Words of 32 bits, as this machine orders bytes."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    raw = b"".join(words)
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _inodes_of(pid: int) -> set[str]:
    found = set()
    try:
        for entry in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{entry}")
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        return found  # it has just ended
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
