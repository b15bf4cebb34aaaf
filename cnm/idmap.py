"""Users and groups of a user namespace: which of the host's they are. Pure.

Source: user_namespaces(7), the files ``uid_map`` and ``gid_map``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdRange:
    """``count`` ids from ``inside`` on are those from ``outside`` on of the host."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True, slots=True)
class IdMap:
    """How a user namespace sees the host's users and groups; others are nobody there."""

    users: tuple[IdRange, ...]
    groups: tuple[IdRange, ...]

    def user(self, inside: int) -> int | None:
        """The host's number of a user; None: there is no such user inside."""
        return _outside(self.users, inside)

    def group(self, inside: int) -> int | None:
        """The host's number of a group; None: there is no such group inside."""
        return _outside(self.groups, inside)


def _outside(ranges: Iterable[IdRange], inside: int) -> int | None:
    for item in ranges:
        if 0 <= inside - item.inside < item.count:
            return item.outside + inside - item.inside
    return None


def render(ranges: Iterable[IdRange]) -> str:
    """The content of ``uid_map`` or ``gid_map``."""
    return "".join(f"{item.inside} {item.outside} {item.count}\n" for item in ranges)
