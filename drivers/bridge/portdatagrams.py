"""The same for UDP: a flow is a client and the address that it wrote to.

Answers leave from that very address (IPV6_PKTINFO, RFC 3542): a client takes them from no other.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

from cnm.drivers.bridge.portrelay import Target
from cnm.runtime.kernel.loop import READ, Loop

_LONGEST = 1 << 16
_IDLE_S = 90.0  # Docker's proxy forgets a client after that time
_MOST = 4096  # flows at once; the oldest gives way
_AT_ONCE = 32  # datagrams of one socket before others get their turn
_ANCILLARY = 256

Ancillary = list[tuple[int, int, bytes]]


class _Flow:
    __slots__ = ("client", "listener", "local", "server", "used_s")

    def __init__(
        self, listener: socket.socket, client: Any, local: Ancillary, server: socket.socket
    ) -> None:
        self.listener = listener
        self.client = client
        self.local = local
        self.server = server
        self.used_s = time.monotonic()


class DatagramRelay:
    """Receives for bound sockets, and passes on both ways."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._flows: dict[tuple[int, Any, bytes], _Flow] = {}
        self._looking = False

    def receive(self, listener: socket.socket, target: Target) -> None:
        """What has come from clients."""
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, _, client = listener.recvmsg(_LONGEST, _ANCILLARY)
            except OSError:  # none is left, or an ICMP error of an earlier answer
                return
            local = [
                item for item in ancillary if item[:2] == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
            ]
            flow = self._flow(listener, client, local, target)
            if flow is not None:
                flow.used_s = time.monotonic()
                with contextlib.suppress(OSError):  # as on any network, it may be lost
                    flow.server.send(data)

    def forget(self, listener: socket.socket) -> None:
        """Its port is given back."""
        for key, flow in list(self._flows.items()):
            if flow.listener is listener:
                self._end(key)

    def _flow(
        self, listener: socket.socket, client: Any, local: Ancillary, target: Target
    ) -> _Flow | None:
        key = (listener.fileno(), client, b"".join(item[2] for item in local))
        found = self._flows.get(key)
        if found is not None:
            return found
        if len(self._flows) >= _MOST:
            self._end(min(self._flows, key=lambda each: self._flows[each].used_s))
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        server = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        server.setblocking(False)
        try:
            server.connect(target)
        except OSError:
            server.close()
            return None
        self._flows[key] = flow = _Flow(listener, client, local, server)
        self._loop.watch(server.fileno(), READ, lambda _events: self._answer(flow))
        self._look_later()
        return flow

    def _answer(self, flow: _Flow) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = flow.server.recv(_LONGEST)
            except OSError:  # none is left, or nobody listens in the container
                return
            flow.used_s = time.monotonic()
            with contextlib.suppress(OSError):
                flow.listener.sendmsg([data], flow.local, 0, flow.client)

    def _look_later(self) -> None:
        if self._flows and not self._looking:
            self._looking = True
            self._loop.after(_IDLE_S / 3, self._look)

    def _look(self) -> None:
        self._looking = False
        oldest = time.monotonic() - _IDLE_S
        for key, flow in list(self._flows.items()):
            if flow.used_s < oldest:
                self._end(key)
        self._look_later()

    def _end(self, key: tuple[int, Any, bytes]) -> None:
        flow = self._flows.pop(key)
        self._loop.forget(flow.server.fileno())
        flow.server.close()
