"""Filters in both shapes, and what matches."""

from __future__ import annotations

import json

import pytest

from cnm.engine.filters import Filters, truth
from cnm.errors import InvalidParameter


def filters(**values: object) -> Filters:
    return Filters.parse(json.dumps(values))


@pytest.mark.parametrize(
    "text",
    ['{"name":{"x":true,"y":true}}', '{"name":["x","y"]}'],
    ids=["cli", "docker-py"],
)
def test_both_shapes(text: str) -> None:
    assert Filters.parse(text).get("name") == ("x", "y")


@pytest.mark.parametrize("text", ["", "null", "{}", '{"name":[]}', '{"name":{"x":false}}'])
def test_nothing_asked_matches_everything(text: str) -> None:
    wanted = Filters.parse(text)
    assert "name" not in wanted
    assert wanted.pattern("name", "whatever")


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"name":5}'])
def test_no_filters(text: str) -> None:
    with pytest.raises(InvalidParameter, match="^invalid filter$"):
        Filters.parse(text)


def test_a_nest_that_json_cannot_hold() -> None:
    with pytest.raises(InvalidParameter, match="^invalid filter$"):
        Filters.parse("[" * 20_000)


def test_unknown_key() -> None:
    with pytest.raises(InvalidParameter, match="^invalid filter 'foo'$"):
        Filters.parse('{"foo":["x"]}', {"name"})


@pytest.mark.parametrize(
    ("values", "name", "matches"),
    [
        (["blue"], "blue", True),
        (["lu"], "blue", True),
        (["^b.*e$"], "blue", True),
        (["^lu"], "blue", False),
        (["red", "blue"], "blue", True),
        (["a(b"], "a(b", True),
        (["a(b"], "aab", False),
    ],
)
def test_names_match_as_expressions(values: list[str], name: str, matches: bool) -> None:
    assert filters(name=values).pattern("name", name) is matches


def test_drivers_match_exactly() -> None:
    assert filters(driver=["bridge"]).exact("driver", "bridge")
    assert not filters(driver=["brid"]).exact("driver", "bridge")


@pytest.mark.parametrize(
    ("values", "matches"),
    [
        (["a"], True),
        (["a=1"], True),
        (["a=2"], False),
        (["a", "b=2"], True),
        (["a", "c"], False),
        (["b="], False),
    ],
)
def test_all_labels_must_match(values: list[str], matches: bool) -> None:
    assert filters(label=values).labels("label", {"a": "1", "b": "2"}) is matches


@pytest.mark.parametrize(
    ("values", "expected"), [(["true"], True), (["1"], True), (["0"], False), (["false"], False)]
)
def test_booleans(values: list[str], expected: bool) -> None:
    assert filters(dangling=values).boolean("dangling") is expected


@pytest.mark.parametrize("values", [["maybe"], ["true", "false"], ["1", "0"]])
def test_no_booleans(values: list[str]) -> None:
    with pytest.raises(InvalidParameter) as caught:
        filters(dangling=values).boolean("dangling")
    assert str(caught.value) == (
        'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'
    )


@pytest.mark.parametrize("text", ["1", "true", "True", "yes", "x"])
def test_true_in_a_query(text: str) -> None:
    assert truth(text)


@pytest.mark.parametrize("text", ["", "0", "no", "False", "none", "None"])
def test_false_in_a_query(text: str) -> None:
    assert not truth(text)
