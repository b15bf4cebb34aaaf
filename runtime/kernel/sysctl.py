"""Sysctls: read, written, and put back.

:class:`HostSysctls` keeps the host's settings: what we change is written down first
(ledger), told in the log, and put back when nobody needs it any more.
"""

from __future__ import annotations

import errno
import logging
import threading
from dataclasses import dataclass

from cnm.errors import Conflict, KernelError
from cnm.hostapi import SysctlLedger
from cnm.runtime.kernel.netns import NetNS
from cnm.undo import Teardown, Undo

_log = logging.getLogger(__name__)

_ROOT = "/proc/sys"


def read(name: str, ns: NetNS | None = None) -> str:
    """Value of a sysctl; ``name`` with slashes, as interface names may hold dots.

    :raises KernelError: ENOENT: there is no such sysctl (or interface).
    """
    return ns.run(lambda: _read(name)) if ns else _read(name)


def write(name: str, value: str, ns: NetNS | None = None) -> None:
    """Set a sysctl.

    :raises KernelError: EINVAL: the value is refused; EROFS: /proc/sys is read-only.
    """
    if ns:
        ns.run(lambda: _write(name, value))
    else:
        _write(name, value)


def _read(name: str) -> str:
    try:
        with open(f"{_ROOT}/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, f"reading sysctl {name}") from error


def _write(name: str, value: str) -> None:
    try:
        with open(f"{_ROOT}/{name}", "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, f"setting sysctl {name} to {value}") from error


@dataclass(frozen=True, slots=True)
class HeldSetting:
    """A sysctl that somebody needs, or that still waits to be put back."""

    name: str
    value: str  # now; empty when it is gone with its interface
    wanted: str
    before: str | None  # None: it had the wanted value without us
    holders: tuple[str, ...]


class HostSysctls:
    """The sysctls of the namespace of the daemon's threads; implements ``HostSettings``.

    Thread-safe: drivers call it for different networks at once.
    """

    def __init__(self, ledger: SysctlLedger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._holders: dict[str, dict[str, str]] = {}  # name -> holder -> value needed

    def need(self, name: str, value: str, *, holder: str, reason: str) -> None:
        """See ``HostSettings.need``.

        :raises Conflict: another holder needs another value.
        :raises KernelError: the sysctl cannot be read or set; nothing is remembered.
        """
        with self._lock:
            holders = self._holders.get(name, {})
            for other, needed in holders.items():
                if other != holder and needed != value:
                    raise Conflict(
                        f"sysctl {name} cannot be {value} for {holder}: {other} needs {needed}"
                    )
            self._set(name, value, reason)
            self._holders.setdefault(name, {})[holder] = value

    def release(self, holder: str) -> None:
        """See ``HostSettings.release``.

        :raises TeardownError: some could not be put back; they stay in the ledger.
        """
        teardown = Teardown(f"putting back the sysctls of {holder}")
        with self._lock:
            for name in [name for name, held in self._holders.items() if holder in held]:
                del self._holders[name][holder]
                if not self._holders[name]:
                    del self._holders[name]
                    with teardown.step():
                        self._restore(name)
        teardown.finish()

    def restore_unheld(self) -> None:
        """Put back what no holder has claimed: the end of the start-up repair.

        :raises TeardownError: some could not be put back; they stay in the ledger.
        """
        teardown = Teardown("putting back sysctls that nothing needs")
        with self._lock:
            for name in self._ledger.remembered():
                if name not in self._holders:
                    with teardown.step():
                        self._restore(name)
        teardown.finish()

    def values(self) -> list[HeldSetting]:
        """All that is held or remembered, for ``net doctor``."""
        with self._lock:
            remembered = self._ledger.remembered()
            names = sorted({*remembered, *self._holders})
            return [self._held(name, remembered.get(name)) for name in names]

    def _held(self, name: str, memory: tuple[str, str] | None) -> HeldSetting:
        holders = self._holders.get(name, {})
        before, ours = memory if memory else (None, "")
        wanted = next(iter(holders.values()), ours)
        return HeldSetting(name, _value_or_gone(name) or "", wanted, before, tuple(holders))

    def _set(self, name: str, value: str, reason: str) -> None:
        current = _read(name)
        if current == value:
            return  # it had that value before us: not ours to put back later
        before, _ = self._ledger.remembered().get(name, (current, value))
        with Undo() as undo:
            self._ledger.remember(name, before, value)
            undo.push(self._ledger.forget, name)
            _write(name, value)
        _log.info("%s: %s -> %s (%s)", _dotted(name), current, value, reason)

    def _restore(self, name: str) -> None:
        memory = self._ledger.remembered().get(name)
        if memory is None:
            return
        before, ours = memory
        if _value_or_gone(name) == ours:
            _write(name, before)
            _log.info("%s: %s -> %s (nothing needs it any more)", _dotted(name), ours, before)
        self._ledger.forget(name)


def _value_or_gone(name: str) -> str | None:
    """The value, or ``None`` when the sysctl went with its interface."""
    try:
        return _read(name)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def _dotted(name: str) -> str:
    """As sysctl(8) prints names: the dots of an interface name become slashes."""
    return name.translate(str.maketrans("./", "/."))
