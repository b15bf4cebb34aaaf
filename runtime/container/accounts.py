"""Who a process runs as: ``name|uid[:group|gid]`` by the container's own passwd and group."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_LONGEST_FILE = 4 << 20  # the container writes these files; do not let them fill our memory
_HIGHEST_ID = (1 << 31) - 1
_OUT_OF_RANGE = "uids and gids must be in range 0-2147483647"


class UnknownUser(ValueError):
    """No such user or group; the text is Docker's."""


@dataclass(frozen=True, slots=True)
class Account:
    """What a process becomes."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def read(path: str) -> str:
    """A file that may be anything: text of a plain file, else nothing. Never blocks."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return ""
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return file.read(_LONGEST_FILE)


def resolve(wanted: str, more_groups: Sequence[str], passwd: str, group: str) -> Account:
    """Look ``wanted`` up in the texts of the two files; empty is root.

    :raises UnknownUser: a name that is in neither, or a number out of range.
    """
    user, colon, group_name = wanted.partition(":")
    name, uid, gid, home = _user(user or "0", list(_entries(passwd, 7)))
    groups = list(_entries(group, 4))
    if colon and group_name:
        gid, further = _group(group_name, groups), []
    else:
        further = [int(entry[2]) for entry in groups if name and name in entry[3].split(",")]
    further += [_group(item, groups) for item in more_groups]
    # The first group is among the further ones, too: who changes only that one would otherwise
    # lose what a file's "others, but not this group" denies (CVE-2022-36109).
    return Account(uid, gid, tuple(dict.fromkeys((gid, *further))), home or "/")


def _user(wanted: str, entries: list[list[str]]) -> tuple[str, int, int, str]:
    """A name goes before a number, as in Docker."""
    for entry in entries:
        if entry[0] == wanted or (wanted.isdigit() and entry[2] == str(int(wanted))):
            return entry[0], int(entry[2]), int(entry[3]), entry[5]
    if re.fullmatch(r"-\d+", wanted):
        raise UnknownUser(_OUT_OF_RANGE)
    if not wanted.isdigit():
        raise UnknownUser(f"unable to find user {wanted}: no matching entries in passwd file")
    return "", _number(wanted), 0, "/"


def _group(wanted: str, entries: list[list[str]]) -> int:
    for entry in entries:
        if entry[0] == wanted:
            return int(entry[2])
    if not wanted.isdigit():
        raise UnknownUser(f"unable to find group {wanted}: no matching entries in group file")
    return _number(wanted)


def _number(text: str) -> int:
    if int(text) > _HIGHEST_ID:
        raise UnknownUser(_OUT_OF_RANGE)
    return int(text)


def _entries(text: str, fields: int) -> Iterator[list[str]]:
    """Well-formed lines; damaged ones are passed over, as libc does."""
    for line in text.splitlines():
        parts = line.strip().split(":")
        numbers = parts[2:4] if fields == 7 else parts[2:3]
        if len(parts) >= fields and all(item.isdigit() for item in numbers):
            yield parts
