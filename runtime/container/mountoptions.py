"""Options of a tmpfs as mount(8) writes them, made into mount(2)'s flags and data. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnm.errors import InvalidParameter
from cnm.runtime.container import syscalls

_DEFAULTS = ("noexec", "nosuid", "nodev")  # Docker's

# word: flag, and whether it is set
_FLAGS: dict[str, tuple[int, bool]] = {
    "defaults": (0, True),
    "ro": (syscalls.MS_RDONLY, True),
    "rw": (syscalls.MS_RDONLY, False),
    "noexec": (syscalls.MS_NOEXEC, True),
    "exec": (syscalls.MS_NOEXEC, False),
    "nosuid": (syscalls.MS_NOSUID, True),
    "suid": (syscalls.MS_NOSUID, False),
    "nodev": (syscalls.MS_NODEV, True),
    "dev": (syscalls.MS_NODEV, False),
    "sync": (syscalls.MS_SYNCHRONOUS, True),
    "async": (syscalls.MS_SYNCHRONOUS, False),
    "dirsync": (syscalls.MS_DIRSYNC, True),
    "noatime": (syscalls.MS_NOATIME, True),
    "atime": (syscalls.MS_NOATIME, False),
    "nodiratime": (syscalls.MS_NODIRATIME, True),
    "diratime": (syscalls.MS_NODIRATIME, False),
    "relatime": (syscalls.MS_RELATIME, True),
    "norelatime": (syscalls.MS_RELATIME, False),
    "strictatime": (syscalls.MS_STRICTATIME, True),
    "nostrictatime": (syscalls.MS_STRICTATIME, False),
    "private": (0, True),  # as every mount of a container is
    "rprivate": (0, True),
}
_VALUES = frozenset(("size", "nr_blocks", "nr_inodes", "mode", "uid", "gid", "mpol"))


def tmpfs(options: Iterable[str]) -> tuple[int, dict[str, str]]:
    """Flags, and what goes into the data by name; a later word counts.

    :raises InvalidParameter: a word that tmpfs does not have; Docker's text.
    """
    flags, values = 0, {}
    for word in (*_DEFAULTS, *options):
        name, equals, value = word.partition("=")
        if equals and name in _VALUES:
            values[name] = value
        elif not equals and name in _FLAGS:
            flag, on = _FLAGS[name]
            flags = flags | flag if on else flags & ~flag
        else:
            words = [name, value] if equals else [name]
            raise InvalidParameter(f"invalid tmpfs option {_as_go(words)}")
    return flags, values


def _as_go(words: Sequence[str]) -> str:
    return "[" + " ".join(f'"{word}"' for word in words) + "]"
