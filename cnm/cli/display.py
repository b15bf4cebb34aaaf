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


def labels(values: Mapping[str, str] | None) -> str:
    """``a=1,b=2``, sorted."""
    return ",".join(f"{key}={value}" for key, value in sorted((values or {}).items()))


def ports(bindings: Sequence[Mapping[str, object]] | None) -> str:
    """``0.0.0.0:5005->80/tcp, 81/tcp``, by private port, then protocol, then address."""

    def order(binding: Mapping[str, object]) -> tuple[int, str, str]:
        private = binding.get("PrivatePort")
        address = str(binding.get("IP") or "")
        return (private if isinstance(private, int) else 0, str(binding.get("Type")), address)

    return ", ".join(_port(binding) for binding in sorted(bindings or (), key=order))


def _port(binding: Mapping[str, object]) -> str:
    inside = f"{binding.get('PrivatePort')}/{binding.get('Type')}"
    if not binding.get("PublicPort"):
        return inside
    address = str(binding.get("IP") or "")
    if ":" in address:
        address = f"[{address}]"
    return f"{address}:{binding['PublicPort']}->{inside}"
