"""The pair of sockets on which a sandbox, or the host, is answered."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from dataclasses import dataclass

from cnm.errors import KernelError

_SO_NETNS_COOKIE = 71  # asm-generic/socket.h, Linux 5.14
_SO_RCVBUFFORCE = 33  # past net.core.rmem_max
_FREEBIND = {  # linux/in.h, linux/in6.h
    socket.AF_INET: (socket.SOL_IP, 15),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 78),
}
# What may wait while one resolver process ends and the next begins: 0.2 s at 5,000 queries/s,
# each of which counts 768 bytes.
_QUEUED_BYTES = 1 << 20
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Sockets:
    """UDP and TCP on 127.0.0.11, on ports of the kernel's choice; the TCP one listens."""

    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()

    @property
    def cookie(self) -> int:
        """Of the namespace that they are in."""
        raw = self.udp.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        return int(struct.unpack("=Q", raw)[0])

    @property
    def descriptors(self) -> tuple[int, int]:
        return self.udp.fileno(), self.tcp.fileno()

    @property
    def address(self) -> tuple[str, int]:
        """Where the UDP socket is bound."""
        host, port, *_ = self.udp.getsockname()
        return str(host), int(port)

    def alive(self) -> bool:
        """False: somebody has ended them (``ss -K``)."""
        try:
            bound = self.udp.getsockname()[1] != 0
            return bound and bool(self.tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        except OSError:
            return False


def adopt(udp: int, tcp: int) -> Sockets:
    """Of descriptors that another process gave."""
    return Sockets(socket.socket(fileno=udp), socket.socket(fileno=tcp))


def open_sockets(address: str, port: int) -> Sockets:
    """A UDP and a TCP socket; the address need not be there yet. :raises KernelError:"""
    with contextlib.ExitStack() as stack:
        try:
            opened = []
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                each = stack.enter_context(socket.socket(family, kind | socket.SOCK_NONBLOCK))
                if port:
                    each.setsockopt(*_FREEBIND[family], 1)
                if port and kind is socket.SOCK_STREAM:  # on UDP it would share the port
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.bind((address, port))
                opened.append(each)
            udp, tcp = opened
            udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUED_BYTES)
            tcp.listen(_BACKLOG)
        except OSError as error:
            what = f"opening the resolver's sockets on {address}"
            raise KernelError(error.errno or errno.EIO, what) from error
        stack.pop_all()
    return Sockets(udp, tcp)
