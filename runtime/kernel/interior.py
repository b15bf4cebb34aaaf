"""What an interface that joins needs of its namespace from inside, opened in one visit.

A visit is a thread of its own (:mod:`cnm.runtime.kernel.netns`), a tenth of a millisecond and
more. What was opened in it stays of that namespace, whoever uses it: a socket by its nature,
and a file that is opened below a folder of ``/proc/sys/net``, since only the way to that folder
depends on who looks (fs/proc/proc_sysctl.c, net/sysctl_net.c).
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable
from socket import AF_PACKET, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW

from cnm.errors import KernelError

log = logging.getLogger(__name__)

_IPV6_SETTINGS = "/proc/sys/net/ipv6/conf"


class Interior:
    """:meth:`open` is called inside, all else from anywhere. ``discard`` closes a packet socket.

    That takes the kernel 5 ms and more (RCU), so it is not done here.
    """

    def __init__(self, discard: Callable[[socket.socket], None]) -> None:
        self._discard = discard
        self._folder = -1
        self._sender: socket.socket | None = None

    def open(self) -> None:
        """Again, when the sender was taken. :raises KernelError: nothing stays open."""
        try:
            if self._folder < 0:
                self._folder = _folder()
            # sends frames on one interface and receives none: protocol 0 (packet(7))
            self._sender = socket.socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
        except OSError as error:
            self.close()
            raise KernelError(
                error.errno or errno.EIO, "opening a namespace from inside"
            ) from error

    @property
    def is_open(self) -> bool:
        return self._sender is not None

    def set_ipv6(self, interface: str, settings: dict[str, str]) -> None:
        """Write sysctls of an interface. A kernel without IPv6 has nothing to be set.

        :raises KernelError: the kernel does not take one.
        """
        if self._folder < 0:
            return
        for name, value in settings.items():
            log.debug("kernel: sysctl net/ipv6/conf/%s/%s = %s", interface, name, value)
            try:
                file = os.open(
                    f"{interface}/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._folder
                )
                try:
                    os.write(file, value.encode())
                finally:
                    os.close(file)
            except OSError as error:
                # of an interface without IPv6 (its MTU is below 1280) there is nothing either
                if error.errno != errno.ENOENT:
                    where = f"sysctl net/ipv6/conf/{interface}/{name} = {value}"
                    raise KernelError(error.errno or errno.EIO, where) from error

    def take_sender(self, interface: str) -> socket.socket | None:
        """The socket that will announce an interface, the caller's to close; None: it is gone."""
        sender, self._sender = self._sender, None
        if sender is None:
            return None
        try:
            sender.bind((interface, 0))
        except OSError:
            self._discard(sender)
            return None
        return sender

    def close(self) -> None:
        """Again is fine."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1
        if self._sender is not None:
            self._discard(self._sender)
            self._sender = None


def _folder() -> int:
    """-1: this kernel has no IPv6."""
    try:
        return os.open(_IPV6_SETTINGS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
