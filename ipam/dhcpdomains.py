"""Names of domains in DHCP options: a list with pointers (RFC 3397), and which are any. No I/O.

What comes is a server's word and goes into a container's resolv.conf: so only letters, digits,
hyphens and underscores are taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_LONGEST = 253  # characters (RFC 1035, 2.3.4)
_POINTER = 0xC0  # the two bits of a length that make it one (RFC 1035, 4.1.4)


def is_domain(text: str) -> bool:
    """Whether a resolver can search it."""
    return len(text) <= _LONGEST and _DOMAIN.fullmatch(text) is not None


def decode(data: bytes) -> tuple[str, ...]:
    """The domains of option 119; none if any of it is malformed, as of option 121."""
    try:
        found = tuple(_names(data))
    except (IndexError, UnicodeDecodeError):
        return ()
    return found if all(map(is_domain, found)) else ()


def _names(data: bytes) -> Iterator[str]:
    position = 0
    while position < len(data):
        name, position = _name(data, position)
        yield name


def _name(data: bytes, position: int) -> tuple[str, int]:
    """The name at a place, and where the next one begins.

    :raises IndexError: it is cut short, or a pointer does not lead back (and so may go in circles).
    """
    labels: list[str] = []
    while (length := data[position]) != 0:
        if length & _POINTER:
            target = (length & ~_POINTER) << 8 | data[position + 1]
            if length & _POINTER != _POINTER or target >= position:
                raise IndexError(target)
            rest, _ = _name(data[:position], target)
            return ".".join([*labels, rest]), position + 2
        end = position + 1 + length
        if end >= len(data):
            raise IndexError(end)
        labels.append(data[position + 1 : end].decode("ascii"))
        position = end
    return ".".join(labels), position + 1
