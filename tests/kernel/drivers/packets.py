"""Packets that tests send and look for."""

from __future__ import annotations

import socket
import struct
import threading
from ipaddress import IPv6Address, IPv6Network, ip_address

from kernel.drivers.lab import Place
from kernel.namespaces import entered

PORT = 4000
_ATTEMPTS = 3
_ANSWER_S = 1.0  # for one that must come
_SILENCE_S = 0.1  # after one that must not, three times
_ALL_NODES = "ff02::1"


def datagram_source(sender: Place, receiver: Place, target: str, *, expected: bool) -> str | None:
    """The source address of a datagram that ``receiver`` gets at ``target``; ``None``: none came.

    ``expected`` only says how long to wait for it.
    """
    version = ip_address(target).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with open_socket(receiver, family) as received, open_socket(sender, family) as sent:
        received.bind(("", PORT))
        received.settimeout(_ANSWER_S if expected else _SILENCE_S)
        for _ in range(_ATTEMPTS):
            try:
                sent.sendto(b"test", (target, PORT))
                return str(received.recvfrom(64)[1][0])
            except TimeoutError:
                continue
            except OSError:  # no route, or the answer of a router that says no
                continue
    return None


def reaches(sender: Place, receiver: Place, target: str) -> bool:
    """Whether a datagram arrives, which must."""
    return datagram_source(sender, receiver, target, expected=True) is not None


def is_silent(sender: Place, receiver: Place, target: str) -> bool:
    """Whether none of three datagrams arrives, which must not."""
    return datagram_source(sender, receiver, target, expected=False) is None


def advertise_router(sender: Place, device: str, prefix: IPv6Network) -> None:
    """One router advertisement with a prefix, to all nodes (RFC 4861, 4.2 and 4.6.2)."""
    header = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    option = struct.pack("!BBBBIII", 3, 4, prefix.prefixlen, 0xC0, 3600, 3600, 0)
    with open_socket(sender, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        index = int(sender.sh(f"cat /sys/class/net/{device}/ifindex"))
        message = header + option + prefix.network_address.packed
        raw.sendto(message, (_ALL_NODES, 0, 0, index))


def link_local_is_ready(place: Place, device: str) -> bool:
    """Whether a link can send from its link-local address."""
    held = place.sh(f"ip -6 addr show dev {device} scope link")
    return "fe80" in held and "tentative" not in held


def has_address_of(place: Place, device: str, prefix: IPv6Network) -> bool:
    """Whether a link has made itself an address of a prefix."""
    return any(
        IPv6Address(info["local"]) in prefix
        for info in place.ip(f"-6 addr show dev {device}")[0]["addr_info"]
    )


def open_socket(
    place: Place, family: int, kind: int = socket.SOCK_DGRAM, protocol: int = 0
) -> socket.socket:
    """A socket of that namespace: a thread of its own goes there to open it."""
    opened: list[socket.socket] = []

    def open_inside() -> None:
        with entered(place.namespace):
            opened.append(socket.socket(family, kind, protocol))

    thread = threading.Thread(target=open_inside)
    thread.start()
    thread.join()
    return opened[0]
