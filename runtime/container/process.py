"""One process that the supervisor answers for: launch, pid, streams, end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from cnm.runtime.container import confine, syscalls
from cnm.runtime.container.launch import Child
from cnm.runtime.container.streams import Streams
from cnm.runtime.kernel import packets
from cnm.runtime.kernel.loop import READ, Loop
from cnm.runtimeapi import UNKNOWN_EXIT_CODE

LAUNCH_WITHIN_S = 60.0  # a launch takes 20 ms; one of its processes was killed if it takes so long
_ASK_AGAIN_S = 0.01
_ASK_FOR_S = 2.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended; ``known`` is false if nobody could tell."""

    code: int
    known: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a command does not run, and its exit code (see :class:`confine.Refused`)."""

    text: str
    code: int = confine.NOT_STARTED
    plain: bool = False

    def worded(self, doing: str) -> str:
        """As Docker's client expects it: it tells 126 and 127 by the text."""
        if self.plain:
            return self.text
        return f"{doing}: unable to start container process: {self.text}: unknown"


@dataclass(frozen=True, slots=True)
class Listener:
    """Whom a process tells: its pid (before the command runs), that it runs, that it ended."""

    has_pid: Callable[[int], None]
    started: Callable[[], None]
    failed: Callable[[Failure], None]
    ended: Callable[[Ended], None]


class Process:
    """A launch and what becomes of it. One object for each run."""

    def __init__(self, loop: Loop, streams: Streams, listener: Listener) -> None:
        self._loop = loop
        self._streams = streams
        self._tell = listener
        self._channel: socket.socket | None = None
        self._child = 0
        self._ready = False
        self._waiting = False
        self._joined = False
        self._error: Failure | None = None
        self._call_off: Callable[[], None] = lambda: None
        self._asked_since = 0.0
        self.pid = 0
        self.pidfd = -1

    def follow(self, child: Child) -> None:
        """Take a launch over."""
        self._channel = child.channel
        self._child = child.pid
        self._call_off = self._loop.after(LAUNCH_WITHIN_S, self._give_up)
        self._loop.watch(child.channel.fileno(), READ, lambda _events: self._hear())

    def adopt(self, pid: int) -> None:
        """Take over a running process that another supervisor launched."""
        self.pid = pid
        self._open_pidfd()

    @property
    def over(self) -> bool:
        """Whether the process has ended: then its pidfd can be read."""
        if self.pidfd < 0:
            return True
        poll = select.poll()  # not select(2), which knows the first 1024 descriptors only
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def send_signal(self, number: int) -> None:
        """:raises ProcessLookupError: it has ended."""
        signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        """Let go of everything but the process itself."""
        self._call_off()
        if self._channel is not None:
            self._loop.forget(self._channel.fileno())
            self._channel.close()
            self._channel = None
        if self.pidfd >= 0:
            self._loop.forget(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1

    # -- launching

    def _hear(self) -> None:
        assert self._channel is not None
        try:
            message, descriptors = packets.receive(self._channel)
        except ConnectionResetError:
            return  # it ended before it read our "go"; what it said is still to be read
        except EOFError:
            self._launched()
            return
        if "pid" in message:
            self._has_pid(message["pid"])
        if "waiting" in message:
            self._waiting = True
        if "ready" in message:
            self._ready = True
        if "joined" in message:
            self._joined = True
            self._reap_entry()  # it ends now; its child becomes ours (we are a subreaper)
        if "error" in message and self._error is None:
            self._error = Failure(message["error"], message["code"], message["plain"])
            self._give_up()  # one of the two may still wait for the other
        if "terminal" in message:
            self._streams.set_terminal(descriptors.pop(0))
        packets.close_all(descriptors)
        if self._waiting and self._joined:
            self._waiting = False
            self._let_go(self._channel)

    def _has_pid(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self._tell.has_pid(pid)

    @staticmethod
    def _let_go(channel: socket.socket) -> None:
        """Its pid is on disk, its terminal is kept: the command may run."""
        try:
            packets.send(channel, {"go": True})
        except OSError:
            return  # it was killed: the channel's end will say so

    def _give_up(self) -> None:
        """Kill what there is of a launch; the end of the channel will tell."""
        if self._child:
            os.kill(self._child, signal.SIGKILL)  # not reaped yet: the pid is still its own
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                self.send_signal(signal.SIGKILL)

    def _reap_entry(self) -> None:
        if self._child:
            os.waitpid(self._child, 0)
            self._child = 0

    def _launched(self) -> None:
        """The channel is closed: the command runs, or nothing does."""
        assert self._channel is not None
        self._call_off()
        self._loop.forget(self._channel.fileno())
        self._channel.close()
        self._channel = None
        self._reap_entry()
        if self._ready and self._error is None:
            self._loop.watch(self.pidfd, READ, lambda _events: self._has_ended())
            self._tell.started()
            return
        if self.pid:
            self._kill_first()
        self.close()
        self._tell.failed(self._error or Failure("container process died during its start"))

    def _kill_first(self) -> None:
        try:
            self.send_signal(signal.SIGKILL)
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except (ProcessLookupError, ChildProcessError):
            return

    # -- ending

    def _open_pidfd(self) -> None:
        self.pidfd = os.pidfd_open(self.pid)
        self._loop.watch(self.pidfd, READ, lambda _events: self._has_ended())

    def _has_ended(self) -> None:
        self._loop.forget(self.pidfd)
        ended = self._outcome()
        if ended is None:
            self._loop.after(_ASK_AGAIN_S, self._has_ended)
            return
        self._streams.finish()
        self.close()
        self._tell.ended(ended)

    def _outcome(self) -> Ended | None:
        """How it ended; None: the kernel cannot tell yet."""
        try:
            result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except ChildProcessError:
            return self._foreign_outcome()
        assert result is not None
        exited = result.si_code == os.CLD_EXITED
        return Ended(result.si_status if exited else 128 + result.si_status)

    def _foreign_outcome(self) -> Ended | None:
        """Another's child: the kernel knows (Linux 6.15) once its parent has been told."""
        self._asked_since = self._asked_since or time.monotonic()
        status = syscalls.exit_status(self.pidfd)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            return Ended(code if code >= 0 else 128 - code)
        if time.monotonic() - self._asked_since < _ASK_FOR_S:
            return None
        return Ended(UNKNOWN_EXIT_CODE, known=False)
