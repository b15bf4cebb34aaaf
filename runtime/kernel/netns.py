"""Network namespaces: opened by path, entered on threads that never leave.

A thread that goes into a namespace and back can be caught in the wrong one by an
error on the way. So each call has a thread of its own, which enters once, serves
nobody else and ends; sockets and files that it opens may be used from anywhere.

A bare thread takes 0.07 ms. One worker kept for a namespace was left: an attach has three
calls, and the worker's start, its queue and its end took 0.2 ms more, on a busy machine 2.
Python 3.11 has no ``os.setns``, hence ctypes.
"""

from __future__ import annotations

import _thread
import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from cnm.errors import KernelError, SandboxGone
from cnm.runtime.kernel.netlink import Netlink
from cnm.types import NamespaceIdentity

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # sched.h
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h, Linux 5.14

_libc = ctypes.CDLL(None, use_errno=True)


class NetNS:
    """An open network namespace; a context manager. :meth:`close` leaves no descriptor.

    :raises KernelError: ENOENT and the like from open(2); EINVAL: no network namespace.
    :raises SandboxGone: with ``expect``, when another namespace is at the path.

    ``visit`` is called inside, in the same visit that opens :meth:`netlink`.
    """

    def __init__(
        self,
        path: str,
        *,
        expect: NamespaceIdentity | None = None,
        visit: Callable[[], None] | None = None,
    ) -> None:
        self.path = path
        self._visit = visit
        self.fd = _open_namespace(path)
        self._netlink: Netlink | None = None
        if expect is not None:
            self._check(expect)

    def run(self, fn: Callable[[], T]) -> T:
        """Call ``fn`` inside the namespace and hand back what it returns or raises."""
        returned: list[T] = []
        raised: list[BaseException] = []
        ended = _thread.allocate_lock()
        ended.acquire()

        def work() -> None:
            try:
                self._enter()
                returned.append(fn())
            except BaseException as error:
                raised.append(error)
            finally:
                ended.release()

        # threading.Thread would wait for the start, and then for the end: twice as long
        _thread.start_new_thread(work, ())
        ended.acquire()
        if raised:
            raise raised.pop()  # popped: an error that its own traceback holds is never freed
        return returned[0]

    def netlink(self) -> Netlink:
        """A route netlink of this namespace, usable from any thread; closed with it."""
        if self._netlink is None:
            self._netlink = self.run(self._open_netlink)
        return self._netlink

    def _open_netlink(self) -> Netlink:
        netlink = Netlink()
        try:
            if self._visit is not None:
                self._visit()
        except BaseException:
            netlink.close()
            raise
        return netlink

    def cookie(self) -> int:
        """The kernel's number of this namespace, never used twice while it runs."""
        return self.netlink().cookie()

    def close(self) -> None:
        """Close all there is. Again is fine."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> NetNS:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _enter(self) -> None:
        if _libc.setns(self.fd, CLONE_NEWNET) != 0:
            raise KernelError(ctypes.get_errno(), f"entering network namespace {self.path}")

    def _check(self, expect: NamespaceIdentity) -> None:
        try:
            if self.cookie() != expect.cookie:
                raise SandboxGone(f"another network namespace is now at {self.path}")
        except BaseException:
            self.close()
            raise


def own_cookie() -> int:
    """SO_NETNS_COOKIE of the calling thread's namespace (socket(7))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        raw = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return int(struct.unpack("=Q", raw)[0])


def _open_namespace(path: str) -> int:
    try:
        # O_NONBLOCK: a path that the user gave may be a FIFO, whose open would wait.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, f"network namespace {path}") from error
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:  # ENOTTY: not a namespace at all
        kind = 0
    if kind != CLONE_NEWNET:
        os.close(fd)
        raise KernelError(errno.EINVAL, path, "not a network namespace")
    return fd
