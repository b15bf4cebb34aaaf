"""Unsolicited ARP and neighbour advertisements: neighbours learn a new owner of an address at once.

IPv4: an ARP announcement, a request whose sender and target are the same address (RFC
5227, 3). IPv6: an unsolicited neighbour advertisement with the override flag, to all nodes
(RFC 4861, 7.2.6). The first goes out at once; the rest follow from one background thread,
because a bridge port that has just come up may still drop frames.

The kernel's own way (``arp_notify``, ``ndisc_notify``) was left: it announces while the link
comes up, and a bridge port forwards only some time after. Closing a packet socket waits
12 ms for RCU, so that a second thread does it.
"""

from __future__ import annotations

import heapq
import socket
import struct
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address

from cnm.types import IPInterface

COUNT = 3  # Docker's default number of announcements
INTERVAL_S = 1.0  # and their distance

BROADCAST = b"\xff" * 6
ALL_NODES_MAC = bytes.fromhex("333300000001")
_ALL_NODES = IPv6Address("ff02::1")
ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
ICMPV6 = 58
_ADVERTISEMENT = 136  # RFC 4861, 4.4
_OVERRIDE = 0x20000000
_TARGET_LINK_ADDRESS = 2


class Announcer:
    """Sends announcements; one for a daemon. :meth:`close` drops what is still due."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._due: list[tuple[float, int, socket.socket, tuple[bytes, ...], int, float]] = []
        self._serial = 0
        self._thread: threading.Thread | None = None
        self._done = ThreadPoolExecutor(1, thread_name_prefix="announced")
        self._closed = False

    def announce(
        self,
        sender: socket.socket | None,
        mac: str,
        addresses: Sequence[IPInterface],
        count: int = COUNT,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """Announce addresses now, and ``count - 1`` times more.

        ``sender`` comes from :meth:`Interior.take_sender
        <cnm.runtime.kernel.interior.Interior.take_sender>` and is closed by this. An interface
        that goes away meanwhile ends it silently.
        """
        if sender is None:
            return
        frames = tuple(frames_for(bytes.fromhex(mac.replace(":", "")), addresses)) if mac else ()
        if frames and count > 0:
            self._send(sender, frames, count, interval_s)
        else:
            self.discard(sender)

    def discard(self, sender: socket.socket) -> None:
        """Close a packet socket, which waits for RCU, in a thread of ours."""
        with self._condition:
            if not self._closed:
                self._done.submit(sender.close)
                return
        sender.close()

    def close(self) -> None:
        """End the thread and close every socket. Again is fine."""
        with self._condition:
            self._closed = True
            waiting, self._due = self._due, []
            self._condition.notify()
            thread = self._thread
        if thread is not None:
            thread.join()
        self._done.shutdown()
        for entry in waiting:
            entry[2].close()

    def _send(
        self, sender: socket.socket, frames: tuple[bytes, ...], count: int, interval_s: float
    ) -> None:
        try:
            for frame in frames:
                sender.send(frame)
        except OSError:
            count = 1  # the interface went down or away: nothing is left to announce
        if count == 1:
            self.discard(sender)
            return
        with self._condition:
            if self._closed:
                sender.close()
                return
            self._serial += 1
            due = (time.monotonic() + interval_s, self._serial, sender, frames, count - 1)
            heapq.heappush(self._due, (*due, interval_s))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
                self._thread.start()
            if self._due[0][1] == self._serial:  # it has to wake up earlier than it thinks
                self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._closed and (not self._due or self._due[0][0] > time.monotonic()):
                    rest = self._due[0][0] - time.monotonic() if self._due else None
                    self._condition.wait(rest)
                if self._closed:
                    return
                _, _, sender, frames, count, interval_s = heapq.heappop(self._due)
            self._send(sender, frames, count, interval_s)


def frames_for(mac: bytes, addresses: Iterable[IPInterface]) -> Iterable[bytes]:
    """One Ethernet frame for each address."""
    for address in addresses:
        ip = address.ip
        yield _arp(mac, ip) if isinstance(ip, IPv4Address) else _advertisement(mac, ip)


def _arp(mac: bytes, ip: IPv4Address) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + ip.packed + bytes(6) + ip.packed
    return BROADCAST + mac + struct.pack("!H", ETH_P_ARP) + body


def _advertisement(mac: bytes, ip: IPv6Address) -> bytes:
    option = struct.pack("!BB", _TARGET_LINK_ADDRESS, 1) + mac
    body = struct.pack("!BBHI", _ADVERTISEMENT, 0, 0, _OVERRIDE) + ip.packed + option
    return ALL_NODES_MAC + mac + neighbour_packet(ip, _ALL_NODES, body)


def neighbour_packet(source: IPv6Address, target: IPv6Address, body: bytes) -> bytes:
    """EtherType, IPv6 header, ICMPv6 body with its checksum; hop limit 255 (RFC 4861, 7.1)."""
    pseudo = source.packed + target.packed + struct.pack("!I3xB", len(body), ICMPV6)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    header = struct.pack("!HIHBB", ETH_P_IPV6, 0x60000000, len(body), ICMPV6, 255)
    return header + source.packed + target.packed + body


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)
