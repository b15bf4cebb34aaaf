"""What a server in a container sees of a client, and the client of the server."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

from kernel.drivers.lab import Place
from kernel.drivers.packets import open_socket
from patience import patient

_ANSWER_S = 3.0  # for what must come
_SILENCE_S = 0.4  # for what must not
_ASKED, _TOLD = b"question", b"answer" * 1000
_KINDS = {
    "tcp": (socket.SOCK_STREAM, 0),
    "udp": (socket.SOCK_DGRAM, 0),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_REFUSALS = (
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EACCES,
    errno.EINVAL,
    errno.EPERM,
)


class Server:
    """Listens in a place, on all addresses of both families."""

    def __init__(self, place: Place, protocol: str, port: int) -> None:
        self.protocol = protocol
        self.socket = open_socket(place, socket.AF_INET6, *_KINDS[protocol])
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(("::", port))
        if protocol != "udp":
            self.socket.listen()

    def close(self) -> None:
        self.socket.close()

    def seen_from(self, client: Place, target: str, port: int, *, expected: bool) -> str | None:
        """The client's address as the server sees it; ``None``: it is not reached.

        Both ways are tried, and that the answer comes from where the question went.
        ``expected`` only says how long to wait.
        """
        wait_s = patient(_ANSWER_S) if expected else _SILENCE_S
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        self.socket.settimeout(wait_s)
        with open_socket(client, family, *_KINDS[self.protocol]) as asking:
            asking.settimeout(wait_s)
            try:
                asking.connect(_destination(client, target, port))
                asking.sendall(_ASKED)
                return self._answer(asking)
            except TimeoutError:
                return None
            except OSError as error:
                if error.errno not in _REFUSALS:
                    raise
                return None

    def _answer(self, asking: socket.socket) -> str:
        if self.protocol == "udp":
            data, source = self.socket.recvfrom(100)
            assert data == _ASKED
            self.socket.sendto(_ASKED, source)
            assert asking.recv(100) == _ASKED
            return _plain(source[0])
        accepted, source = self.socket.accept()
        with accepted:
            assert accepted.recv(100) == _ASKED
            accepted.sendall(_TOLD)
        received = b""
        while part := asking.recv(1 << 16):
            received += part
        assert received == _TOLD
        return _plain(source[0])


def _destination(
    client: Place, target: str, port: int
) -> tuple[str, int] | tuple[str, int, int, int]:
    """``%eth0`` is a link of the client's."""
    address, _, device = target.partition("%")
    if not device:
        return address, port
    return address, port, 0, int(client.sh(f"cat /sys/class/net/{device}/ifindex"))


def _plain(text: str) -> str:
    found = ip_address(text.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)


@contextlib.contextmanager
def serving(place: Place, protocol: str, port: int) -> Iterator[Server]:
    """A server for the block."""
    made = Server(place, protocol, port)
    try:
        yield made
    finally:
        made.close()


def is_free(port: int, address: str = "0.0.0.0", kind: int = socket.SOCK_STREAM) -> bool:
    """Whether another program could have the port of the host."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            other.bind((address, port))
            if kind == socket.SOCK_STREAM:
                other.listen()
        except OSError:
            return False
        return True
