"""A second process that keeps what would be lost with the supervisor: terminals and inputs.

Output pipes have names and can be opened again; the master of a terminal cannot, nor can
the writing end of a pipe be missed for a moment without the reader seeing its end. So a
process that does nothing else holds a second descriptor of each, and gives them to the next
supervisor. It is forked from the supervisor and shares its code; both together are 18 MB.

Containers lose their terminals only if both are killed at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Sequence

from cnm.runtime.container import syscalls
from cnm.runtime.container.state import Places
from cnm.runtime.kernel import packets

_CONNECT_WITHIN_S = 5.0
_POLL_S = 0.002
_TIMEOUT_S = 5.0
_END = ""  # kept under no id: the word to end


class Keeper:
    """The supervisor's connection to its keeper."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self.link = self._connect()

    def take(self) -> dict[str, list[int]]:
        """Everything that is kept: descriptors by container, the caller's to close."""
        packets.send(self.link, {"give": True})
        found: dict[str, list[int]] = {}
        while True:
            message, descriptors = packets.receive(self.link)
            if "end" in message:
                return found
            found[message["id"]] = descriptors

    def keep(self, container_id: str, descriptors: Sequence[int]) -> None:
        """Keep exactly these for a container; none: forget it."""
        with contextlib.suppress(OSError):  # it has died: the supervisor sees that and replaces it
            packets.send(self.link, {"keep": container_id}, descriptors)

    def end(self) -> None:
        """Tell the process to end."""
        with contextlib.suppress(OSError):
            packets.send(self.link, {"end": True})
        self.link.close()

    def _connect(self) -> socket.socket:
        link = self._open()
        if link is not None:
            return link
        _fork(self._places)
        deadline = time.monotonic() + _CONNECT_WITHIN_S
        while link is None:
            if time.monotonic() > deadline:
                raise TimeoutError("the keeper does not come up")
            time.sleep(_POLL_S)
            link = self._open()
        return link

    def _open(self) -> socket.socket | None:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.settimeout(_TIMEOUT_S)
        try:
            with self._places.resident.short(self._places.keeper_socket) as path:
                link.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            link.close()
            return None
        return link


def _fork(places: Places) -> None:
    """Start the process, twice forked so that it is not the supervisor's to reap.

    The supervisor is a subreaper, which it must not be for this moment.
    """
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 0)
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        return
    try:
        if os.fork() == 0:
            os.setsid()
            syscalls.close_from(3)
            _serve(places)
    finally:
        os._exit(0)


def _serve(places: Places) -> None:
    """Answer whoever connects, one request after the other, until told to end."""
    if os.path.lexists(places.keeper_socket):
        os.unlink(places.keeper_socket)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.umask(0o177)
    with places.resident.short(places.keeper_socket) as path:
        listener.bind(path)
    listener.listen(4)
    kept: dict[str, list[int]] = {}
    links: list[socket.socket] = []
    while _END not in kept:
        ready, _, _ = select.select([listener, *links], [], [])
        for link in ready:
            if link is listener:
                links.append(listener.accept()[0])
            elif not _answer(link, kept):
                links.remove(link)
                link.close()
    os.unlink(places.keeper_socket)


def _answer(link: socket.socket, kept: dict[str, list[int]]) -> bool:
    """Carry out one request; false if the supervisor has gone."""
    try:
        message, descriptors = packets.receive(link)
        if "keep" in message:
            packets.close_all(kept.pop(message["keep"], []))
            if descriptors:
                kept[message["keep"]] = descriptors
        elif "give" in message:
            for container_id, held in kept.items():
                packets.send(link, {"id": container_id}, held)
            packets.send(link, {"end": True})
        elif "end" in message:
            kept[_END] = []
    except (OSError, EOFError, ValueError):
        return False
    return True
