"""The resolver process: one for all sandboxes of a daemon, which it outlives.

The daemon opens the sockets and hands them over; see :mod:`cnm.dns.handover`. Run as
``python -m cnm.dns.server --exec-root DIR``. One thread, one loop. It ends by itself when it
serves nobody and nobody is connected.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from cnm.dns import control, observing, sockets
from cnm.dns.forwarder import Forwarder
from cnm.dns.holdings import Holdings
from cnm.dns.hostservers import HostServers
from cnm.dns.observing import LogStreams
from cnm.dns.querylog import QueryLog
from cnm.dns.statistics import ForwardingCounters
from cnm.errors import InvalidParameter
from cnm.ids import EndpointID, NetworkID
from cnm.runtime.kernel import packets, resident
from cnm.runtime.kernel.loop import Loop
from cnm.runtime.kernel.resident import Place
from cnm.runtime.kernel.service import Connection, Service

_LINGER_S = 6.0  # at most, after its sockets are another's: a forwarded query takes 4
_LOOK_S = 0.1


class Server:
    """Answers the daemon."""

    def __init__(self, place: Place, lock: int) -> None:
        self.loop = Loop(resident.log_error)
        self._lock = lock
        self._retired = False
        self._watchers: list[Connection] = []
        self._log = QueryLog()
        self._forwarding = ForwardingCounters()
        forwarder = Forwarder(self.loop, HostServers(), self._forwarding, self._log)
        self._holdings = Holdings(self.loop, forwarder, self._gone)
        self._streams = LogStreams(
            self.loop, self._log, lambda on: self._holdings.watch(self._log if on else None)
        )
        self._service = Service(self.loop, place, self._handle, self._busy)
        self._requests: dict[str, Callable[[packets.Message], object]] = {
            "hello": lambda _: control.greeting(),
            "names": self._names,
            "publish": self._publish,
            "withdraw": self._withdraw,
            "forget_names": lambda m: self._holdings.forget_names(NetworkID(m["network"])),
            "see": lambda m: self._holdings.see(m["id"], control.read_view(m["view"])),
            "stop": lambda m: self._holdings.stop(m["id"]),
            "networks": lambda _: self._holdings.network_digests(),
            "network": lambda m: self._holdings.network_digest(NetworkID(m["network"])),
            "sandbox": lambda m: self._holdings.view_digest(m["id"]),
            "statistics": lambda _: self._statistics(),
            "retire": lambda _: self._retire(),
            control.TOGETHER: lambda m: [self._requests[one["ask"]](one) for one in m["of"]],
        }

    def serve(self) -> None:
        """Until told to retire, or idle."""
        self._service.listen()
        gc.collect()
        gc.freeze()
        self.loop.run()

    def _handle(
        self, connection: Connection, message: packets.Message, descriptors: list[int]
    ) -> None:
        name = message.get("ask")
        if name == "serve":
            self._serve(message, descriptors)
            connection.reply({"done": None})
            return
        packets.close_all(descriptors)
        if name == "take":
            listed, held = self._holdings.sockets(message["from"], control.TAKEN_AT_ONCE)
            connection.reply({"done": listed}, held)
        elif name == "watch":
            self._watchers.append(connection)
            connection.at_close.append(lambda: self._watchers.remove(connection))
            connection.reply({"done": None})
        elif name == "log":
            connection.reply({"done": None})
            self._streams.open(connection, message["id"])
        elif name in self._requests:
            connection.reply({"done": self._requests[name](message)})
        else:
            raise InvalidParameter(f"no such request: {name}")

    def _names(self, message: packets.Message) -> None:
        self._holdings.set_names(control.read_names(message["names"]))

    def _publish(self, message: packets.Message) -> None:
        endpoint = control.read_endpoint(message["endpoint"])
        self._holdings.publish(NetworkID(message["network"]), message["name"], endpoint)

    def _withdraw(self, message: packets.Message) -> None:
        self._holdings.withdraw(NetworkID(message["network"]), EndpointID(message["endpoint"]))

    def _serve(self, message: packets.Message, descriptors: list[int]) -> None:
        if len(descriptors) != 2:
            packets.close_all(descriptors)
            raise InvalidParameter("two sockets are needed")
        pair = sockets.adopt(*descriptors)
        view = control.read_view(message["view"])
        self._holdings.serve(message["id"], view, pair, message["path"])

    def _statistics(self) -> dict[str, Any]:
        held = self._holdings
        networks = len(held.network_digests())
        return observing.document(held.counters(), held.ended, self._forwarding, networks)

    def _gone(self, sandbox_id: str) -> None:
        for connection in list(self._watchers):
            connection.reply({"gone": sandbox_id})

    def _busy(self) -> bool:
        return self._holdings.serving and not self._retired

    def _retire(self) -> None:
        """Another process has our sockets: leave the place to it, answer what was read, end."""
        if self._retired:
            return
        self._retired = True
        self._holdings.leave_unread()
        self._service.leave_place()
        os.close(self._lock)
        self._linger(time.monotonic() + _LINGER_S)

    def _linger(self, until: float) -> None:
        if self._holdings.waiting and time.monotonic() < until:
            self.loop.after(_LOOK_S, lambda: self._linger(until))
        else:
            self.loop.stop()


def main(arguments: Sequence[str]) -> int:
    """0: nothing is left to do; 1: another process serves this directory."""
    if len(arguments) != 2 or arguments[0] != "--exec-root":  # argparse: 0.4 MB for one flag
        sys.stderr.write("usage: python -m cnm.dns.server --exec-root DIR\n")
        return 2
    place = control.place(arguments[1])
    lock = resident.lock(place)
    if lock is None:
        return 1
    resident.detach(place)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # three a sandbox, clients of TCP
    Server(place, lock).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
