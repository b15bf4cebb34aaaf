"""What nft lists of a table, read: rules from its text, elements from its JSON. Pure.

libnftables-json(5) has no text of a rule, and the text has elements in no form to be split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_CHAIN = re.compile(r"^\tchain (\S+) \{$")
_COMMENT = re.compile(r' comment "([^"]*)"$')
_COUNTER = re.compile(r" ?\bcounter packets (\d+) bytes (\d+)")


@dataclass(frozen=True, slots=True)
class Counted:
    """A rule, or an element of a set or map. ``None``: it does not count."""

    place: str  # the chain, set or map
    text: str  # without its counter and comment
    comment: str  # a rule's own; for an element that of its set or map
    packets: int | None = None
    bytes: int | None = None
    is_element: bool = False


def rules(text: str) -> Iterator[Counted]:
    """The rules of all chains in the text of ``list table``, in order."""
    chain = ""
    for line in text.splitlines():
        found = _CHAIN.match(line)
        if found is not None:
            chain = found[1]
        elif line == "\t}":
            chain = ""
        elif chain and line.startswith("\t\t") and not line.startswith("\t\ttype "):
            comment, counter = _COMMENT.search(line), _COUNTER.search(line)
            bare = _COUNTER.sub("", _COMMENT.sub("", line)).strip()
            counts = (int(counter[1]), int(counter[2])) if counter else (None, None)
            yield Counted(chain, bare, comment[1] if comment else "", *counts)


def elements(text: str) -> Iterator[Counted]:
    """The elements in the JSON of ``list table``."""
    for item in json.loads(text)["nftables"]:
        found = item.get("set") or item.get("map")
        if found is None:
            continue
        keys, values = _types(found["type"]), _types(found["map"]) if "map" in found else ()
        for element in found.get("elem", ()):
            key = element[0] if values else element
            counter = key.get("elem", {}).get("counter", {}) if isinstance(key, dict) else {}
            yield Counted(
                found["name"],
                _element(element, keys, values),
                found.get("comment", ""),
                counter.get("packets"),
                counter.get("bytes"),
                is_element=True,
            )


def element_texts(text: str) -> set[str]:
    """The elements in the JSON of ``list set`` or ``list map`` (libnftables-json(5))."""
    for item in json.loads(text)["nftables"]:
        found = item.get("set") or item.get("map")
        if found is not None:
            keys = _types(found["type"])
            values = _types(found["map"]) if "map" in found else ()
            return {_element(element, keys, values) for element in found.get("elem", ())}
    return set()


def _types(declared: Any) -> tuple[str, ...]:
    """A key's types are a list; those of a map's values one string with dots between."""
    return tuple(declared.split(" . ")) if isinstance(declared, str) else tuple(declared)


def _element(element: Any, keys: tuple[str, ...], values: tuple[str, ...]) -> str:
    if values:
        key, value = element
        return f"{_text(key, keys)} : {_text(value, values)}"
    return _text(element, keys)


def _text(value: Any, types: tuple[str, ...]) -> str:
    """One value of those types in nft text; names of interfaces are quoted."""
    match value:
        case {"elem": {"val": inner}}:
            return _text(inner, types)
        case {"concat": parts}:
            pairs = zip(parts, types, strict=True)
            return " . ".join(_text(part, (kind,)) for part, kind in pairs)
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"range": [low, high]}:
            return f"{low}-{high}"
        case {"jump": {"target": chain}}:
            return f"jump {chain}"
        case {"goto": {"target": chain}}:
            return f"goto {chain}"
        case dict():
            return str(next(iter(value)))  # {"accept": null} and the like
        case _:
            return f'"{value}"' if types == ("ifname",) else str(value)
