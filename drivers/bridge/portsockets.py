"""Sockets that hold a host port: nobody else can bind it, and nothing is served on it.

A bound socket without SO_REUSEADDR keeps every other program off, but cannot be bound itself
while old connections of that port are in TIME_WAIT. So a TCP socket that cannot be bound is tried
again with the option: it listens for a moment (then the kernel lets no second listener in,
whatever options that has), and loses the option; tried with 6.1 and 6.18
(net/ipv4/inet_connection_sock.c, inet_csk_get_port and inet_csk_update_fastreuse).
"""

from __future__ import annotations

import contextlib
import errno
import socket

from cnm.errors import InvalidParameter

_FLAGS = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
_KINDS = {
    "tcp": (socket.SOCK_STREAM | _FLAGS, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM | _FLAGS, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_SEQPACKET | _FLAGS, socket.IPPROTO_SCTP),
}
_NO_PROTOCOL = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.ENOPROTOOPT, errno.EPROTOTYPE)
BACKLOG = 128
_SMALLEST_BUFFER = 1  # the kernel makes it the least it allows: nobody reads these
_SERVED_BUFFER = 1 << 20


def is_supported(protocol: str) -> bool:
    """Whether this kernel has sockets of that protocol."""
    try:
        _open(socket.AF_INET, protocol).close()
    except OSError as error:
        if error.errno not in _NO_PROTOCOL:
            raise
        return False
    return True


def has_ipv6() -> bool:
    """Whether this kernel has IPv6 sockets at all."""
    try:
        _open(socket.AF_INET6, "udp").close()
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise
        return False
    return True


def reserve(protocol: str, address: str, port: int, *, serve: bool) -> socket.socket:
    """A socket that holds the port; with ``serve`` it listens, and receives what comes.

    :raises OSError: EADDRINUSE, EADDRNOTAVAIL, …
    """
    try:
        return _reserve(protocol, address, port, serve=serve, reuse=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or protocol != "tcp":
            raise
    return _reserve(protocol, address, port, serve=serve, reuse=True)


def _reserve(protocol: str, address: str, port: int, *, serve: bool, reuse: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    held = _open(family, protocol)
    try:
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((address, port))
        if reuse:
            held.listen(BACKLOG)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        if serve or reuse or protocol == "udp":
            set_served(held, protocol, serve=serve)
    except BaseException:
        held.close()
        raise
    return held


def set_served(held: socket.socket, protocol: str, *, serve: bool) -> None:
    """Begin or end to let clients in. :raises OSError:"""
    if protocol == "tcp" and serve:
        held.listen(BACKLOG)
    elif protocol == "tcp":
        with contextlib.suppress(OSError):  # ENOTCONN is said of what does not listen
            held.shutdown(socket.SHUT_RDWR)
    elif protocol == "udp":
        size = _SERVED_BUFFER if serve else _SMALLEST_BUFFER
        held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        if serve and held.family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)


def _open(family: socket.AddressFamily, protocol: str) -> socket.socket:
    if protocol not in _KINDS:
        raise InvalidParameter(f"invalid proto: {protocol}")
    kind, number = _KINDS[protocol]
    return socket.socket(family, kind, number)
