"""Processes that live beside the daemon and outlive it: found again by a socket, or started.

One of a kind serves an exec root: ``NAME.sock``, ``NAME.lock`` and ``NAME.log`` lie there. It
has a session of its own and no parent to look after it, ignores the signals that are meant
for the daemon, and leaves the daemon's systemd unit, or it would be stopped along with it.

Messages are :mod:`cnm.runtime.kernel.packets`. Used by the container supervisor, the resolver
and the port helper.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnm.errors import Unavailable

_LONGEST_ADDRESS = 108  # bytes of sun_path, unix(7)
_START_WITHIN_S = 20.0
_POLL_S = 0.005
_LOCK_WITHIN_S = 5.0  # children that had not yet exec'd when the last holder was killed
_LOCK_POLL_S = 0.01
_LOG_KEPT = 1 << 20
_NOBODY = (FileNotFoundError, ConnectionRefusedError)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one resident process is found. ``name``: ``supervisor``, ``dns``, ``ports``."""

    exec_root: str
    name: str

    @property
    def socket(self) -> str:
        return os.path.join(self.exec_root, f"{self.name}.sock")

    @property
    def lock(self) -> str:
        return os.path.join(self.exec_root, f"{self.name}.lock")

    @property
    def log(self) -> str:
        return os.path.join(self.exec_root, f"{self.name}.log")

    @contextlib.contextmanager
    def short(self, path: str) -> Iterator[str]:
        """A socket's path, by a descriptor where it would not fit an address."""
        if len(os.fsencode(path)) < _LONGEST_ADDRESS:
            yield path
            return
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        finally:
            os.close(directory)


# the daemon's side


def connect(place: Place) -> socket.socket:
    """A connection to the process that runs.

    :raises FileNotFoundError: :raises ConnectionRefusedError: none runs.
    """
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with place.short(place.socket) as path:
            link.connect(path)
    except BaseException:
        link.close()
        raise
    return link


def connect_or_start(place: Place, module: str, arguments: Sequence[str] = ()) -> socket.socket:
    """A connection to the process, which is started if there is none.

    Several callers at once are fine: who comes second finds that one is being started.

    :raises Unavailable: it does not come up; its log says why.
    """
    with contextlib.suppress(*_NOBODY):
        return connect(place)
    spawn(place, module, arguments)
    deadline = time.monotonic() + _START_WITHIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(*_NOBODY):
            return connect(place)
        time.sleep(_POLL_S)
    raise Unavailable(f"{place.name} does not start: see {place.log}")


def spawn(place: Place, module: str, arguments: Sequence[str] = ()) -> None:
    """Start ``python -m module --exec-root DIR …``; it forks away, so what we start ends at once.

    It is in the network namespace of the calling thread.
    """
    import subprocess  # 0.6 MB that the processes themselves do not need

    os.makedirs(place.exec_root, exist_ok=True)
    command = [sys.executable, "-P", "-m", module, "--exec-root", place.exec_root, *arguments]
    with open(place.log, "ab", opener=_private) as log:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            check=False,  # whether it serves is seen by its socket
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


# the process's own side


def lock(place: Place) -> int | None:
    """The lock that only one process of a place holds; None: another one serves."""
    descriptor = os.open(place.lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_WITHIN_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            # Not to wait for its end: one that was told to end shall have no heir.
            if _is_served(place) or time.monotonic() > deadline:
                os.close(descriptor)
                return None
            time.sleep(_LOCK_POLL_S)


def _is_served(place: Place) -> bool:
    try:
        connect(place).close()
    except _NOBODY:
        return False
    return True


def detach(place: Place, cgroup: str = "cnm-supervisor") -> None:
    """Fork away from whoever started us: a session of our own, no terminal, no signals.

    To be called with the lock held, so that the starter learns that it is decided.
    """
    if os.fork():
        os._exit(0)  # whoever started us has no child to look after
    os.setsid()
    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if os.fstat(log).st_size > _LOG_KEPT:
        os.ftruncate(log, 0)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number, descriptor in ((0, null), (1, log), (2, log)):
        os.dup2(descriptor, number)
    os.chdir("/")
    os.umask(0o022)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _leave_service(cgroup)


def _leave_service(group: str) -> None:
    """Out of the daemon's unit, or systemd stops us with the daemon; failing is not fatal.

    Done only in the hierarchies that systemd counts by.
    """
    for mountpoint in _counted_by_systemd():
        directory = os.path.join(mountpoint, group)
        try:
            os.makedirs(directory, exist_ok=True)
            with open(os.path.join(directory, "cgroup.procs"), "w", encoding="ascii") as file:
                file.write("0")
        except OSError:
            continue


def _counted_by_systemd() -> Iterator[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split(" ", 2)
            named = kind == "cgroup" and "name=systemd" in options.strip().split(",")
            if kind == "cgroup2" or named:
                yield left.split(" ")[4]


def listen(place: Place) -> socket.socket:
    """A listening socket in the place, mode 0600, which replaces what a dead one left."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.path.lexists(place.socket):
        os.unlink(place.socket)
    before = os.umask(0o177)
    try:
        with place.short(place.socket) as path:
            listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(64)
    listener.setblocking(False)
    return listener


def log_error(error: Exception) -> None:
    """What a loop's callback raised, into the log; for :class:`~cnm.runtime.kernel.loop.Loop`."""
    import traceback  # seldom, and only here

    text = "".join(traceback.format_exception(error))
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}")
    sys.stderr.flush()
