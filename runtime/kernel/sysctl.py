"""Sysctls: read, written, and on the host put back when nobody needs them any more.

Names are written with slashes (``net/ipv4/ip_forward``), because names of interfaces
may have dots. ``/proc/sys/net`` shows the namespace of the thread that opens a file.
"""

from __future__ import annotations

import errno
import logging
import threading
from pathlib import Path

from cnm.errors import KernelError
from cnm.hostapi import SysctlLedger
from cnm.runtime.kernel.netns import NetNS
from cnm.undo import Teardown, Undo

log = logging.getLogger(__name__)

_ROOT = Path("/proc/sys")


def read(name: str, namespace: NetNS | None = None) -> str:
    """The value, without its line end.

    :raises KernelError: ENOENT: this kernel has no such sysctl.
    """
    if namespace is not None:
        return namespace.run(lambda: read(name))
    try:
        return (_ROOT / name).read_text().strip()
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, f"sysctl {name}") from error


def write(name: str, value: str, namespace: NetNS | None = None) -> None:
    """:raises KernelError: ENOENT, or EINVAL for a value that the kernel does not take."""
    if namespace is not None:
        namespace.run(lambda: write(name, value))
        return
    log.debug("kernel: sysctl %s = %s", name, value)
    try:
        with open(_ROOT / name, "w") as file:
            file.write(value)
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, f"sysctl {name} = {value}") from error


class HostSysctls:
    """Sysctls of the daemon's own namespace: ``cnm.hostapi.HostSettings``.

    The value that a sysctl had before us is durable in the ledger before it is changed,
    so that a daemon killed in between still knows it. Holders live in memory: at each
    start everybody states his needs again, then :meth:`restore_unheld` puts back the rest.
    A value that somebody else has changed since is his: it stays.
    """

    def __init__(self, ledger: SysctlLedger) -> None:
        self._ledger = ledger
        self._mutex = threading.Lock()  # keeps a restore and a need of one name apart
        self._holders: dict[str, set[str]] = {}

    def need(self, name: str, value: str, *, holder: str, reason: str) -> None:
        """Have ``name`` hold ``value`` while ``holder`` needs it.

        :raises KernelError: it cannot be read or set; nothing is remembered then.
        """
        with self._mutex:
            current = read(name)
            if current != value:
                self._set(name, current, value)
                log.info("sysctl %s: %s -> %s (%s)", name.replace("/", "."), current, value, reason)
            self._holders.setdefault(name, set()).add(holder)

    def release(self, holder: str) -> None:
        """Give up all needs of a holder; what nobody needs any more is put back.

        :raises TeardownError: some could not be put back; the ledger keeps those.
        """
        teardown = Teardown(f"putting back the sysctls of {holder}")
        with self._mutex:
            for name, holders in list(self._holders.items()):
                holders.discard(holder)
                if not holders:
                    del self._holders[name]
                    with teardown.step():
                        self._restore(name)
        teardown.finish()

    def restore_unheld(self) -> None:
        """Put back what no holder has claimed: at the end of a start.

        :raises TeardownError: some could not be put back; the ledger keeps those.
        """
        teardown = Teardown("putting back sysctls that nothing needs")
        with self._mutex:
            for name in self._ledger.remembered():
                if name not in self._holders:
                    with teardown.step():
                        self._restore(name)
        teardown.finish()

    def values(self) -> dict[str, tuple[str, str]]:
        """name -> (value before us, value that we set), for ``net doctor``."""
        return self._ledger.remembered()

    def _set(self, name: str, current: str, value: str) -> None:
        known = self._ledger.remembered().get(name)
        with Undo() as undo:
            self._ledger.remember(name, current, value)  # it keeps the first old value
            if known:
                undo.push(self._ledger.remember, name, *known)
            else:
                undo.push(self._ledger.forget, name)
            write(name, value)

    def _restore(self, name: str) -> None:
        old, ours = self._ledger.remembered().get(name, (None, None))
        if old is None:
            return  # it had the value before we needed it
        try:
            if read(name) == ours:
                write(name, old)
                log.info("sysctl %s: %s -> %s (not needed)", name.replace("/", "."), ours, old)
        except KernelError as error:
            if error.errno != errno.ENOENT:  # the interface it belonged to is gone
                raise
        self._ledger.forget(name)
