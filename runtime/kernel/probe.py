"""Who else has an address on the wire: asked before it is used, listened for afterwards.

``cnm.hostapi.WireProbe`` for the namespace of the threads that call it.

*Before*: RFC 5227 waits up to 7 s (three probes 1 to 2 s apart, 2 s more before the address is
used), made for hosts that boot. Whoever starts a container does not wait that long, and a LAN
answers ARP within a millisecond, Wi-Fi that saves power within a tenth of a second. So: three
probes in 0.12 s, an answer has 0.2 s in all; NetworkManager waits as long by default. What answers
later than that is heard by the guard.

A short random wait comes first (PROBE_WAIT): of two hosts that ask for the same address at once the
later one is heard by the earlier, which gives up at once, and so stops asking.

*Afterwards*: a socket for each link and family, with the addresses in its filter, so that the
kernel wakes us for a conflict and for nothing else. It listens for ARP (or IPv6) alone: a socket
for all protocols would see each packet of the link. Defending an address is left to the
kernel of the container, which answers for it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Mapping

from cnm.errors import KernelError
from cnm.hostapi import Taken, Wires
from cnm.runtime.kernel import bpf, probeframes
from cnm.runtime.kernel.announce import ALL_NODES_MAC, ETH_P_ARP, ETH_P_IPV6
from cnm.runtime.kernel.netlink import Netlink
from cnm.runtime.kernel.probeframes import MOST, claim_of, probe_for
from cnm.runtime.kernel.readable import is_readable
from cnm.types import IPAddress

log = logging.getLogger(__name__)

PROBES = 3
PROBE_DISTANCE_S = 0.06
PROBE_S = 0.2  # all of it
PROBE_WAIT_S = 0.02  # random, at most
TOLD_AGAIN_S = 60.0  # one conflict is told once in this time, however often it shows
_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_MULTICAST = 263, 1, 0  # packet(7)
_FRAME_BYTES = 2048
_DOWN = (errno.ENETDOWN, errno.ENODEV, errno.ENXIO)
_FAMILIES = {4: ETH_P_ARP, 6: ETH_P_IPV6}

_Key = tuple[str, int]  # link, IP version
_Wanted = dict[IPAddress, str]


class WireProber:
    """One for a daemon; :meth:`close` ends what listens."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken: Taken | None = None
        self._wanted: dict[_Key, _Wanted] = {}
        self._listeners: dict[_Key, _Listener] = {}
        self._told: dict[tuple[str, IPAddress, str], float] = {}
        self._thread: threading.Thread | None = None
        self._epoll: select.epoll | None = None
        self._end = -1

    # before

    def holders(self, link: str, addresses: Collection[IPAddress]) -> Mapping[IPAddress, str]:
        """Those that somebody has, with his MAC; see ``WireProbe``."""
        with Netlink() as netlink:
            mac = netlink.mac(link)
            own = {item.interface.ip for item in netlink.addresses()} if mac else set()
        if mac is None:
            return {}
        found = {address: mac for address in addresses if address in own}
        asked = [address for address in addresses if address not in own]
        if asked:
            found |= self._ask(link, mac, asked)
        return found

    def _ask(self, link: str, mac: str, addresses: Collection[IPAddress]) -> _Wanted:
        try:
            with _listening(link, _ETH_P_ALL, probeframes.everything()) as wire:
                return _probe(wire, mac, addresses)
        except OSError as error:
            if error.errno in _DOWN:
                return {}
            raise KernelError(error.errno or errno.EIO, f"address probe on {link}") from error

    # afterwards

    def watch(self, taken: Taken) -> None:
        """Whom to tell."""
        self._taken = taken

    def guard(self, wires: Callable[[], Wires]) -> None:
        """Listen for others that use these addresses; see ``WireProbe``."""
        with self._mutex:
            wanted: dict[_Key, _Wanted] = {}
            for link, held in wires().items():
                for address, mac in held.items():
                    wanted.setdefault((link, address.version), {})[address] = mac
            if not wanted and self._epoll is None:
                return
            epoll = self._started()
            for key in [*self._listeners]:
                if key not in wanted or self._listeners[key].is_stale():
                    self._drop(epoll, key)
            self._wanted = wanted
            for key in wanted:
                self._listen(epoll, key)

    def close(self) -> None:
        """End the thread, close every socket. Again is fine."""
        with self._mutex:
            epoll, self._epoll = self._epoll, None
            if epoll is None or self._thread is None:
                return
            os.eventfd_write(self._end, 1)
        self._thread.join()
        for listener in self._listeners.values():
            listener.socket.close()
        self._listeners = {}
        os.close(self._end)
        epoll.close()

    def _started(self) -> select.epoll:
        if self._epoll is None:
            self._epoll = select.epoll()
            self._end = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._epoll.register(self._end, select.EPOLLIN)
            self._thread = threading.Thread(
                target=self._run, args=(self._epoll,), name="conflicts", daemon=True
            )
            self._thread.start()
        return self._epoll

    def _listen(self, epoll: select.epoll, key: _Key) -> None:
        link, version = key
        addresses = list(self._wanted[key])
        if len(addresses) > MOST:
            log.warning("conflicts on %s: only the first %d addresses are guarded", link, MOST)
        program = probeframes.said_of(addresses[:MOST])
        try:
            if key in self._listeners:
                bpf.attach(self._listeners[key].socket, program)
                return
            listener = _Listener(link, _FAMILIES[version], program)
        except (OSError, KernelError) as error:
            # gone: the next call finds it, if it comes back; anything else passes, too
            if error.errno not in _DOWN:
                log.error("conflicts on %s are not listened for: %s", link, error)
            return
        self._listeners[key] = listener
        epoll.register(listener.socket, select.EPOLLIN)

    def _drop(self, epoll: select.epoll, key: _Key) -> None:
        listener = self._listeners.pop(key)
        epoll.unregister(listener.socket)
        listener.socket.close()

    def _run(self, epoll: select.epoll) -> None:
        while True:
            ready = {descriptor for descriptor, _ in epoll.poll()}
            if self._end in ready:
                return
            with self._mutex:
                heard = [
                    (key, listener.receive())
                    for key, listener in self._listeners.items()
                    if listener.socket.fileno() in ready
                ]
                news = [item for key, frame in heard for item in self._conflicts(key, frame)]
            for link, address, mac in news:
                self._tell(link, address, mac)

    def _conflicts(self, key: _Key, frame: bytes) -> list[tuple[str, IPAddress, str]]:
        """Under the mutex: what of a frame is news."""
        claim = claim_of(frame)
        if claim is None or claim.probing:
            return []
        link, wanted = key[0], self._wanted.get(key, {})
        allowed = {wanted.get(claim.address, claim.mac), self._listeners[key].mac}
        now, conflict = time.monotonic(), (link, claim.address, claim.mac)
        if claim.mac in allowed or now - self._told.get(conflict, -TOLD_AGAIN_S) < TOLD_AGAIN_S:
            return []
        self._told = {item: then for item, then in self._told.items() if now - then < TOLD_AGAIN_S}
        self._told[conflict] = now
        return [conflict]

    def _tell(self, link: str, address: IPAddress, mac: str) -> None:
        if self._taken is None:
            return
        try:
            self._taken(link, address, mac)
        except Exception as error:  # the watch must go on
            log.error("conflict over %s on %s: %s", address, link, error)


class _Listener:
    """A socket on a link, and the link as it was then. :raises OSError: it is gone."""

    def __init__(self, link: str, protocol: int, program: Collection[bpf.Instruction]) -> None:
        self.link = link
        self._index = socket.if_nametoindex(link)
        self._failed = False
        with Netlink() as netlink:
            self.mac = netlink.mac(link) or ""
        self.socket = _listening(link, protocol, program)

    def is_stale(self) -> bool:
        """Whether another link has the name by now, or none."""
        try:
            return self._failed or socket.if_nametoindex(self.link) != self._index
        except OSError:
            return True

    def receive(self) -> bytes:
        """One frame; empty if the link went down (the socket says so once) or away."""
        try:
            return self.socket.recv(_FRAME_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            self._failed = True
            return b""


def _probe(wire: socket.socket, mac: str, addresses: Collection[IPAddress]) -> _Wanted:
    frames = {
        address: probe_for(bytes.fromhex(mac.replace(":", "")), address) for address in addresses
    }
    found: _Wanted = {}
    time.sleep(random.uniform(0, PROBE_WAIT_S))
    begin = time.monotonic()
    for number in range(1, PROBES + 1):
        for address in frames.keys() - found.keys():
            wire.send(frames[address])
        last = number == PROBES
        until = begin + (PROBE_S if last else number * PROBE_DISTANCE_S)
        _hear(wire, mac, frames.keys(), found, until)
        if len(found) == len(frames):
            break
    return found


def _hear(
    wire: socket.socket,
    mac: str,
    addresses: Collection[IPAddress],
    found: _Wanted,
    until: float,
) -> None:
    """Add to ``found`` what is said of the addresses, until a time or until all are found."""
    while len(found) < len(addresses) and (rest := until - time.monotonic()) > 0:
        if not is_readable(wire.fileno(), rest):
            return
        frame, (_, _, kind, _, _) = wire.recvfrom(_FRAME_BYTES)
        claim = claim_of(frame)
        ours = kind == socket.PACKET_OUTGOING or claim is None or claim.mac == mac
        if claim is not None and not ours and claim.address in addresses:
            found.setdefault(claim.address, claim.mac)


def _listening(link: str, protocol: int, program: Collection[bpf.Instruction]) -> socket.socket:
    """A packet socket that hears what the filter lets through, from its first packet on."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    with contextlib.ExitStack() as failed:
        failed.callback(opened.close)
        bpf.attach(opened, program)  # before the bind, which opens it to packets
        opened.bind((link, protocol))
        opened.setblocking(False)
        index = socket.if_nametoindex(link)
        member = struct.pack("=iHH8s", index, _PACKET_MR_MULTICAST, 6, ALL_NODES_MAC)
        opened.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, member)
        failed.pop_all()
    return opened
