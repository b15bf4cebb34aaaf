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

_SCALARS = (str, int, float, bool, type(None))

_ADDRESSES: tuple[type, ...] = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)


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
    if type(value) in _SCALARS:  # most are: before the questions that cost more
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            name: _plain(item)
            for name, default in _fields(type(value))
            if (item := getattr(value, name)) != default
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, _ADDRESSES):
        return _text(value)
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
    return lambda data: data


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
