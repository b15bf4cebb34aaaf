"""The sockets that the daemon serves: made by us, so that nobody finds them too open."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from cnm.errors import Unavailable

GROUP = "cnm"
_MODE = 0o660
BACKLOG = 1024
_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


def refuse_served(paths: Sequence[str]) -> None:
    """Look whether somebody answers there already. Changes nothing.

    :raises Unavailable: a daemon does (says which), or the path is no socket.
    """
    for path in paths:
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISSOCK(mode):
            raise Unavailable(f"unix://{path} exists and is no socket: remove it or name another")
        pid = _server(path)
        if pid is not None:
            raise Unavailable(f"unix://{path} is served by a running daemon (pid {pid})")


@contextlib.contextmanager
def listening(paths: Sequence[str]) -> Iterator[list[socket.socket]]:
    """Listen on all paths while the block runs; files that a dead daemon left are replaced.

    :raises Unavailable: as :func:`refuse_served`.
    :raises OSError: a path cannot be made.
    """
    refuse_served(paths)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_listening(path)) for path in paths]


@contextlib.contextmanager
def _listening(path: str) -> Iterator[socket.socket]:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        before = os.umask(0o777 & ~_MODE)  # the file must never be wider, not for a moment
        try:
            server.bind(path)
        finally:
            os.umask(before)
        inode = os.lstat(path).st_ino
        try:
            with contextlib.suppress(KeyError):  # no such group: root alone
                os.chown(path, 0, grp.getgrnam(GROUP).gr_gid)
            server.listen(BACKLOG)
            yield server
        finally:
            with contextlib.suppress(OSError):
                if os.lstat(path).st_ino == inode:  # not the file of whoever came after us
                    os.unlink(path)


def _server(path: str) -> int | None:
    """Pid of whoever listens there; None: nobody, the file is a left-over."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2.0)  # a full backlog makes connect wait
        try:
            client.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except TimeoutError:
            return 0
        except OSError as error:
            if error.errno == errno.EAGAIN:  # its backlog is full
                return 0
            raise
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid: int = _UCRED.unpack(credentials)[0]
        return pid
