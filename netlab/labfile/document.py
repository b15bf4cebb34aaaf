"""A YAML document read piece by piece, each piece with its line and key.

What is wrong is noted and the reading goes on, so that all mistakes of a file are told at
once. Scalars are taken as they are written: YAML 1.1 makes 484822 of ``8080:22``.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import yaml

from cnm.netlab.errors import LabFileError, Mistake

T = TypeVar("T")

_MERGE_TAG = "tag:yaml.org,2002:merge"
_NULL_TAG = "tag:yaml.org,2002:null"
_TRUE = ("true", "yes", "on")
_FALSE = ("false", "no", "off")
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Refused(Exception):
    """A value was refused, and that is noted; whoever reads it goes on with another."""


class Mistakes:
    """All that is wrong with one file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._found: list[Mistake] = []

    def note(self, line: int, key: str, text: str) -> None:
        """One mistake more."""
        self._found.append(Mistake(line, key, text))

    def any_below(self, key: str) -> bool:
        """Whether something is wrong with what that key holds."""
        return any(each.key.startswith((f"{key}.", f"{key}[")) for each in self._found)

    def raise_any(self) -> None:
        """:raises LabFileError: there are mistakes."""
        if self._found:
            raise LabFileError(self.path, self._found)


class Field:
    """A value of the document: ``key`` is its path, ``line`` counts from 1."""

    def __init__(self, node: yaml.Node, key: str, mistakes: Mistakes, name: str = "") -> None:
        self._node = node
        self._name = name
        self._mistakes = mistakes
        self.key = key
        self.line: int = node.start_mark.line + 1

    def refuse(self, text: str) -> Refused:
        """Note a mistake here; the exception to raise, if nothing can be made of the value."""
        self._mistakes.note(self.line, self.key, text)
        return Refused()

    def flawed(self, key: str) -> bool:
        """Whether a mistake was noted in the value of that key of this mapping."""
        return self._mistakes.any_below(f"{self.key}.{key}")

    @property
    def is_flawed(self) -> bool:
        """Whether a mistake was noted in what this mapping or list holds."""
        return self._mistakes.any_below(self.key)

    @property
    def is_null(self) -> bool:
        return bool(self._node.tag == _NULL_TAG)

    @property
    def is_list(self) -> bool:
        return isinstance(self._node, yaml.SequenceNode)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._node, yaml.MappingNode)

    def scalar(self) -> str | None:
        """The text as it is written; ``None`` for a list, a mapping and nothing at all."""
        if isinstance(self._node, yaml.ScalarNode) and not self.is_null:
            return str(self._node.value)
        return None

    def text(self) -> str:
        """:raises Refused: not a text, or an empty one."""
        found = self.scalar()
        if not found:
            raise self.refuse(f"needs a text{self._instead()}")
        return found

    def boolean(self) -> bool:
        """:raises Refused: neither true nor false."""
        word = (self.scalar() or "").lower()
        if word not in _TRUE + _FALSE:
            raise self.refuse(f"must be true or false{self._instead()}")
        return word in _TRUE

    def integer(self, low: int, high: int) -> int:
        """:raises Refused: not a number from ``low`` to ``high``."""
        word = self.scalar() or ""
        if not word.removeprefix("-").isdecimal() or not low <= int(word) <= high:
            raise self.refuse(f"must be a number from {low} to {high}{self._instead()}")
        return int(word)

    def choice(self, *allowed: str) -> str:
        """:raises Refused: none of them."""
        word = self.scalar() or ""
        if word not in allowed:
            raise self.refuse(f"must be {_either(allowed)}{self._instead()}")
        return word

    def parsed(self, parse: Callable[[str], T]) -> T:
        """The text as ``parse`` has it; the ValueError that it raises is the mistake."""
        text = self.text()
        try:
            return parse(text)
        except ValueError as error:
            raise self.refuse(str(error)) from None

    def parsed_name(self, parse: Callable[[str], str]) -> str:
        """The last part of the key, a name that the file chose, as ``parse`` has it."""
        try:
            return parse(self._name)
        except ValueError as error:
            raise self.refuse(str(error)) from None

    def json(self) -> str:
        """A mapping of free data as JSON, keys sorted."""
        if not self.is_mapping:
            raise self.refuse(f"must be a mapping{self._instead()}")
        try:
            return json.dumps(_data(self._node), sort_keys=True)
        except (yaml.YAMLError, TypeError, ValueError) as error:
            raise self.refuse(f"cannot be written as JSON: {error}") from None

    def items(self) -> list[Field]:
        """The members of a list. A single value is a list of one; nothing is an empty one."""
        if isinstance(self._node, yaml.SequenceNode):
            return [
                Field(node, f"{self.key}[{number}]", self._mistakes)
                for number, node in enumerate(self._node.value)
            ]
        return [] if self.is_null else [self]

    def entries(self) -> dict[str, Field]:
        """The members of a mapping; nothing is an empty one.

        :raises Refused: it is something else.
        """
        if self.is_null:
            return {}
        if not isinstance(self._node, yaml.MappingNode):
            raise self.refuse(f"must be a mapping{self._instead()}")
        found: dict[str, Field] = {}
        self._collect(self._node, found, set())
        return found

    def section(self, *known: str) -> Section:
        """A mapping whose keys are ``known``; others are noted as mistakes."""
        fields = self.entries()
        unknown = [name for name in fields if name not in known]
        for name in unknown:
            fields[name].refuse(f"unknown key{nearest(name, known)}")
        return Section(self, fields, clean=not unknown)

    def each(self, read: Callable[[Field], T]) -> tuple[T, ...]:
        """What ``read`` makes of each member of a list, those that it refuses left out."""
        return tuple(_readable(self.items(), read))

    def _collect(self, node: yaml.MappingNode, found: dict[str, Field], seen: set[int]) -> None:
        """Keys of a mapping; those merged in (``<<``) behind its own."""
        if id(node) in seen:
            raise self.refuse("a mapping cannot be merged into itself")
        seen = seen | {id(node)}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag == _MERGE_TAG:
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
                continue
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            path = f"{self.key}.{name}" if self.key else name
            field = Field(value, path, self._mistakes, name)
            field.line = key.start_mark.line + 1
            found.setdefault(name, field)
        for other in merged:
            if not isinstance(other, yaml.MappingNode):
                raise self.refuse("<< needs a mapping")
            self._collect(other, found, seen)

    def _instead(self) -> str:
        """What is there in the place of what should be."""
        if self.is_list:
            return ", not a list"
        if self.is_mapping:
            return ", not a mapping"
        found = self.scalar()
        return f', not "{found}"' if found else ", not nothing"


class Section:
    """A mapping with known keys. Reading goes on after a mistake, with the default."""

    def __init__(self, field: Field, fields: Mapping[str, Field], *, clean: bool) -> None:
        self.field = field
        self.clean = clean  # all its keys are known
        self._fields = fields

    def __contains__(self, key: str) -> bool:
        return key in self._fields

    def get(self, key: str) -> Field | None:
        """The value as it is."""
        return self._fields.get(key)

    def one(self, key: str, read: Callable[[Field], T], default: T) -> T:
        """A value; the default when it is missing, or was refused."""
        field = self._fields.get(key)
        return default if field is None else next(_readable([field], read), default)

    def need(self, key: str, read: Callable[[Field], T]) -> T:
        """A value that must be there.

        :raises Refused: it is missing or was refused.
        """
        field = self._fields.get(key)
        if field is None:
            raise self.field.refuse(f'needs "{key}"')
        return read(field)

    def many(self, key: str, read: Callable[[Field], T]) -> tuple[T, ...]:
        """The members of a list, see :meth:`Field.each`."""
        field = self._fields.get(key)
        return () if field is None else field.each(read)

    def named(self, key: str, read: Callable[[str, Field], T]) -> tuple[T, ...]:
        """What ``read`` makes of each name and value of a mapping."""
        field = self._fields.get(key)
        if field is None:
            return ()
        try:
            entries = field.entries()
        except Refused:
            return ()
        pairs = list(entries.items())
        return tuple(_readable(pairs, lambda pair: read(*pair)))


def _readable(items: Iterable[Any], read: Callable[[Any], T]) -> Iterator[T]:
    for item in items:
        try:
            made = read(item)
        except Refused:
            continue
        yield made


def parse(text: str, mistakes: Mistakes) -> Field:
    """The document of a text.

    :raises LabFileError: not YAML, more than one document, nothing in it, a key twice.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        mistakes.note(mark.line + 1 if mark else 1, "", f"not YAML: {error.problem or error}")
        node = None
    except (yaml.YAMLError, RecursionError) as error:
        mistakes.note(1, "", f"not YAML: {str(error).splitlines()[0]}")
        node = None
    else:
        if node is None:
            mistakes.note(1, "", "the file is empty")
    mistakes.raise_any()
    assert node is not None
    _find_doubles(node, "", mistakes, set())
    return Field(node, "", mistakes)


def _find_doubles(node: yaml.Node, key: str, mistakes: Mistakes, seen: set[int]) -> None:
    """Note keys that a mapping has twice, at any depth; YAML forbids them, PyYAML does not."""
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _find_doubles(item, f"{key}[{number}]", mistakes, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for name_node, value in node.value:
        name = str(name_node.value)
        here = f"{key}.{name}" if key else name
        line = name_node.start_mark.line + 1
        if name in lines:
            mistakes.note(line, here, f"the key is already in line {lines[name]}")
        lines.setdefault(name, line)
        _find_doubles(value, here, mistakes, seen)


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean "…"?`` if something known is like it, else what is known."""
    names = list(known)
    close = difflib.get_close_matches(word, names, 1, cutoff=0.5)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known here: {', '.join(names)}" if names else ""


def _either(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _data(node: yaml.Node) -> Any:
    constructor = yaml.constructor.SafeConstructor()
    return constructor.construct_document(node)
