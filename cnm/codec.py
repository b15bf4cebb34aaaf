"""Frozen dataclasses to JSON text and back, directed by their type hints.

What the store writes. Addresses are text, enums their values, tuples lists; fields
that have their default are left out, so that a later version may add fields. A
field that is not known here is an error: such a document was written by a newer
version, whose schema number should have been refused before.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import ipaddress
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cnm.errors import StoreError

R = TypeVar("R")

_ADDRESSES: tuple[type, ...] = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)


_NOTHING = (None, dataclasses.MISSING)  # defaults that need no comparison
_PLAIN = frozenset({str, int, bool, float, types.NoneType})


def dumps(record: object) -> str:
    """The record as one line of JSON."""
    return json.dumps(_plain(record), separators=(",", ":"))


def loads(kind: type[R], text: str) -> R:
    """The record that ``dumps`` wrote.

    :raises StoreError: it is no document of this kind.
    """
    try:
        value: R = _reader(typing.cast(Any, kind))(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"damaged {kind.__name__} record in the database: {error}") from error
    return value


def _plain(value: object) -> Any:
    kind: Any = type(value)
    return _writer(kind)(value)


@functools.cache
def _writer(kind: type) -> Callable[[Any], Any]:
    """A function that turns a value of this type into plain JSON."""
    if dataclasses.is_dataclass(kind):
        return functools.partial(_dataclass_plain, _fields(kind))
    if issubclass(kind, Mapping):
        return lambda value: {str(key): _plain(item) for key, item in value.items()}
    if issubclass(kind, tuple | list):
        return lambda value: [_plain(item) for item in value]
    if issubclass(kind, enum.Enum):
        return lambda value: value.value
    return _text if issubclass(kind, _ADDRESSES) else _itself


def _dataclass_plain(fields: tuple[tuple[str, object], ...], value: object) -> dict[str, Any]:
    """Fifty ports are five hundred fields: what is plain already costs no call."""
    found: dict[str, Any] = {}
    for name, default in fields:
        item = getattr(value, name)
        kind: Any = type(item)
        if kind in _PLAIN:
            if item != default:
                found[name] = item
        elif item is not default and (default in _NOTHING or item != default):
            found[name] = _writer(kind)(item)
    return found


def _itself(value: object) -> object:
    return value


@functools.lru_cache(maxsize=1024, typed=True)
def _text(address: object) -> str:
    """Of an address: ``ipaddress`` takes 40 µs for one, and fifty ports have a hundred."""
    return str(address)


@functools.cache
def _fields(kind: type) -> tuple[tuple[str, object], ...]:
    """Names and defaults; a field without a default gets one that equals nothing."""
    found = []
    for item in dataclasses.fields(kind):
        default: object = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        found.append((item.name, default))
    return tuple(found)


@functools.cache
def _reader(hint: Any) -> Callable[[Any], Any]:
    """A function that turns plain JSON into a value of the hinted type."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _union_reader(typing.get_args(hint))
    if origin is tuple:
        item = _reader(typing.get_args(hint)[0])
        return lambda data: tuple(item(entry) for entry in data)
    if origin is not None and issubclass(origin, Mapping):
        entry_of = _reader(typing.get_args(hint)[1])
        return lambda data: {key: entry_of(entry) for key, entry in data.items()}
    if isinstance(hint, typing.NewType):
        return _reader(hint.__supertype__)
    if dataclasses.is_dataclass(hint):
        return _dataclass_reader(typing.cast(type, hint))
    if isinstance(hint, type) and (issubclass(hint, enum.Enum) or hint in _ADDRESSES):
        return hint
    return _itself


def _dataclass_reader(kind: type) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    readers = {item.name: _reader(hints[item.name]) for item in dataclasses.fields(kind)}
    return lambda data: kind(**{name: readers[name](entry) for name, entry in data.items()})


def _union_reader(choices: tuple[Any, ...]) -> Callable[[Any], Any]:
    """Optional values, and IPv4 or IPv6 (told apart by trying: the texts exclude one another)."""
    readers = [_reader(choice) for choice in choices if choice is not types.NoneType]

    def read(data: Any) -> Any:
        if data is None:
            return None
        for reader in readers[:-1]:
            try:
                return reader(data)
            except ValueError:
                continue
        return readers[-1](data)

    return read
