"""Signals by the names that users write. Pure."""

from __future__ import annotations

import signal

from cnm.errors import InvalidParameter

_LOWEST_REAL_TIME, _HIGHEST_REAL_TIME = 34, 64  # what libc leaves of the kernel's 32 to 64


def parse(text: str) -> int:
    """``9``, ``KILL``, ``SIGKILL`` or ``RTMIN+3``.

    :raises InvalidParameter: with Docker's text.
    """
    name = text.upper().removeprefix("SIG")
    number = int(name) if name.isdigit() else _named(name)
    if number > _HIGHEST_REAL_TIME:
        raise InvalidParameter(f"the linux daemon does not support signal {number}")
    if not number:
        raise InvalidParameter(f"invalid signal: {text}")
    return number


def _named(name: str) -> int:
    for base, number in (("RTMIN", _LOWEST_REAL_TIME), ("RTMAX", _HIGHEST_REAL_TIME)):
        if name.startswith(base):
            offset = name.removeprefix(base) or "+0"
            if offset[0] in "+-" and offset[1:].isdigit():
                found = number + int(offset)
                return found if _LOWEST_REAL_TIME <= found <= _HIGHEST_REAL_TIME else 0
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        return 0
