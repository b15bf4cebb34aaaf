"""The port helper: one process that holds all host ports of a daemon, which it outlives.

Run as ``python -m cnm.drivers.bridge.portserver --exec-root DIR``. One thread, one loop. It ends
by itself when it holds nothing and nobody is connected. What it is asked sets a state and may be
repeated; ``hold`` is done whole or not at all.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import itertools
import resource
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from cnm.drivers.bridge import portsockets
from cnm.drivers.bridge.portdatagrams import DatagramRelay
from cnm.drivers.bridge.portprotocol import Holding, Key, Wanted, greeting, place
from cnm.drivers.bridge.portrelay import StreamRelay, Target
from cnm.errors import InvalidParameter
from cnm.runtime.kernel import packets, resident
from cnm.runtime.kernel.loop import READ, Loop
from cnm.runtime.kernel.resident import Place
from cnm.runtime.kernel.service import Connection, Service
from cnm.undo import Undo

_SYSCTLS = "/proc/sys/net/ipv4"


class _Held:
    __slots__ = ("holding", "socket")

    def __init__(self, holding: Holding, held: socket.socket) -> None:
        self.holding = holding
        self.socket = held


class _Taken(Exception):
    """A port that cannot be had. ``owner``: of the endpoint that holds it, if it is of ours."""

    def __init__(self, key: Key, number: int, owner: str = "") -> None:
        super().__init__(key)
        self.key, self.number, self.owner = key, number, owner


class PortServer:
    """Answers the daemon."""

    def __init__(self, place: Place) -> None:
        self.loop = Loop(resident.log_error)
        self._held: dict[Key, _Held] = {}
        self._next = dict.fromkeys(("tcp", "udp", "sctp"), 0)
        self._streams = StreamRelay(self.loop)
        self._datagrams = DatagramRelay(self.loop)
        self._service = Service(self.loop, place, self._handle, lambda: bool(self._held))
        self._requests: dict[str, Callable[[packets.Message], object]] = {
            "hello": lambda _: greeting(),
            "hold": self._hold,
            "release": self._release,
            "holdings": lambda _: [held.holding for held in self._held.values()],
            "watch": lambda _: None,  # the connection's end is what is watched
        }

    def serve(self) -> None:
        """Until idle."""
        self._service.listen()
        gc.collect()
        gc.freeze()
        self.loop.run()

    def _handle(
        self, connection: Connection, message: packets.Message, descriptors: list[int]
    ) -> None:
        packets.close_all(descriptors)
        request = self._requests.get(message.get("ask", ""))
        if request is None:
            raise InvalidParameter(f"no such request: {message.get('ask')}")
        connection.reply({"done": request(message)})

    # holding

    def _hold(self, message: packets.Message) -> dict[str, Any]:
        """The port of each wish; or which one is taken, and nothing has changed."""
        owner = message["owner"]
        wishes = [Wanted.read(item) for item in message["ports"]]
        # what leaves a choice takes what the others leave
        order = sorted(range(len(wishes)), key=lambda at: (not wishes[at].low, wishes[at].choice))
        ports: dict[int, int] = {}
        now: set[Key] = set()  # held by this very request
        try:
            with Undo() as undo:
                for at in order:
                    ports[at] = self._fulfil(owner, wishes[at], now, undo)
        except _Taken as taken:
            return {"taken": taken.key, "errno": taken.number, "owner": taken.owner}
        return {"ports": [ports[at] for at in range(len(wishes))]}

    def _fulfil(self, owner: str, wish: Wanted, now: set[Key], undo: Undo) -> int:
        if not wish.choice:
            self._take(owner, wish, wish.low, now, undo)
            return wish.low
        for port in self._candidates(wish):
            try:
                with Undo() as here:
                    self._take(owner, wish, port, now, here)
            except _Taken as taken:
                if taken.number == errno.EADDRINUSE:
                    continue
                raise
            undo.push(here.run)
            if not wish.low:
                self._next[wish.protocol] = port + 1
            return port
        raise _Taken((wish.protocol, wish.addresses[0][0], 0), errno.EADDRINUSE)

    def _candidates(self, wish: Wanted) -> Iterable[int]:
        if wish.low:
            return range(wish.low, wish.high + 1)
        low, high = _range()
        avoided = set(_reserved())
        first = min(max(self._next[wish.protocol], low), high)
        rest = itertools.chain(range(first, high + 1), range(low, first))
        return (port for port in rest if port not in avoided)

    def _take(self, owner: str, wish: Wanted, port: int, now: set[Key], undo: Undo) -> None:
        """The port on all addresses of a wish; what the undo takes back if one is taken."""
        keys = []
        for address, target in wish.addresses:
            key = wish.protocol, address, port
            before = self._held.get(key)
            if before is None:
                self._reserve(key, owner, target)
                undo.push(self._drop, key)
            elif before.holding[3] != owner or wish.choice or key in now:
                raise _Taken(key, errno.EADDRINUSE, before.holding[3])
            else:
                undo.push(self._serve, before, before.holding[4])
                self._serve(before, target)
            keys.append(key)
        now.update(keys)

    def _reserve(self, key: Key, owner: str, target: Target | None) -> None:
        try:
            held = portsockets.reserve(*key, serve=target is not None)
        except OSError as error:
            number = error.errno or errno.EIO
            holder = self._overlapping(key) if number == errno.EADDRINUSE else ""
            raise _Taken(key, number, holder) from error
        self._held[key] = made = _Held((*key, owner, target), held)
        if target is not None:
            self._watch(made)

    def _overlapping(self, key: Key) -> str:
        """The owner of the same port on all addresses; or on any, if it is wanted on all."""
        protocol, address, port = key
        everywhere = ("0.0.0.0", "::")
        for (other, at, number), held in self._held.items():
            same_family = (":" in at) == (":" in address)
            if (other, number) == (protocol, port) and same_family:
                if at in everywhere or address in everywhere:
                    return held.holding[3]
        return ""

    def _serve(self, held: _Held, target: Target | None) -> None:
        """Pass clients on to this target from now on, or let none in."""
        if held.holding[4] == target:
            return
        protocol = held.holding[0]
        if (held.holding[4] is None) != (target is None):
            portsockets.set_served(held.socket, protocol, serve=target is not None)
        held.holding = (*held.holding[:4], target)
        self._datagrams.forget(held.socket)
        self._watch(held)

    def _watch(self, held: _Held) -> None:
        protocol, target = held.holding[0], held.holding[4]
        if target is None or protocol not in ("tcp", "udp"):
            self.loop.forget(held.socket.fileno())
            return
        pass_on = self._streams.accept if protocol == "tcp" else self._datagrams.receive
        self.loop.watch(held.socket.fileno(), READ, lambda _: pass_on(held.socket, target))

    def _release(self, message: packets.Message) -> None:
        """Ports that are this owner's; others stay."""
        for protocol, address, port in message["ports"]:
            held = self._held.get((protocol, address, port))
            if held is not None and held.holding[3] == message["owner"]:
                self._drop((protocol, address, port))

    def _drop(self, key: Key) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self.loop.forget(held.socket.fileno())
            self._datagrams.forget(held.socket)
            held.socket.close()


def _range() -> tuple[int, int]:
    with open(f"{_SYSCTLS}/ip_local_port_range", encoding="ascii") as file:
        low, high = file.read().split()
    return int(low), int(high)


def _reserved() -> Iterator[int]:
    """What the administrator keeps for programs of his (ip_local_reserved_ports)."""
    with open(f"{_SYSCTLS}/ip_local_reserved_ports", encoding="ascii") as file:
        for part in filter(None, file.read().strip().split(",")):
            low, _, high = part.partition("-")
            yield from range(int(low), int(high or low) + 1)


def _allow_files() -> None:
    """As many as the kernel allows: one a port and address, two a connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
        allowed = int(file.read())
    for limit in (allowed, most):
        with contextlib.suppress(ValueError):  # to raise it takes CAP_SYS_RESOURCE
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return


def main(arguments: Sequence[str]) -> int:
    """0: nothing is left to hold; 1: another process serves this directory."""
    parser = argparse.ArgumentParser(prog="cnm-ports")
    parser.add_argument("--exec-root", required=True)
    where = place(parser.parse_args(arguments).exec_root)
    lock = resident.lock(where)
    if lock is None:
        return 1
    resident.detach(where)
    _allow_files()
    PortServer(where).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
