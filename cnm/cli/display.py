"""Small texts of listings: short ids, ages, times, labels, ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_SHORT_ID = 12
# Upper limit (seconds), divisor, text: go-units' HumanDuration.
_AGES = (
    (1, 0, "Less than a second"),
    (2, 0, "1 second"),
    (60, 1, "{} seconds"),
    (120, 0, "About a minute"),
    (3600, 60, "{} minutes"),
    (5400, 0, "About an hour"),
    (48 * 3600, 3600, "{} hours"),
    (14 * 86400, 86400, "{} days"),
    (60 * 86400, 7 * 86400, "{} weeks"),
    (2 * 365 * 86400, 30 * 86400, "{} months"),
)


def short_id(identifier: str, whole: bool = False) -> str:
    """The first 12 digits of an id, or all."""
    return identifier if whole else identifier[:_SHORT_ID]


def age(seconds: float) -> str:
    """``5 seconds``, ``About an hour``, ``3 weeks``, as Docker words them."""
    for limit, divisor, words in _AGES:
        if seconds < limit:
            return words.format(int(seconds // divisor)) if divisor else words
    return f"{int(seconds // (365 * 86400))} years"


def local_time(seconds: int) -> str:
    """A time in the local zone as Go prints it: ``2023-11-14 22:13:20 +0000 UTC``."""
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def go_time(value: str) -> str:
    """``2024-01-01T00:00:00.10Z`` as Go prints it: ``2024-01-01 00:00:00.1 +0000 UTC``."""
    day, separator, clock = value.partition("T")
    if not separator or len(clock) < len("00:00:00Z"):
        return value
    if clock.endswith("Z"):
        clock, zone = clock[:-1], "+0000 UTC"
    else:
        offset = clock[-6:].replace(":", "")
        clock, zone = clock[:-6], f"{offset} {offset}"
    whole, point, fraction = clock.partition(".")
    return f"{day} {(whole + point + fraction.rstrip('0')).rstrip('.')} {zone}"


def labels(values: Mapping[str, str] | None) -> str:
    """``a=1,b=2``, sorted."""
    return ",".join(f"{key}={value}" for key, value in sorted((values or {}).items()))


def ports(bindings: Sequence[Mapping[str, object]] | None) -> str:
    """``81/tcp, 0.0.0.0:5000-5010->5000-5010/tcp, 0.0.0.0:5005->80/tcp``, as Docker.

    Neighbouring ports that are published under their own number, or not at all, are
    one range; the others follow one by one.
    """
    groups: dict[tuple[str, str], tuple[int, int]] = {}
    ranges: list[str] = []
    mappings: list[str] = []
    for private, address, public, protocol in sorted(_binding(item) for item in bindings or ()):
        if address and public != private:
            mappings.append(f"{_bracketed(address)}:{public}->{private}/{protocol}")
            continue
        key = (address, protocol)
        first, last = groups.get(key, (private, private))
        if key in groups and private != last + 1:
            ranges.append(_range(key, first, last))
            first = private
        groups[key] = (first, private)
    ranges += [_range(key, first, last) for key, (first, last) in groups.items()]
    return ", ".join(ranges + mappings)


def _binding(document: Mapping[str, object]) -> tuple[int, str, int, str]:
    def number(key: str) -> int:
        value = document.get(key)
        return value if isinstance(value, int) else 0

    address, protocol = str(document.get("IP") or ""), str(document.get("Type") or "")
    return number("PrivatePort"), address, number("PublicPort"), protocol


def _range(key: tuple[str, str], first: int, last: int) -> str:
    address, protocol = key
    numbers = str(first) if first == last else f"{first}-{last}"
    return (
        f"{_bracketed(address)}:{numbers}->{numbers}/{protocol}"
        if address
        else f"{numbers}/{protocol}"
    )


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
