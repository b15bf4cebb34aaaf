"""nftables rule sets as data, and their text in nft's language (nft(8)). Pure.

A :class:`Table` is what stands in the kernel as a whole: for start-up and repair. A
:class:`Batch` is a change of elements of its sets and maps: for everything else, since
an element costs the same however large the table is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

_INDENT = "\t"
_QUOTED_OR_VERDICT = re.compile(
    r'"[^"]*"|\bct status \w+|(?<![\w-])(?P<verdict>accept|drop|reject|return|continue'
    r"|jump|goto|queue|masquerade|redirect|snat|dnat)\b"
)


@dataclass(frozen=True, slots=True)
class Set:
    """A named set. ``elements`` are nft text, such as ``"br-1" . 80``."""

    name: str
    key: tuple[str, ...]  # ("ifname", "inet_service")
    elements: tuple[str, ...] = ()
    comment: str = ""
    flags: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Its declaration, line by line."""
        yield f"set {self.name} {{"
        yield from _declaration(" . ".join(self.key), self.flags, self.comment, self.elements)
        yield "}"


@dataclass(frozen=True, slots=True)
class Map:
    """A named map. Each element is a pair of key and value, in nft text."""

    name: str
    key: tuple[str, ...]
    value: tuple[str, ...]
    elements: tuple[tuple[str, str], ...] = ()
    comment: str = ""
    flags: tuple[str, ...] = ()
    counter: bool = False  # each element counts the packets that found it

    def lines(self) -> Iterator[str]:
        """Its declaration, line by line."""
        kind = f"{' . '.join(self.key)} : {' . '.join(self.value)}"
        pairs = tuple(f"{key} : {value}" for key, value in self.elements)
        yield f"map {self.name} {{"
        yield from _declaration(kind, self.flags, self.comment, pairs, counter=self.counter)
        yield "}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``counter`` counts what reaches its verdict."""

    text: str
    comment: str = ""
    counter: bool = False

    def line(self) -> str:
        text = _counted(self.text) if self.counter else self.text
        return f"{text} comment {_quoted(self.comment)}" if self.comment else text


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; a base chain if it has a hook. Without ``policy`` the kernel's: accept."""

    name: str
    rules: tuple[Rule, ...] = ()
    type: str = ""
    hook: str = ""
    priority: str = ""
    policy: str = ""

    def lines(self) -> Iterator[str]:
        """Its declaration, line by line."""
        yield f"chain {self.name} {{"
        if self.hook:
            policy = f" policy {self.policy};" if self.policy else ""
            yield f"{_INDENT}type {self.type} hook {self.hook} priority {self.priority};{policy}"
        yield from (_INDENT + rule.line() for rule in self.rules)
        yield "}"


@dataclass(frozen=True, slots=True)
class Table:
    """A whole table of ours."""

    family: str
    name: str
    sets: tuple[Set, ...] = ()
    maps: tuple[Map, ...] = ()
    chains: tuple[Chain, ...] = ()
    comment: str = ""

    def render(self) -> str:
        """The text ``table <family> <name> { … }``, ended by a line feed."""
        lines = [f"table {self.family} {self.name} {{"]
        if self.comment:
            lines.append(f"{_INDENT}comment {_quoted(self.comment)}")
        parts: Iterable[Set | Map | Chain] = (*self.sets, *self.maps, *self.chains)
        lines += [_INDENT + line for part in parts for line in part.lines()]
        return "\n".join([*lines, "}", ""])


class Change(NamedTuple):
    """One element that comes or goes."""

    add: bool
    name: str
    key: str
    value: str | None


@dataclass(slots=True)
class Batch:
    """Changes of elements in one table, carried out together or not at all.

    To add an element that is there, and to remove one that is not, are both fine. An
    element of a map is removed with the value that it has. To give a key another value,
    remove the old pair first. ``kinds``: what is known of its sets and maps, by name; it makes
    a batch quicker to carry out (nfelements.py).
    """

    family: str
    table: str
    changes: list[Change] = field(default_factory=list)
    kinds: Mapping[str, Set | Map] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.changes)

    def add(self, name: str, key: str, value: str | None = None) -> Batch:
        """An element of the set or map ``name``."""
        self.changes.append(Change(True, name, key, value))
        return self

    def remove(self, name: str, key: str, value: str | None = None) -> Batch:
        """Take an element out of the set or map ``name``."""
        self.changes.append(Change(False, name, key, value))
        return self

    def reversed(self) -> Batch:
        """The batch that undoes this one: inverse changes, the last first."""
        inverse = [change._replace(add=not change.add) for change in reversed(self.changes)]
        return Batch(self.family, self.table, inverse, self.kinds)

    def render(self) -> str:
        """The commands of one transaction; runs on one set share a command."""
        commands: list[str] = []
        for (add, name), run in groupby(self.changes, lambda change: (change.add, change.name)):
            changes = list(run)
            pairs = [f"{key} : {value}" if value else key for _, _, key, value in changes]
            # Added first even to be deleted, so that it may be missing.
            commands.append(self._command("add", name, pairs))
            if not add:
                keys = [change.key for change in changes]
                commands.append(self._command("delete", name, keys))
        return "".join(commands)

    def _command(self, verb: str, name: str, elements: Iterable[str]) -> str:
        return f"{verb} element {self.family} {self.table} {name} {{ {', '.join(elements)} }}\n"


def _declaration(
    kind: str,
    flags: tuple[str, ...],
    comment: str,
    elements: tuple[str, ...],
    *,
    counter: bool = False,
) -> Iterator[str]:
    yield f"{_INDENT}type {kind}"
    if flags:
        yield f"{_INDENT}flags {','.join(flags)}"
    if comment:
        yield f"{_INDENT}comment {_quoted(comment)}"
    if counter:
        yield f"{_INDENT}counter"
    if elements:
        yield f"{_INDENT}elements = {{ {', '.join(elements)} }}"


def _counted(text: str) -> str:
    """A counter goes right before the verdict; before all if the verdict is in a map."""
    for found in _QUOTED_OR_VERDICT.finditer(text):
        if found["verdict"]:
            return f"{text[: found.start()]}counter {text[found.start() :]}"
    return f"counter {text}"


def _quoted(comment: str) -> str:
    """nft's language has no escape for a quotation mark."""
    return '"' + comment.replace('"', "'") + '"'
