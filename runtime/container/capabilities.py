"""Linux capabilities by name, and what a container gets of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from cnm.errors import InvalidParameter
from cnm.runtimeapi import Security

# In the order of their numbers (linux/capability.h).
NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP"
    " LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER"
    " SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE"
    " SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP"
    " MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF"
    " CHECKPOINT_RESTORE"
).split()
ALL = (1 << len(NAMES)) - 1

# Docker's fourteen.
DEFAULT = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW"
    " SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"
).split()


def bit(name: str) -> int:
    """The mask of one capability, with or without ``CAP_``, in any case.

    :raises InvalidParameter: there is none of that name; Docker's text.
    """
    plain = name.upper().removeprefix("CAP_")
    try:
        return 1 << NAMES.index(plain)
    except ValueError:
        raise InvalidParameter(f'unknown capability: "CAP_{plain}"') from None


def mask(names: Sequence[str]) -> int:
    """The mask of several."""
    total = 0
    for name in names:
        total |= bit(name)
    return total


def granted(security: Security) -> int:
    """The capabilities of a container's processes.

    ``ALL`` in ``cap_add`` means all but those dropped; in ``cap_drop``, only those added.
    """
    if security.privileged:
        return ALL
    add, add_all = _split("CapAdd", security.cap_add)
    drop, drop_all = _split("CapDrop", security.cap_drop)
    if add_all:
        return add if drop_all else ALL & ~drop
    if drop_all:
        return add
    return (mask(DEFAULT) | add) & ~(drop & ~add)


def _split(what: str, names: Sequence[str]) -> tuple[int, bool]:
    """The mask of those named, and whether ALL is among them."""
    plain = [name for name in names if name.upper() not in ("ALL", "CAP_ALL")]
    try:
        return mask(plain), len(plain) < len(names)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid {what}: {error}") from None


def names_of(value: int) -> list[str]:
    """The names in a mask, ``CAP_`` before each, in the order of their numbers."""
    return [f"CAP_{name}" for number, name in enumerate(NAMES) if value >> number & 1]
