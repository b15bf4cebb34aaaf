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
_LABELS = 127  # that fit into it
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

    :raises IndexError: it is cut short, or its pointers lead nowhere. Each leads further back, so
        that they end; more than a name has labels are somebody's who wants to keep us busy.
    """
    labels: list[str] = []
    next_one, before, pointers = 0, position, 0
    while (length := data[position]) != 0:
        if length & _POINTER:
            target = (length & ~_POINTER) << 8 | data[position + 1]
            pointers += 1
            if length & _POINTER != _POINTER or target >= before or pointers > _LABELS:
                raise IndexError(target)
            next_one = next_one or position + 2
            position = before = target
            continue
        end = position + 1 + length
        labels.append(data[position + 1 : end].decode("ascii"))
        position = end
    return ".".join(labels), next_one or position + 1
