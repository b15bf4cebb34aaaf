"""Standard streams of a process that is about to start: FIFOs, or a terminal of the container's."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
import termios
from dataclasses import dataclass

from cnm.runtime.container import syscalls
from cnm.runtime.container.confine import Refused
from cnm.runtime.kernel import packets
from cnm.runtimeapi import ProcessSpec

_TIOCSPTLCK, _TIOCGPTN = 0x40045431, 0x80045430  # unlock; the slave's number
_TIOCGPTPEER = 0x5441  # asm-generic/ioctls.h: the slave of a master, without following a path


@dataclass(frozen=True, slots=True)
class Pipes:
    """Paths of the FIFOs of a process without a terminal; stdin empty: /dev/null."""

    stdin: str
    stdout: str
    stderr: str


def open_pipes(pipes: Pipes, process: ProcessSpec) -> tuple[int, int, int] | None:
    """Standard streams, opened to be read and written.

    A FIFO that its own writer can also read never breaks: the process does not get SIGPIPE
    while there is no supervisor, and the next one opens the FIFO again.
    """
    if process.tty:
        return None
    # not waiting for a writer: the input may have come, and ended, before us
    stdin = os.open(pipes.stdin or "/dev/null", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(stdin, True)
    stdout = os.open(pipes.stdout, os.O_RDWR | os.O_CLOEXEC)
    stderr = os.open(pipes.stderr, os.O_RDWR | os.O_CLOEXEC)
    return stdin, stdout, stderr


def install(
    process: ProcessSpec,
    streams: tuple[int, int, int] | None,
    channel: socket.socket,
    *,
    console: bool,
) -> None:
    """Make descriptors 0 to 2 what the command shall find there."""
    if streams is None:
        slave = _open_terminal(process, channel, console=console)
        streams = (slave, slave, slave)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number, inheritable=True)
    for descriptor in set(streams):
        os.close(descriptor)
    if process.tty:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _open_terminal(process: ProcessSpec, channel: socket.socket, *, console: bool) -> int:
    """A terminal of the container's own; its master goes to the supervisor.

    In an exec the container may have prepared ``/dev``: what is opened must be a ptmx, and
    the slave is asked of the master, not looked up.
    """
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    info = os.fstat(master)
    if not stat.S_ISCHR(info.st_mode) or info.st_rdev != os.makedev(5, 2):
        raise Refused("/dev/pts/ptmx is no terminal multiplexer")
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    if process.rows or process.columns:
        size = struct.pack("HHHH", process.rows, process.columns, 0, 0)
        fcntl.ioctl(master, termios.TIOCSWINSZ, size)
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if console:
        number = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, b"\0\0\0\0"))[0]
        os.close(os.open("/dev/console", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o620))
        syscalls.mount(f"/dev/pts/{number}", "/dev/console", "", syscalls.MS_BIND)
    packets.send(channel, {"terminal": True}, [master])
    os.close(master)
    return int(slave)


def hand_over(descriptor: int, uid: int) -> None:
    """The user may open its streams by name (``/dev/stdout``), as with Docker."""
    info = os.fstat(descriptor)
    if info.st_uid != uid and info.st_rdev != os.makedev(1, 3):  # not the host's /dev/null
        os.fchown(descriptor, uid, -1)
