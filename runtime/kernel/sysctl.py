"""Sysctls: read, written, and on the host put back when nobody needs them any more.

Names are written with slashes (``net/ipv4/ip_forward``), because names of interfaces
may have dots. ``/proc/sys/net`` shows the namespace of the thread that opens a file.

Two of the host's sysctls are switches: writing them rewrites the same setting of each
interface and of those to come (inet_forward_change in net/ipv4/devinet.c,
addrconf_fixup_forwarding in net/ipv6/addrconf.c), IPv4's also ``all/accept_redirects``.
What these held before is remembered too, and put back after their switch.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from cnm.errors import KernelError
from cnm.hostapi import SysctlLedger
from cnm.runtime.kernel import owner
from cnm.runtime.kernel.netlink import Netlink
from cnm.runtime.kernel.netns import NetNS
from cnm.undo import Teardown, Undo

log = logging.getLogger(__name__)

_ROOT = Path("/proc/sys")
_LONGEST = 4096  # the kernel gives no more at once

IP_FORWARD = "net/ipv4/ip_forward"
IPV6_FORWARD = "net/ipv6/conf/all/forwarding"
_ACCEPT_REDIRECTS = "net/ipv4/conf/all/accept_redirects"
_OF_INTERFACE = re.compile(r"net/(?P<family>ipv[46])/conf/(?P<interface>[^/]+)/forwarding")


def read(name: str, namespace: NetNS | None = None) -> str:
    """The value, without its line end.

    :raises KernelError: ENOENT: this kernel has no such sysctl.
    """
    if namespace is not None:
        return namespace.run(lambda: read(name))
    try:
        # Python's files ask five more times; and pathlib interns each part of each path
        file = os.open(f"{_ROOT}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(file, _LONGEST).decode().strip()
        finally:
            os.close(file)
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, f"sysctl {name}") from error


def write(name: str, value: str, namespace: NetNS | None = None) -> None:
    """:raises KernelError: ENOENT, or EINVAL for a value that the kernel does not take."""
    if namespace is not None:
        namespace.run(lambda: write(name, value))
        return
    log.debug("kernel: sysctl %s = %s", name, value)
    try:
        file = os.open(f"{_ROOT}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, value.encode())
        finally:
            os.close(file)
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
            remembered = self._ledger.remembered()
            for name in sorted(remembered, key=lambda name: switch_of(name) is not None):
                if name not in self._holders and switch_of(name) not in self._holders:
                    with teardown.step():
                        self._restore(name)
        teardown.finish()

    def values(self) -> dict[str, tuple[str, str]]:
        """name -> (value before us, value that we set), what a switch rewrote included."""
        return self._ledger.remembered()

    def _set(self, name: str, current: str, value: str) -> None:
        known = self._ledger.remembered().get(name)
        with Undo() as undo:
            self._ledger.remember(name, current, value)  # it keeps the first old value
            if known:
                undo.push(self._ledger.remember, name, *known)
            else:
                undo.push(self._ledger.forget, name)
                for rewritten, old, new in _rewritten_by(name, value):
                    self._ledger.remember(rewritten, old, new)
                    undo.push(self._ledger.forget, rewritten)
            write(name, value)

    def _restore(self, name: str) -> None:
        """With all that it rewrote, if it is a switch."""
        old, ours = self._ledger.remembered().get(name, (None, None))
        if old is None or ours is None:
            return  # it had the value before we needed it
        if switch_of(name) is not None:
            self._write_back(name, old)
            return
        current = _read_if_there(name)
        back = self._untouched(name, current) if current in (old, ours) else {}
        if current == ours:
            write(name, old)
            log.info("sysctl %s: %s -> %s (not needed)", name.replace("/", "."), ours, old)
        for item in self._rewritten(name).keys() - back.keys():
            self._ledger.forget(item)
        self._ledger.forget(name)
        teardown = Teardown(f"putting back what {name} rewrote")
        for item, before in back.items():
            with teardown.step():
                self._write_back(item, before)
        teardown.finish()

    def _untouched(self, switch: str, current: str) -> dict[str, str]:
        """What it rewrote, with the values before, but not what somebody has changed since.

        ``current``: how it is; as before us, if we were killed while putting back.
        """
        return {
            name: before
            for name, before in self._rewritten(switch).items()
            if _read_if_there(name) == _brought(name, current)
        }

    def _rewritten(self, switch: str) -> dict[str, str]:
        """What the ledger holds of what this switch rewrote: the values before."""
        remembered = self._ledger.remembered()
        return {name: old for name, (old, _) in remembered.items() if switch_of(name) == switch}

    def _write_back(self, name: str, old: str) -> None:
        if _read_if_there(name) not in (None, old):
            write(name, old)
            log.info("sysctl %s: %s again", name.replace("/", "."), old)
        self._ledger.forget(name)


def interface_of(name: str) -> tuple[str, str] | None:
    """Family and interface of the sysctl of an interface that a switch rewrites."""
    found = _OF_INTERFACE.fullmatch(name)
    return None if found is None or name == IPV6_FORWARD else (found["family"], found["interface"])


def switch_of(name: str) -> str | None:
    """The sysctl that rewrites this one."""
    found = interface_of(name)
    if found is not None:
        return IP_FORWARD if found[0] == "ipv4" else IPV6_FORWARD
    return IP_FORWARD if name == _ACCEPT_REDIRECTS else None


def forwarding_interfaces(family: str) -> dict[str, str]:
    """Each interface that is not ours, and ``default``, and whether it forwards: 0 or 1."""
    with Netlink() as netlink:
        ours = {link.name for link, _, _ in owner.owned_links(netlink)}
    found = {}
    for interface in sorted(os.listdir(_ROOT / f"net/{family}/conf")):
        value = _read_if_there(f"net/{family}/conf/{interface}/forwarding")
        if interface not in ours | {"all"} and value is not None:
            found[interface] = value
    return found


def _rewritten_by(name: str, value: str) -> Iterator[tuple[str, str, str]]:
    """Of a switch: what it rewrites when it is set so, the value there now, and the new one."""
    if name not in (IP_FORWARD, IPV6_FORWARD):
        return
    family = "ipv4" if name == IP_FORWARD else "ipv6"
    for interface, old in forwarding_interfaces(family).items():
        yield f"net/{family}/conf/{interface}/forwarding", old, value
    if name == IP_FORWARD:
        yield _ACCEPT_REDIRECTS, read(_ACCEPT_REDIRECTS), _brought(_ACCEPT_REDIRECTS, value)


def _brought(name: str, value: str) -> str:
    """What a switch that is set to ``value`` writes there: a router takes no redirects."""
    if name == _ACCEPT_REDIRECTS:
        return "1" if value == "0" else "0"
    return value


def _read_if_there(name: str) -> str | None:
    """``None``: the interface it belongs to is gone."""
    try:
        return read(name)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return None
