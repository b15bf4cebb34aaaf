"""The serving half of a resident process: clients over SEQPACKET, one request at a time each.

Ends by itself when nobody is connected and there is nothing to do, or when its socket is not
at its path any more: nobody could find it again.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Sequence

from cnm import errors
from cnm.errors import CNMError
from cnm.runtime.kernel import packets, resident
from cnm.runtime.kernel.loop import READ, Loop
from cnm.runtime.kernel.resident import Place

_LOOK_S = 2.0  # between looks whether it is still of use, while nobody is connected


class Connection:
    """A client."""

    def __init__(self, service: Service, link: socket.socket) -> None:
        self._service = service
        self.link = link
        self.closed = False
        self.at_close: list[Callable[[], None]] = []

    def ready(self, _events: int) -> None:
        """Take a request; what its handler raises is answered."""
        try:
            message, descriptors = packets.receive(self.link)
        except (EOFError, OSError, ValueError):
            self.close()
            return
        try:
            self._service.handle(self, message, descriptors)
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

    def offer(self, message: packets.Message) -> bool:
        """Send what may as well be sent later; false: there is no room now."""
        if not self.closed:
            try:
                packets.send(self.link, message)
            except BlockingIOError:
                return False
            except OSError:
                self.close()
        return True

    def fail(self, error: Exception) -> None:
        """Answer with an error that the client raises again."""
        if not isinstance(error, CNMError):
            resident.log_error(error)
        self.reply({"failed": type(error).__name__, "text": str(error)})

    def close(self) -> None:
        """Again is fine."""
        if self.closed:
            return
        self.closed = True
        self._service.left(self)
        for call in self.at_close:
            call()


Handle = Callable[[Connection, packets.Message, list[int]], None]


class Service:
    """Listens at a place. ``handle`` owns the descriptors that come with a request.

    ``busy``: whether there is work to do without clients.
    """

    def __init__(self, loop: Loop, place: Place, handle: Handle, busy: Callable[[], bool]) -> None:
        self.handle = handle
        self._loop = loop
        self._place = place
        self._busy = busy
        self._listener: socket.socket | None = None
        self._clients: set[Connection] = set()
        self._looking = False
        self._identity = (0, 0)

    def listen(self) -> None:
        """From now on clients are served."""
        self._listener = listener = resident.listen(self._place)
        self._identity = _identity(self._place.socket)
        self._loop.watch(listener.fileno(), READ, lambda _events: self._accept(listener))
        self._look_later()

    def leave_place(self) -> None:
        """Nobody finds it any more; who is connected is served on."""
        if self._listener is None:
            return
        if self._is_ours():
            os.unlink(self._place.socket)
        self._close_listener()

    def left(self, connection: Connection) -> None:
        """A client has gone."""
        self._loop.forget(connection.link.fileno())
        connection.link.close()
        self._clients.discard(connection)
        self._look_later()

    def _accept(self, listener: socket.socket) -> None:
        link, _ = listener.accept()
        connection = Connection(self, link)
        link.setblocking(False)
        self._clients.add(connection)
        self._loop.watch(link.fileno(), READ, connection.ready)

    def _look_later(self) -> None:
        if not self._clients and not self._looking:
            self._looking = True
            self._loop.after(_LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = False
        if self._clients:
            return
        lost = self._listener is not None and not self._is_ours()
        if self._busy() and not lost:
            self._look_later()
        elif self._listener is None or lost:
            self._loop.stop()
        else:
            self._end()

    def _end(self) -> None:
        """The socket's name goes first: who comes now starts another, who has come is served."""
        listener = self._listener
        assert listener is not None
        os.unlink(self._place.socket)
        with contextlib.suppress(BlockingIOError):
            self._accept(listener)
            self._close_listener()
            self.listen()
            return
        self._close_listener()
        self._loop.stop()

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def _is_ours(self) -> bool:
        """Whether what lies at the path is our socket still."""
        try:
            return _identity(self._place.socket) == self._identity
        except OSError:
            return False


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path, follow_symlinks=False)
    return found.st_dev, found.st_ino


def failure(message: packets.Message, otherwise: str) -> CNMError:
    """What :meth:`Connection.fail` told, to be raised on the other side."""
    kind, text = str(message.get("failed", "")), str(message.get("text", otherwise))
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, CNMError):
        with contextlib.suppress(TypeError):
            return found(text)
    return CNMError(text)
