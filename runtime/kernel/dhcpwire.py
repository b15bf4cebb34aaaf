"""Frames with DHCP in them, on a link of the host, for endpoints that have no link yet.

A packet socket (packet(7)), because the client has no address, and its MAC is no interface's:
what is sent carries the endpoint's MAC. It hears all protocols, through a filter for the client's
UDP port: the answer to a renewal goes to the endpoint's own MAC, and macvlan takes such frames
away before sockets of one protocol see them. A filter is run for each packet of the link, so the
socket is meant to be open only while an answer is waited for.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from cnm.errors import KernelError
from cnm.runtime.kernel import bpf
from cnm.runtime.kernel.announce import BROADCAST, checksum
from cnm.runtime.kernel.netlink import Netlink

_ETH_P_ALL, _ETH_P_IP = 3, 0x0800
_UDP = 17
_IPV4_BYTES, _UDP_BYTES, _ETHERNET_BYTES = 20, 8, 14
_FRAME_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram that came in, and the MAC of the frame that it came in."""

    payload: bytes
    mac: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where a datagram goes. ``mac`` empty: to everybody on the wire."""

    address: IPv4Address = IPv4Address("255.255.255.255")
    mac: str = ""


class DhcpWire:
    """A link of the host, opened for UDP between two ports. :meth:`close` it.

    :raises KernelError: there is no such link.
    """

    def __init__(self, link: str, client_port: int, server_port: int) -> None:
        self.link = link
        self._ports = (client_port, server_port)
        with Netlink() as netlink:
            self.mac = netlink.mac(link) or ""
        try:
            self._socket = _open(link, client_port)
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, f"DHCP on {link}") from error

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    def send(self, payload: bytes, mac: str, source: IPv4Address, target: Target) -> None:
        """From an endpoint's MAC and address. :raises KernelError: the link is down or gone."""
        datagram = _packet(payload, source, target.address, self._ports)
        ethernet = _bytes(target.mac) if target.mac else BROADCAST
        frame = ethernet + _bytes(mac) + struct.pack("!H", _ETH_P_IP) + datagram
        try:
            self._socket.send(frame)
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, f"DHCP on {self.link}") from error

    def receive(self) -> Datagram | None:
        """One datagram; None if there is none.

        :raises KernelError: the link is down or gone.
        """
        try:
            frame = self._socket.recv(_FRAME_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, f"DHCP on {self.link}") from error
        return datagram_of(frame)

    def close(self) -> None:
        """Again is fine."""
        self._socket.close()


def datagram_of(frame: bytes) -> Datagram | None:
    """The UDP datagram in a frame that the filter let through; None: lengths contradict.

    The UDP checksum is not looked at: of a frame from this machine (a server in a namespace) it is
    not filled in, which is the network card's work.
    """
    header = frame[_ETHERNET_BYTES:]
    if len(header) < _IPV4_BYTES:
        return None
    width = (header[0] & 0xF) * 4
    (total,) = struct.unpack_from("!H", header, 2)
    udp = header[width:total]
    if width < _IPV4_BYTES or len(udp) < _UDP_BYTES or total > len(header):
        return None
    (length,) = struct.unpack_from("!H", udp, 4)
    return Datagram(udp[_UDP_BYTES:length], frame[6:12].hex(":"))


def _packet(
    payload: bytes, source: IPv4Address, target: IPv4Address, ports: tuple[int, int]
) -> bytes:
    """An IPv4 packet with a UDP datagram in it (RFC 791, RFC 768)."""
    length = _UDP_BYTES + len(payload)
    udp = struct.pack("!HHHH", *ports, length, 0) + payload
    pseudo = source.packed + target.packed + struct.pack("!BBH", 0, _UDP, length)
    padded = pseudo + udp + bytes(length % 2)
    udp = udp[:6] + struct.pack("!H", checksum(padded) or 0xFFFF) + udp[8:]
    addresses = source.packed + target.packed
    header = (
        struct.pack("!BBHHHBBH", 0x45, 0x10, _IPV4_BYTES + length, 0, 0, 64, _UDP, 0) + addresses
    )
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return header + udp


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _filter(port: int) -> list[bpf.Instruction]:
    """UDP over IPv4 to a port, whole and without a VLAN tag (a tagged one is for another link)."""
    return [
        (bpf.LOAD_BYTE, 0, 0, bpf.VLAN_TAG),
        (bpf.JUMP_EQUAL, 0, 10, 0),
        (bpf.LOAD_HALF, 0, 0, 12),
        (bpf.JUMP_EQUAL, 0, 8, _ETH_P_IP),
        (bpf.LOAD_BYTE, 0, 0, _ETHERNET_BYTES + 9),
        (bpf.JUMP_EQUAL, 0, 6, _UDP),
        (bpf.LOAD_HALF, 0, 0, _ETHERNET_BYTES + 6),
        (bpf.JUMP_SET, 4, 0, 0x3FFF),  # more fragments, or not the first
        (bpf.LOAD_X_HEADER, 0, 0, _ETHERNET_BYTES),
        (bpf.LOAD_HALF_X, 0, 0, _ETHERNET_BYTES + 2),
        (bpf.JUMP_EQUAL, 0, 1, port),
        (bpf.RETURN, 0, 0, 0xFFFF),
        (bpf.RETURN, 0, 0, 0),
    ]


def _open(link: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    with contextlib.ExitStack() as failed:
        failed.callback(opened.close)
        bpf.attach(opened, _filter(port))  # before the bind, which opens it to packets
        opened.bind((link, _ETH_P_ALL))
        opened.setblocking(False)
        failed.pop_all()
    return opened
