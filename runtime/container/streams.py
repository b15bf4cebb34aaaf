"""A process' standard streams: read once, then to the log and to all who are attached.

The process is never waited for, nor does it wait: its pipe is read as fast as the loop
turns, the log drops what the disk refuses, and who is attached and reads too slowly is cut
off when ``BEHIND`` is full.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable, Sequence

from cnm.runtime.container.logfile import LogFile
from cnm.runtime.container.standard import Pipes
from cnm.runtime.kernel.loop import READ, WRITE, Loop

STDOUT, STDERR = 1, 2
BEHIND = 8 << 20  # bytes kept for one slow reader: seconds of a terminal, and no more memory
_PIECE = 64 * 1024  # a pipe's capacity
_MOST_AT_END = 16 << 20  # read after the end: what other writers may still add is bounded
_PIPE_SIZE = 1 << 20  # what a pipe holds while no supervisor reads it


class Attachment:
    """One who is attached: ``link`` is our end of a stream socket."""

    def __init__(
        self, link: socket.socket, wants: frozenset[int], *, stdin: bool, framed: bool
    ) -> None:
        self.link = link
        self.stdin = stdin
        self.ending = False
        self._wants = wants
        self._framed = framed
        self._waiting = bytearray()

    def take(self, stream: int, data: bytes) -> bool:
        """Send or keep; false if too much waits already."""
        if stream not in self._wants:
            return True
        if self._framed:
            self._waiting += struct.pack(">BxxxL", stream, len(data))
        self._waiting += data
        self.flush()
        return len(self._waiting) <= BEHIND

    def flush(self) -> None:
        """Send what goes without blocking. :raises OSError: the reader has gone."""
        while self._waiting:
            try:
                sent = self.link.send(self._waiting, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            del self._waiting[:sent]

    @property
    def behind(self) -> bool:
        return bool(self._waiting)


class Streams:
    """The streams of one process, over all its runs."""

    def __init__(
        self,
        loop: Loop,
        changed: Callable[[Sequence[int]], None],
        *,
        tty: bool,
        open_stdin: bool,
        stdin_once: bool,
    ) -> None:
        self._changed = changed  # told what :meth:`ends` returns, whenever that changes
        self._loop = loop
        self._tty = tty
        self._open_stdin = open_stdin
        self._stdin_once = stdin_once and not tty
        self._attached: list[Attachment] = []
        self._sources: dict[int, int] = {}  # descriptor: stream
        self._input = -1
        self._held = -1  # a reading end: input that ended before its reader came is not lost
        self._pending = bytearray()
        self._input_ended = False
        self._log: LogFile | None = None
        self._size = (0, 0)

    @property
    def dropped(self) -> int:
        return self._log.dropped if self._log else 0

    def begin(self, log: LogFile | None, pipes: Pipes) -> None:
        """Make the pipes and open our ends, before a start."""
        self._reset(log)
        if self._tty:
            return
        for stream, path in ((STDOUT, pipes.stdout), (STDERR, pipes.stderr)):
            _make_fifo(path)
            self._open_source(stream, path)
        if pipes.stdin:
            _make_fifo(pipes.stdin)
            self._held = os.open(pipes.stdin, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._set_input(os.open(pipes.stdin, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))

    def resume(self, log: LogFile | None, pipes: Pipes, kept: Sequence[int]) -> None:
        """Open our ends of a process that runs already; ``kept`` is what :meth:`ends` was."""
        self._reset(log)
        if self._tty:
            for master in kept:
                self.set_terminal(master)
            return
        for stream, path in ((STDOUT, pipes.stdout), (STDERR, pipes.stderr)):
            self._open_source(stream, path)
        for descriptor in kept:  # none: its input was ended before
            self._set_input(descriptor)

    def _reset(self, log: LogFile | None) -> None:
        for source in list(self._sources):
            self._drop_source(source)
        self._close_input()
        self._let_go()
        if self._log is not None:
            self._log.close()
        self._log = log
        self._input_ended = False

    def _open_source(self, stream: int, path: str) -> None:
        source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        _enlarge(source)
        self._add_source(source, stream)

    def set_terminal(self, master: int) -> None:
        """The terminal that the process has got; ours to close."""
        os.set_blocking(master, False)
        self._add_source(master, STDOUT)
        if self._open_stdin:
            self._set_input(os.dup(master))
        if self._size != (0, 0):
            self.resize(*self._size)
        self._changed(self.ends())

    def ends(self) -> list[int]:
        """What is lost with this process unless it is kept: the master, or the input."""
        if self._tty:
            return list(self._sources)
        return [self._input] if self._input >= 0 else []

    def resize(self, rows: int, columns: int) -> None:
        """TIOCSWINSZ now, or when there is a terminal."""
        self._size = (rows, columns)
        if self._tty and self._sources:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(next(iter(self._sources)), termios.TIOCSWINSZ, size)

    def attach(self, *, stdin: bool, stdout: bool, stderr: bool) -> socket.socket:
        """A new stream; the end that is returned goes to the client."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        wants = frozenset(
            stream for stream, wanted in ((STDOUT, stdout), (STDERR, stderr)) if wanted
        )
        attachment = Attachment(ours, wants, stdin=stdin, framed=not self._tty)
        self._attached.append(attachment)
        self._update(attachment)
        return theirs

    def finish(self) -> None:
        """The process has ended: pass on what is left and let everybody go."""
        for source in list(self._sources):
            self._drain(source)
        if self._log:
            self._log.flush()
        self._close_input()
        self._let_go()
        for attachment in list(self._attached):
            attachment.ending = True
            self._update(attachment)

    def close(self) -> None:
        """Close everything at once."""
        for source in list(self._sources):
            self._drop_source(source)
        self._close_input()
        self._let_go()
        for attachment in list(self._attached):
            self._detach(attachment)
        if self._log:
            self._log.close()

    # -- output

    def _add_source(self, source: int, stream: int) -> None:
        self._sources[source] = stream
        self._loop.watch(source, READ, lambda _events: self._ready(source))

    def _ready(self, source: int) -> None:
        self._read(source)

    def _read(self, source: int) -> int:
        """Read one piece and pass it on; how much it was, 0 if there is none now or ever."""
        try:
            data = os.read(source, _PIECE)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal whose other end is closed
                raise
            data = b""
        if not data:
            self._drop_source(source)
            return 0
        self._pass_on(self._sources[source], data)
        return len(data)

    def _drain(self, source: int) -> None:
        taken = 0
        while taken < _MOST_AT_END and (got := self._read(source)):
            taken += got

    def _pass_on(self, stream: int, data: bytes) -> None:
        if self._log:
            self._log.write(stream, data)
        for attachment in list(self._attached):
            if attachment.ending:
                continue
            try:
                in_time = attachment.take(stream, data)
            except OSError:
                in_time = False
            if in_time:
                self._update(attachment)
            else:
                self._detach(attachment)

    def _drop_source(self, source: int) -> None:
        if self._sources.pop(source, None) is not None:
            self._loop.forget(source)
            os.close(source)
            if self._tty:
                self._changed(self.ends())

    # -- input

    def _set_input(self, descriptor: int) -> None:
        self._input = descriptor
        self._changed(self.ends())
        for attachment in list(self._attached):
            self._update(attachment)

    def _write_input(self) -> None:
        """Hand on what was typed, as far as the process takes it."""
        try:
            while self._pending:
                del self._pending[: os.write(self._input, self._pending)]
        except BlockingIOError:
            self._loop.watch(self._input, WRITE, lambda _events: self._write_input())
            return
        except OSError:
            self._pending.clear()  # a terminal that was hung up
        self._loop.forget(self._input)
        if self._input_ended:
            self._close_input()
        for attachment in list(self._attached):
            self._update(attachment)

    def _end_input(self) -> None:
        self._input_ended = True
        if self._input >= 0 and not self._pending:
            self._close_input()

    def _let_go(self) -> None:
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def _close_input(self) -> None:
        if self._input >= 0:
            self._loop.forget(self._input)
            os.close(self._input)
            self._input = -1
            self._changed(self.ends())
        self._pending.clear()

    # -- those who are attached

    def _update(self, attachment: Attachment) -> None:
        """Watch for what can be done with it now."""
        if attachment.ending and not attachment.behind:
            self._detach(attachment)
            return
        reading = (
            attachment.stdin
            and not attachment.ending
            and self._input >= 0
            and len(self._pending) < _PIECE
        )
        events = (READ if reading else 0) | (WRITE if attachment.behind else 0)
        ready: Callable[[int], None] = lambda events: self._attachment_ready(attachment, events)  # noqa: E731
        self._loop.watch(attachment.link.fileno(), events, ready)

    def _attachment_ready(self, attachment: Attachment, events: int) -> None:
        try:
            if events & WRITE:
                attachment.flush()
            if events & READ:
                self._take_input(attachment)
        except OSError:
            self._leave(attachment)
            return
        if not events & (READ | WRITE):  # hung up
            self._leave(attachment)
        elif attachment in self._attached:
            self._update(attachment)

    def _take_input(self, attachment: Attachment) -> None:
        data = attachment.link.recv(_PIECE, socket.MSG_DONTWAIT)
        if data:
            self._pending += data
            self._write_input()
            return
        attachment.stdin = False
        if self._stdin_once:
            self._end_input()

    def _leave(self, attachment: Attachment) -> None:
        """The client has gone; with it the input that it was the source of."""
        had_input = attachment.stdin
        self._detach(attachment)
        if had_input and self._stdin_once:
            self._end_input()

    def _detach(self, attachment: Attachment) -> None:
        if attachment in self._attached:
            self._attached.remove(attachment)
            self._loop.forget(attachment.link.fileno())
            attachment.link.close()


def _make_fifo(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    os.mkfifo(path, 0o600)


def _enlarge(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    except OSError:
        return  # fs.pipe-max-size is set lower, or the user's pipe quota is used up
