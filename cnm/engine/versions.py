"""API versions: what is announced, what is accepted, and how a path names one."""

from __future__ import annotations

import re
from typing import NamedTuple

from cnm.errors import InvalidParameter


class ApiVersion(NamedTuple):
    """``1.51`` is ``ApiVersion(1, 51)``; compares as numbers do."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


ANNOUNCED = ApiVersion(1, 51)  # newest clients come down to it; still has the flat fields of old
NEWEST = ApiVersion(1, 55)  # accepted, if a client insists on it in its path
OLDEST = ApiVersion(1, 24)

_DIGITS_MAX = 9
_SHOWN_MAX = 40  # characters of a wrong version in a message
_PREFIX = re.compile(r"/v([0-9]+(?:\.[0-9]+)?)(/.*)", re.DOTALL)


def split_path(path: str) -> tuple[ApiVersion, str]:
    """The version that a path asks for, and the rest of the path.

    A path without a prefix is read as the announced version.

    :raises InvalidParameter: older or newer than what is served, with Docker's text.
    """
    found = _PREFIX.fullmatch(path)
    if found is None:
        return ANNOUNCED, path
    major, _, minor = found[1].partition(".")
    version = ApiVersion(_number(major), _number(minor or "0"))
    shown = found[1][:_SHOWN_MAX]
    if version > NEWEST:
        raise InvalidParameter(
            f"client version {shown} is too new. Maximum supported API version is {NEWEST}"
        )
    if version < OLDEST:
        raise InvalidParameter(
            f"client version {shown} is too old. Minimum supported API version is {OLDEST},"
            " please upgrade your client to a newer version"
        )
    return version, found[2]


def _number(digits: str) -> int:
    """Python refuses to read thousands of digits; so many are too new in any case."""
    return int(digits[:_DIGITS_MAX])
