"""Network namespaces made anew and kept alive by a bind mount, as ``ip netns add`` does it.

A thread unshares, prepares the namespace from inside, mounts it onto its file, and ends. The
mount goes into the daemon's mount namespace; copies of it that other mount namespaces
got by propagation go when the file is unlinked (the kernel detaches them, since 3.18).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cnm.errors import KernelError
from cnm.idmap import IdMap
from cnm.runtime.kernel import userns

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000  # sched.h
_MS_BIND = 0x1000  # mount(2)
_MNT_DETACH = 2  # umount2(2)
_SELF = b"/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def create(path: str, prepare: Callable[[], T], ids: IdMap | None = None) -> T:
    """Make a namespace, run ``prepare`` inside, pin it at ``path``; what ``prepare`` returned.

    With ``ids`` it belongs to a user namespace of its own. A file that a killed daemon left at
    ``path`` is taken over.

    :raises KernelError: nothing is left behind.
    """
    remove(path)
    Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if ids is None:
        return _pin(path, prepare, lambda: _libc.unshare(_CLONE_NEWNET))
    with userns.network_of_its_own(ids) as made:
        return _pin(path, prepare, lambda: _libc.setns(made, _CLONE_NEWNET))


def _pin(path: str, prepare: Callable[[], T], enter: Callable[[], int]) -> T:
    outcome: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            _check(enter(), "new network namespace")
            outcome.append(prepare())
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
            _check(_libc.mount(_SELF, os.fsencode(path), None, _MS_BIND, None), f"mount on {path}")
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, name=f"new {path}")
    thread.start()
    thread.join()
    if failure:
        remove(path)
        error = failure[0]
        if isinstance(error, OSError):
            raise KernelError(error.errno or errno.EIO, f"network namespace {path}") from error
        raise error
    return outcome[0]


def again(path: str, source: str) -> None:
    """Pin the namespace at ``source`` at ``path``, in the place of what is there.

    :raises KernelError: nothing is left behind.
    """
    remove(path)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, f"network namespace {path}") from error
    try:
        what = f"mount {source} on {path}"
        _check(_libc.mount(os.fsencode(source), os.fsencode(path), None, _MS_BIND, None), what)
    except KernelError:
        remove(path)
        raise


def remove(path: str) -> None:
    """Take the pin away; the kernel deletes the namespace with its last user. Gone is success.

    :raises KernelError: it cannot be unmounted.
    """
    while _libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
        pass  # mounted twice by a daemon that was killed between its steps
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOENT):  # EINVAL: no mount
        raise KernelError(number, f"unmount {path}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise KernelError(ctypes.get_errno(), what)
