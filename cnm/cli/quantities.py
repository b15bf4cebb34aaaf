"""Numbers with units, as Docker's flags write them: sizes, processors, limits of a process."""

from __future__ import annotations

from collections.abc import Callable

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_STEP = 1000.0
_NANO = 10**9
# What setrlimit(2) knows and a container may be given.
_LIMITS = frozenset(
    ("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile")
    + ("nproc", "rss", "rtprio", "rttime", "sigpending", "stack")
)


class Malformed(ValueError):
    """A quantity cannot be read; the text says why, in Docker's words."""


def size_in_bytes(text: str) -> int:
    """``512m``, ``1.5GiB``, ``64 kb``, ``1024``.

    :raises Malformed: for anything else.
    """
    digits = max((text.rfind(letter) for letter in "0123456789. "), default=-1)
    if digits < 0:
        raise Malformed(f"invalid size: '{text}'")
    number, suffix = text[: digits + 1], text[digits + 1 :]
    try:
        size = float(number.removesuffix(" "))
        whole = int(size)
    except (ValueError, OverflowError):
        raise Malformed(f'strconv.ParseFloat: parsing "{number}": invalid syntax') from None
    if size < 0:
        raise Malformed(f"invalid size: '{text}'")
    unit, rest = suffix[:1].lower(), suffix[1:].lower()
    if not suffix or (unit == "b" and not rest):
        return whole
    if unit not in _UNITS or rest not in ("", "b", "ib"):
        raise Malformed(f"invalid suffix: '{suffix.lower() if len(suffix) < 4 else suffix}'")
    return int(size * _UNITS[unit])


def nano_cpus(text: str) -> int:
    """``1.5`` processors, or ``3/2``, in billionths.

    :raises Malformed: when it is no number, or finer than that.
    """
    from fractions import Fraction

    try:
        nano = Fraction(text) * _NANO
    except (ValueError, ZeroDivisionError):
        raise Malformed(f"failed to parse {text} as a rational number") from None
    if nano.denominator != 1:
        raise Malformed("value is too precise")
    return nano.numerator


def limit(text: str) -> dict[str, object]:
    """``nofile=1024:2048`` as the API has it; one number counts for both.

    :raises Malformed: for an unknown name, no numbers, or a soft limit above the hard one.
    """
    name, equals, values = text.partition("=")
    if not equals:
        raise Malformed(f"invalid ulimit argument: {text}")
    if name not in _LIMITS:
        raise Malformed(f"invalid ulimit type: {name}")
    numbers = values.split(":")
    if len(numbers) > 2:
        raise Malformed(
            f"too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
        )
    hard, soft = (_integer(number) for number in (numbers[-1], numbers[0]))
    if hard != -1 and (soft == -1 or soft > hard):
        detail = f"soft: -1 (unlimited), hard: {hard}" if soft == -1 else f"{soft} > {hard}"
        raise Malformed(f"ulimit soft limit must be less than or equal to hard limit: {detail}")
    return {"Name": name, "Hard": hard, "Soft": soft}


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Malformed(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def size_problem(text: str) -> str:
    """What is wrong with a size."""
    return _problem(size_in_bytes, text)


def swap_problem(text: str) -> str:
    """What is wrong with ``--memory-swap``: a size, or -1 for no limit."""
    return "" if text == "-1" else _problem(size_in_bytes, text)


def cpus_problem(text: str) -> str:
    """What is wrong with ``--cpus``."""
    return _problem(nano_cpus, text)


def limit_problem(text: str) -> str:
    """What is wrong with ``--ulimit``."""
    return _problem(limit, text)


def _problem(read: Callable[[str], object], text: str) -> str:
    try:
        read(text)
    except Malformed as error:
        return str(error)
    return ""


def shown_size(size: float) -> str:
    """``1.24MB``: three digits, decimal units."""
    unit = 0
    while size >= _STEP and unit < len(_DECIMAL) - 1:
        size /= _STEP
        unit += 1
    return f"{size:.3g}{_DECIMAL[unit]}"
