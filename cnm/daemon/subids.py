"""Which ids of the host the users of a user namespace are: ``userns-remap``, as Docker's.

Ranges come from ``/etc/subuid`` and ``/etc/subgid`` (subuid(5)), where they are reserved for
a user. Nothing is written there: ``default`` takes those of the user ``cnmremap`` if the
administrator has reserved some, and otherwise a range that nobody hands out. (Docker makes a
user of its own instead.)
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Sequence
from pathlib import Path

from cnm.errors import InvalidParameter
from cnm.idmap import IdMap, IdRange

DEFAULT = "default"
OWN_USER = "cnmremap"
# Above all that useradd (to 600,100,000, login.defs(5)) and systemd (to 1,879,048,191, its
# "Users, Groups, UIDs and GIDs") give to anybody, below what is negative in 32 bits.
UNCLAIMED = IdRange(0, 1_879_048_192, 65_536)

_ETC = Path("/etc")


def resolve(text: str, folder: Path = _ETC) -> IdMap:
    """``default``, ``USER``, ``USER:GROUP``, or their numbers; empty is ``default``.

    :raises InvalidParameter: there is no such user, or nothing is reserved for it.
    """
    if text in ("", DEFAULT):
        users, groups = (_reserved(folder / name, OWN_USER) for name in ("subuid", "subgid"))
        return IdMap(users, groups) if users and groups else IdMap((UNCLAIMED,), (UNCLAIMED,))
    user, colon, group = text.partition(":")
    user = _user(user)
    group = _group(group) if colon else user
    return IdMap(_needed(folder / "subuid", user), _needed(folder / "subgid", group))


def _needed(file: Path, owner: str) -> tuple[IdRange, ...]:
    found = _reserved(file, owner)
    if not found:
        raise InvalidParameter(
            f"no ids are reserved for {owner} in {file}: add a line such as {owner}:100000:65536"
        )
    return found


def _reserved(file: Path, owner: str) -> tuple[IdRange, ...]:
    """The ranges of an owner, one after the other inside, as Docker lines them up."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    found: list[IdRange] = []
    for line in lines:
        name, *numbers = line.strip().split(":")
        if name == owner and len(numbers) == 2 and _are_ids(numbers) and int(numbers[1]):
            inside = sum(item.count for item in found)
            found.append(IdRange(inside, int(numbers[0]), int(numbers[1])))
    return tuple(found)


def _are_ids(fields: Sequence[str]) -> bool:
    return all(field.isascii() and field.isdigit() for field in fields)


def _user(text: str) -> str:
    """The name of a user, by name or number."""
    try:
        return (pwd.getpwuid(int(text)) if text.isdigit() else pwd.getpwnam(text)).pw_name
    except (KeyError, OverflowError):
        raise InvalidParameter(f"there is no user {text}") from None


def _group(text: str) -> str:
    """The name of a group, by name or number."""
    try:
        return (grp.getgrgid(int(text)) if text.isdigit() else grp.getgrnam(text)).gr_name
    except (KeyError, OverflowError):
        raise InvalidParameter(f"there is no group {text}") from None
