"""The one process that all containers of a daemon have as their parent.

It lives in a session of its own and outlasts the daemon; the next daemon finds it by its
socket. It holds what a container needs a living parent for: the exit code, the terminal,
the reading end of its output. Everything that can be decided elsewhere is (``client``).

Run as ``python -m cnm.runtime.container.supervisor --exec-root DIR``. Single-threaded: it
forks. Ends when it is told to and nothing runs, and by itself when there is no container
and nobody has been connected for a while: a daemon that is gone leaves no process behind.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import socket
import sys
from collections.abc import Callable, Sequence

from cnm import codec
from cnm.errors import CNMError
from cnm.runtime.container import syscalls
from cnm.runtime.container.cgroup import own_groups
from cnm.runtime.container.contained import Container, Surroundings
from cnm.runtime.container.keeper import Keeper
from cnm.runtime.container.protect import SUPERVISOR, run_protected
from cnm.runtime.container.requests import Requests
from cnm.runtime.container.state import Places
from cnm.runtime.kernel import packets, resident
from cnm.runtime.kernel.loop import READ, Loop
from cnm.runtimeapi import RuntimeEvent

_IDLE_S = 2.0  # without container and client, before it ends


class Connection:
    """A client. One request at a time; the answer may come later."""

    def __init__(self, supervisor: Supervisor, link: socket.socket) -> None:
        self._supervisor = supervisor
        self.link = link
        self.closed = False
        supervisor.connections += 1
        self.at_close: list[Callable[[], None]] = []

    def ready(self, _events: int) -> None:
        """Take a request."""
        try:
            message, descriptors = packets.receive(self.link)
        except (EOFError, OSError, ValueError):
            self.close()
            return
        packets.close_all(descriptors)
        try:
            self._supervisor.requests.handle(self, message)
        except Exception as error:
            self.fail(error)

    def reply(self, message: packets.Message, descriptors: Sequence[int] = ()) -> None:
        """Answer; a client that has gone or does not read is let go."""
        if self.closed:
            return
        try:
            packets.send(self.link, message, descriptors)
        except OSError:
            self.close()

    def fail(self, error: Exception) -> None:
        """Answer with an error that the client raises again."""
        if not isinstance(error, CNMError):
            resident.log_error(error)
        code = getattr(error, "exit_code", 0)
        self.reply({"failed": type(error).__name__, "text": str(error), "code": code})

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._supervisor.loop.forget(self.link.fileno())
        self.link.close()
        self._supervisor.left()
        for call in self.at_close:
            call()


class Supervisor:
    """Containers, connections and the loop between them."""

    def __init__(self, places: Places, parent: str) -> None:
        self.loop = Loop(resident.log_error)
        self.watchers: list[Connection] = []
        self.connections = 0
        self._idle_check = False
        self.containers: dict[str, Container] = {}
        groups = own_groups(parent, places.exec_root)
        self.around = Surroundings(self.loop, places, groups, self._publish, self._keep)
        self._keeper = Keeper(places)
        self.requests = Requests(self)

    def recover(self) -> None:
        """Find the containers that an earlier supervisor left."""
        kept = self._keeper.take()
        for plan, saved in self.around.places.read():
            container = Container(self.around, plan, saved)
            self.containers[container.id] = container
            container.recover(kept.pop(container.id, []))
        for container_id, descriptors in kept.items():
            packets.close_all(descriptors)
            self._keep(container_id, [])
        self._watch_keeper()

    def _watch_keeper(self) -> None:
        self.loop.watch(self._keeper.link.fileno(), READ, lambda _events: self._replace_keeper())

    def _replace_keeper(self) -> None:
        """It says nothing unasked: it has died."""
        self.loop.forget(self._keeper.link.fileno())
        self._keeper.link.close()
        self._keeper = Keeper(self.around.places)
        for container in self.containers.values():
            self._keep(container.id, container.streams.ends())
        self._watch_keeper()

    def _keep(self, container_id: str, descriptors: Sequence[int]) -> None:
        self._keeper.keep(container_id, descriptors)

    def left(self) -> None:
        """A client has gone."""
        self.connections -= 1
        if not self.connections and not self._idle_check:
            self._idle_check = True
            self.loop.after(_IDLE_S, self._end_if_idle)

    def _end_if_idle(self) -> None:
        """The socket's name goes first: who comes now starts another, who has come is served."""
        self._idle_check = False
        if self.connections or self.containers:
            return
        with contextlib.suppress(FileNotFoundError):  # its directory was deleted
            os.unlink(self.around.places.socket)
        with contextlib.suppress(BlockingIOError):
            self._accept(self._listener)
            self._forget_listener()
            self._listen()
            return
        self.loop.stop()

    def serve(self) -> None:
        """Listen until told to stop, or idle."""
        self._listen()
        gc.collect()
        gc.freeze()  # keep the children's pages shared
        self.loop.run()
        self._keeper.end()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.around.places.socket)

    def _listen(self) -> None:
        self._listener = resident.listen(self.around.places.resident)
        listener = self._listener
        self.loop.watch(listener.fileno(), READ, lambda _events: self._accept(listener))

    def _forget_listener(self) -> None:
        self.loop.forget(self._listener.fileno())
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        link, _ = listener.accept()
        connection = Connection(self, link)
        link.setblocking(False)
        self.loop.watch(link.fileno(), READ, connection.ready)

    def _publish(self, event: RuntimeEvent) -> None:
        message = {"event": codec.dumps(event)}
        for connection in list(self.watchers):
            connection.reply(message)
        if event.kind == "destroy":
            self.containers.pop(event.id, None)


def main(arguments: Sequence[str]) -> int:
    """0: was told to stop; 1: another supervisor serves this directory."""
    parser = argparse.ArgumentParser(prog="cnm-supervisor")
    parser.add_argument("--exec-root", required=True)
    parser.add_argument("--cgroup-parent", default="cnm")
    options = parser.parse_args(arguments)
    places = Places(options.exec_root)
    places.make()
    run_protected(SUPERVISOR, arguments)
    if resident.lock(places.resident) is None:  # before the fork
        return 1
    resident.detach(places.resident, f"{options.cgroup_parent}-supervisor")
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    supervisor = Supervisor(places, options.cgroup_parent)
    supervisor.recover()
    supervisor.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
