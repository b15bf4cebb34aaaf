"""Standard streams of a process, to and from this one."""

from __future__ import annotations

import os
import select
import socket
import sys

from cnm.cli.errors import CommandError
from cnm.cli.frames import STDERR, Demultiplexer
from cnm.cli.terminal import STDIN
from cnm.detachkeys import DetachKeys, parse

_BLOCK = 65536


class Detached(CommandError):
    """The user typed the keys that detach; the process runs on."""

    def __init__(self) -> None:
        super().__init__("read escape sequence")


class Streams:
    """A connection that was taken over, and what has come on it already.

    ``stdin``: forward our own, up to its end, which is passed on as a half close; without
    it there is none from the beginning. ``tty``: the output is one raw stream, the input
    is watched for the keys ``keys`` (empty: Docker's).

    One loop for both ways: what the process does not read waits here and keeps us from
    reading more, while its output goes on. Otherwise a filter such as ``cat`` and we could
    wait for one another.
    """

    def __init__(
        self, taken: tuple[socket.socket, bytes], *, stdin: bool, tty: bool, keys: str = ""
    ) -> None:
        self._connection, self._early = taken
        self._stdin = stdin
        self._frames = None if tty else Demultiplexer()
        self._keys = _detach_keys(keys) if tty and stdin else None
        self._unsent = b""

    def run(self) -> None:
        """Forwards until the other side ends it.

        :raises Detached: when the user asks for it.
        :raises CommandError: for an error that the daemon sent.
        """
        self._connection.setblocking(False)
        self._show(self._early)
        if not self._stdin:
            self._half_close()
        while self._step():
            pass

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def _step(self) -> bool:
        """Waits for something to do and does it; False at the end of the output."""
        poller = select.poll()
        poller.register(self._connection, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        if self._stdin and not self._unsent:
            poller.register(STDIN, select.POLLIN)
        for descriptor, events in poller.poll():
            if descriptor == STDIN:
                self._read_input()
                continue
            if events & select.POLLOUT:
                self._send()
            if events & ~select.POLLOUT and not self._read_output():
                return False
        return True

    def _read_output(self) -> bool:
        try:
            data = self._connection.recv(_BLOCK)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        self._show(data)
        return bool(data)

    def _show(self, data: bytes) -> None:
        if self._frames is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        for stream, payload in self._frames.feed(data):
            out = sys.stderr if stream == STDERR else sys.stdout
            out.buffer.write(payload)
            out.buffer.flush()

    def _read_input(self) -> None:
        try:
            data = os.read(STDIN, _BLOCK)
        except OSError:  # closed, or a terminal that has gone
            data = b""
        detached = False
        if self._keys and data:
            self._unsent, detached = self._keys.feed(data)
        else:
            self._unsent = data
        self._send()
        if detached:
            raise Detached
        if not data:
            self._stdin = False
            self._half_close()

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            pass
        except ConnectionError:
            self._unsent = b""
            self._stdin = False  # nobody reads it; the output tells the rest

    def _half_close(self) -> None:
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the process has ended first


def _detach_keys(names: str) -> DetachKeys:
    """:raises CommandError: for a key that there is not."""
    try:
        return DetachKeys(parse(names))
    except ValueError as error:
        raise CommandError(f"invalid detach keys: {error}") from None
