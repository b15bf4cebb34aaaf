"""Points in time as clients write them."""

from __future__ import annotations

import pytest

from cnm.engine import times
from cnm.errors import InvalidParameter

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1600000000", 1_600_000_000 * SECOND),
        ("1600000000.25", 1_600_000_000 * SECOND + 250_000_000),
        ("1600000000.000000007", 1_600_000_000 * SECOND + 7),
        ("10m", NOW - 600 * SECOND),
        ("1h30m", NOW - 5400 * SECOND),
        ("1.5s", NOW - 1_500_000_000),
        ("250ms", NOW - 250_000_000),
        ("2020-09-13T12:26:40Z", 1_600_000_000 * SECOND),
        ("2020-09-13T14:26:40+02:00", 1_600_000_000 * SECOND),
        ("2020-09-13T12:26:40.123456789Z", 1_600_000_000 * SECOND + 123_456_789),
    ],
)
def test_read(text: str, expected: int) -> None:
    assert times.parse(text, NOW) == expected


def test_a_date_alone_is_local_midnight() -> None:
    noon, midnight = times.parse("2020-09-13T12:00", NOW), times.parse("2020-09-13", NOW)
    assert noon - midnight == 12 * 3600 * SECOND


@pytest.mark.parametrize("text", ["yesterday", "10 m", "m10", "2020-13-45", "1h-2m", "-5"])
def test_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="cannot read the time"):
        times.parse(text, NOW)
