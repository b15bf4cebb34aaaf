"""Durations, rates and shares, as people write them: ``10ms``, ``5mbit``, ``0.5%``."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECONDS: Mapping[str, float] = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
# tc(8)'s: bits a second, decimal
_BITS: Mapping[str, int] = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z%]*)")


def seconds(text: str) -> float:
    """``10ms`` is 0.01.

    :raises ValueError: says what is right.
    """
    return _scaled(text, _SECONDS, "a time: 200us, 10ms, 1.5s, 2m")


def bits_per_second(text: str) -> int:
    """``5mbit`` is 5,000,000.

    :raises ValueError: says what is right; also for a rate of nothing.
    """
    rate = round(_scaled(text, _BITS, "a rate: 64kbit, 5mbit, 1gbit"))
    if rate < 1:
        raise ValueError("a rate must be more than 0")
    return rate


def percent(text: str) -> float:
    """``0.5%`` is 0.5, and so is ``0.5``.

    :raises ValueError: says what is right.
    """
    share = _scaled(text, {"%": 1.0, "": 1.0}, "a share: 0.5%, 10%")
    if share > 100:
        raise ValueError("a share is 100% at most")
    return share


def _scaled(text: str, units: Mapping[str, float], right: str) -> float:
    match = _NUMBER.fullmatch(text.strip().lower())
    if match is None or match[2] not in units:
        raise ValueError(f'"{text}" is not {right}')
    return float(match[1]) * units[match[2]]
