"""Regular expressions of clients, matched in bounded time.

Docker matches names with RE2, whose time is linear. Python's ``re`` tries one way after
the other and holds the interpreter's lock meanwhile: ``(a+)+$`` would stop the daemon. So
the number of ways that an expression can try is estimated before it is used, and what
could take long is refused. An engine of our own was left: names are short, and what
people ask for (``^web``, ``db-[0-9]+$``, ``.*test.*``) has few ways.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import comb

from cnm.errors import InvalidParameter

_PATTERN_MAX = 256  # characters
_SUBJECT_MAX = 128  # characters; longer names are found by plain text only
_WAYS_MAX = 2_000_000  # about 0.1 s
_PLAIN = re.compile(r"[\w/: -]*")
_TOKEN = re.compile(
    r"""
      (?P<refused> \\[1-9] | \(\?(?!:|P<|[a-z]+[:)]) )  # back-reference; look-around and the like
    | (?P<atom> \\. | \[\^?\]?(?:\\.|[^\]\\])*\] | \(\?[a-z]+\) )
    | (?P<open> \((?:\?(?::|P<\w+>|[a-z]+:))? )
    | (?P<close> \) )
    | (?P<branch> \| )
    | (?P<repeat> (?:[*+?]|\{(?P<low>\d*)(?P<comma>,?)(?P<high>\d*)\})[?+]? )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


def found(pattern: str, text: str) -> bool:
    """Whether the text equals the pattern or has a match of it somewhere.

    What is no expression matches by equality only, as in Docker. The pattern has
    passed :func:`check`.
    """
    if pattern == text:
        return True
    if _PLAIN.fullmatch(pattern):
        return pattern in text
    if len(text) > _SUBJECT_MAX:
        return False
    try:
        return re.search(_trimmed(pattern), text) is not None
    except (re.error, OverflowError, RecursionError):
        return False


def check(key: str, pattern: str) -> None:
    """:raises InvalidParameter: matching it could take long."""
    if _PLAIN.fullmatch(pattern):
        return
    if len(pattern) > _PATTERN_MAX or _ways(_trimmed(pattern)) > _WAYS_MAX:
        raise InvalidParameter(f"invalid filter: {key}: pattern too complex")


@dataclass(slots=True)
class _Group:
    """A group that is being read: alternatives, and whether its matches differ in length."""

    branches: int = 1
    varies: bool = False


def _trimmed(pattern: str) -> str:
    """Without ``.*`` at both ends, which changes nothing where a match may lie anywhere."""
    pattern = re.sub(r"\A\^?\.\*(?![*+?{])", "", pattern)
    return re.sub(r"(?<!\\)\.\*\$?\Z", "", pattern)


def _ways(pattern: str) -> int:
    """At most so many ways are tried on the longest subject; more than allowed if unlimited."""
    loops, ways = 0, 1  # each loop, and the start, ends at one of the subject's positions
    groups = [_Group()]
    before = _Group()  # what a repetition would repeat
    for token in _TOKEN.finditer(pattern):
        kind = token.lastgroup
        if token["refused"]:
            return _WAYS_MAX + 1
        if token["open"]:
            groups.append(_Group())
        elif token["close"] and len(groups) > 1:
            before = groups.pop()
            ways *= before.branches
            before.varies |= before.branches > 1
            groups[-1].varies |= before.varies
        elif token["branch"]:
            groups[-1].branches += 1
        elif token["repeat"]:
            once = token["repeat"].startswith("?")
            if before.varies and not once:
                return _WAYS_MAX + 1
            if once:
                ways *= 2
            elif not _exact(token):
                loops += 1
            groups[-1].varies = True
        elif kind is not None:
            before = _Group()
    anchored = pattern.startswith("^") and groups[0].branches == 1
    places = loops if anchored else loops + 1
    return ways * groups[0].branches * comb(_SUBJECT_MAX + places, places)


def _exact(token: re.Match[str]) -> bool:
    """``{3}``: there is no choice."""
    return bool(token["low"]) and (not token["comma"] or token["low"] == token["high"])
