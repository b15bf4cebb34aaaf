"""Points in time as Docker's clients write them: ``since``, ``until``."""

from __future__ import annotations

import datetime
import re

from cnm.errors import InvalidParameter

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_STEP = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_UNIX = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?")
_FRACTION = re.compile(r"(:[0-9]{2})\.([0-9]+)")


def parse(text: str, now_ns: int) -> int:
    """Nanoseconds since the epoch.

    Understands unix seconds with a fraction (``1700000000.25``), a duration that is
    counted back from ``now_ns`` (Go's, ``1h30m``), and RFC 3339 dates and times; a
    time without a zone is local.

    :raises InvalidParameter: none of these.
    """
    unix = _UNIX.fullmatch(text)
    if unix:
        return int(unix[1]) * 1_000_000_000 + int((unix[2] or "").ljust(9, "0"))
    steps = _STEP.findall(text)
    if steps and "".join(number + unit for number, unit in steps) == text:
        return now_ns - sum(int(float(number) * _UNITS_NS[unit]) for number, unit in steps)
    return _date(text)


def _date(text: str) -> int:
    fraction = _FRACTION.search(text)
    nanoseconds = int(fraction[2][:9].ljust(9, "0")) if fraction else 0
    try:
        moment = datetime.datetime.fromisoformat(_FRACTION.sub(r"\1", text))
        return int(moment.astimezone().timestamp()) * 1_000_000_000 + nanoseconds
    except (ValueError, OverflowError):
        raise InvalidParameter(
            f'cannot read the time "{text}": give unix seconds, RFC 3339, or a duration like 1h30m'
        ) from None
