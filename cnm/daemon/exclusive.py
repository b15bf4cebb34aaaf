"""One daemon for each network namespace, and one for each root directory.

Both are file locks (flock(2)), which end with the process however it ends. The lock
of a namespace is taken on the namespace's own file, ``/proc/self/ns/net``: whichever
path, mount or name leads to a namespace, it is one inode. Ways that were left: a
bound abstract socket (also one a namespace, but nothing tells who holds it), a file
in ``/run`` (not shared by all mount namespaces), an nft table with an owner (seen by
everybody who lists rules).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from cnm.errors import Unavailable

_NAMESPACE = "/proc/self/ns/net"


@contextlib.contextmanager
def hold(root: Path) -> Iterator[None]:
    """Have this network namespace and this root to ourselves while the block runs.

    :raises Unavailable: another daemon has one of them; names its pid.
    :raises OSError: the root cannot be written.
    """
    lock = root / "lock"
    with contextlib.ExitStack() as stack:
        in_use = "a daemon{} manages this network namespace already: stop it first"
        stack.enter_context(_locked(_NAMESPACE, os.O_RDONLY, in_use))
        in_use = f"{root} is in use by a daemon{{}}: stop it first"
        stack.enter_context(_locked(str(lock), os.O_RDWR | os.O_CREAT, in_use))
        yield


@contextlib.contextmanager
def pidfile(path: Path) -> Iterator[None]:
    """Our pid in a file while the block runs. A file of a daemon that is gone is taken over.

    :raises OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{os.getpid()}\n")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path.read_text().strip() == str(os.getpid()):
                path.unlink()


@contextlib.contextmanager
def _locked(path: str, flags: int, in_use: str) -> Iterator[None]:
    # helper processes that outlive us must not inherit it, or the lock would too
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _holder(fd)
            raise Unavailable(in_use.format(f" (pid {pid})" if pid else "")) from None
        yield
    finally:
        os.close(fd)


def _holder(fd: int) -> int | None:
    """Who holds the lock, by /proc/locks: ``1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE …``."""
    status = os.fstat(fd)
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return None
    pids = (row[4] for row in rows if len(row) > 5 and row[1] == "FLOCK" and row[5] == wanted)
    return next((int(pid) for pid in pids if pid.isdigit() and pid != "0"), None)
