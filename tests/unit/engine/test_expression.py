"""Expressions of clients: what matches, and that none can stop the daemon."""

from __future__ import annotations

import json

import pytest

from cnm.engine.expression import check, found
from cnm.engine.filters import Filters
from cnm.errors import InvalidParameter


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("web", "my-web-1", True),
        ("", "anything", True),
        ("^web-[0-9]+-[a-z]+-[0-9]+$", "web-1-x-2", True),
        (".*b.*c.*", "abcd", True),
        ("^.*b$", "abc", False),
        (r"a\.*", "a", True),
        (r"b\.*", "a", False),
        ("^(web|db)(-[0-9]+)?$", "db-7", True),
        ("^(web|db)(-[0-9]+)?$", "db-", False),
        ("(?i)WEB", "web", True),
        ("[0-9]{3}", "12", False),
        ("a(b", "a(b", True),
        ("a(b", "ab", False),
        ("a{99999999999999}", "a", False),
        ("^x$", "x" * 300, False),
        ("x" * 300, "x" * 300, True),
        ("xx", "x" * 300, True),
    ],
)
def test_matches(pattern: str, text: str, matches: bool) -> None:
    check("name", pattern)
    assert found(pattern, text) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*$",
        "(a|ab|b){1,50}$",
        "(?:a?){50}a{50}",
        "a?" * 60 + "a" * 60,
        "[ab]*" * 5 + "$",
        "(a|a)" * 40 + "$",
        r"(a*)\1$",
        "(?=a)a",
        "(?P<x>a)(?P=x)",
        "^" + "a" * 256,
    ],
)
def test_what_could_take_long_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        Filters.parse(json.dumps({"name": [pattern]}), {"name"})
    assert str(caught.value) == "invalid filter: name: pattern too complex"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "pattern", ["[ax]*[ax]*[^ax]", "^[ax]*[ax]*[ax]*[^ax]$", "x?x?[ax]*[ax]*[^x]", "(xx?|x)x*x*y"]
)
def test_the_worst_that_is_let_through_ends_soon(pattern: str) -> None:
    check("name", pattern)
    for length in range(100, 129):
        assert not found(pattern, "x" * length)
