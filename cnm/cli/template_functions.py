"""The functions that templates may call: Go's built-in ones and Docker's."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cnm.cli.gotext import sprintf, text, to_json, type_name
from cnm.cli.values import NO_VALUE, Row, Struct


class CallFailed(Exception):
    """A function refuses its arguments; the text is Go's."""


class Function:
    """A callable with the types of its arguments.

    ``kinds`` has a letter for each: ``s`` a text, ``i`` an integer, ``l`` a list of
    texts, ``v`` anything; ``variadic``: the last kind may come any number of times.
    """

    __slots__ = ("call", "kinds", "minimum", "variadic")

    def __init__(
        self,
        call: Callable[..., object],
        kinds: str,
        variadic: bool = False,
        minimum: int | None = None,
    ) -> None:
        self.call = call
        self.kinds = kinds
        self.variadic = variadic
        self.minimum = len(kinds) - variadic if minimum is None else minimum


def truth(value: object) -> bool:
    """Whether ``if`` takes a value for true: not false, 0, empty or nil."""
    if value is NO_VALUE:
        return False
    return isinstance(value, (Struct, Row)) or bool(value)


def length(value: object) -> int:
    """``len``; of a text in bytes.

    :raises CallFailed: for what has no length.
    """
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (dict, list)):
        return len(value)
    raise CallFailed(f"len of {_nil_or_type(value)}")


def index(value: object, *keys: object) -> object:
    """``index x 1 "a"`` is x[1]["a"]; a map gives its zero value for a missing key.

    :raises CallFailed: out of range, or a key of the wrong type.
    """
    for key in keys:
        value = _index_map(value, key) if isinstance(value, dict) else _index_list(value, key)
    return value


def _index_map(value: dict[str, object], key: object) -> object:
    if not isinstance(key, str):
        raise CallFailed(f"value has type {type_name(key)}; should be string")
    if key in value:
        return value[key]
    sibling = next(iter(value.values()), "")
    if isinstance(sibling, Struct):
        return Struct(dict.fromkeys(sibling, ""), aliases=sibling.aliases)
    return "" if isinstance(sibling, str) else NO_VALUE


def _index_list(value: object, key: object) -> object:
    if value is None or value is NO_VALUE:
        raise CallFailed("index of untyped nil")
    if not isinstance(value, (list, str)):
        raise CallFailed(f"can't index item of type {type_name(value)}")
    if not isinstance(key, int) or isinstance(key, bool):
        raise CallFailed(f"cannot index slice/array with type {type_name(key)}")
    items = list(value.encode()) if isinstance(value, str) else value
    if not 0 <= key < len(items):
        raise CallFailed(f"index out of range: {key}")
    return items[key]


def _slice(value: object, *bounds: object) -> object:
    if not isinstance(value, (str, list)):
        raise CallFailed(f"can't slice item of type {_nil_or_type(value)}")
    items = value.encode() if isinstance(value, str) else value
    limits = [0, len(items)]
    for place, bound in enumerate(bounds[:2]):
        if not isinstance(bound, int) or not 0 <= bound <= len(items):
            raise CallFailed(f"index out of range: {text(bound, True)}")
        limits[place] = bound
    if limits[0] > limits[1]:
        raise CallFailed(f"invalid slice index: {limits[0]} > {limits[1]}")
    cut = items[limits[0] : limits[1]]
    return cut.decode(errors="replace") if isinstance(cut, bytes) else cut


def _nil_or_type(value: object) -> str:
    return "untyped nil" if value is None or value is NO_VALUE else f"type {type_name(value)}"


def _basic(value: object) -> str:
    """The kind that comparisons go by."""
    if isinstance(value, (dict, list, Row)):
        shown = f"{text(value)}: {type_name(value)}"
        raise CallFailed(f"non-comparable type {shown}")
    return "nil" if value is None or value is NO_VALUE else type_name(value)


def _equal(first: object, *others: object) -> bool:
    kind = _basic(first)
    if not others:
        raise CallFailed("missing argument for comparison")
    for other in others:
        other_kind = _basic(other)
        if "nil" not in (kind, other_kind) and kind != other_kind:
            raise CallFailed("incompatible types for comparison")
        if kind == other_kind and first == other:
            return True
    return False


def _less(first: object, second: object) -> bool:
    kind = _basic(first)
    if kind != _basic(second):
        raise CallFailed("incompatible types for comparison")
    if isinstance(first, str) and isinstance(second, str):
        return first < second
    if isinstance(first, (int, float)) and isinstance(second, (int, float)) and kind != "bool":
        return first < second
    raise CallFailed("invalid type for comparison")


def _print(*values: object) -> str:
    """``fmt.Sprint``: a blank between two values neither of which is a text."""
    parts: list[str] = []
    for place, value in enumerate(values):
        if place and not isinstance(value, str) and not isinstance(values[place - 1], str):
            parts.append(" ")
        parts.append(text(value, True))
    return "".join(parts)


def _truncate(value: str, size: int) -> str:
    return value.encode()[: max(size, 0)].decode(errors="ignore")


def _pad(value: str, before: int, after: int) -> str:
    return " " * before + value + " " * after if value else value


def _title(value: str) -> str:
    """The first letter of each word in upper case, the others as they are."""
    letters = list(value)
    for place, letter in enumerate(letters):
        before = value[place - 1] if place else " "
        if not (before.isalnum() or before == "_"):
            letters[place] = letter.upper()
    return "".join(letters)


def _split(value: str, separator: str) -> list[object]:
    return list(value.split(separator) if separator else value)


def _join(values: list[str], separator: str) -> str:
    return separator.join(values)


def _html(*values: object) -> str:
    escapes = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"}
    return "".join(escapes.get(letter, letter) for letter in _print(*values))


def _urlquery(*values: object) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_print(*values), safe="-_.~")


def _json(value: object) -> str:
    return to_json(value, escape_html=isinstance(value, Row))


FUNCTIONS: Mapping[str, Function] = {
    "and": Function(lambda *values: values[-1], "v", variadic=True, minimum=1),
    "or": Function(lambda *values: values[-1], "v", variadic=True, minimum=1),
    "not": Function(lambda value: not truth(value), "v"),
    "len": Function(length, "v"),
    "index": Function(index, "v", variadic=True, minimum=1),
    "slice": Function(_slice, "v", variadic=True, minimum=1),
    "print": Function(_print, "v", variadic=True),
    "printf": Function(lambda form, *rest: sprintf(form, rest), "sv", variadic=True),
    "println": Function(
        lambda *values: " ".join(text(value, True) for value in values) + "\n", "v", variadic=True
    ),
    "html": Function(_html, "v", variadic=True),
    "urlquery": Function(_urlquery, "v", variadic=True),
    "eq": Function(_equal, "v", variadic=True, minimum=1),
    "ne": Function(lambda first, second: not _equal(first, second), "vv"),
    "lt": Function(_less, "vv"),
    "le": Function(lambda a, b: _less(a, b) or _equal(a, b), "vv"),
    "gt": Function(lambda a, b: not (_less(a, b) or _equal(a, b)), "vv"),
    "ge": Function(lambda a, b: not _less(a, b), "vv"),
    "json": Function(_json, "v"),
    "split": Function(_split, "ss"),
    "join": Function(_join, "ls"),
    "title": Function(_title, "s"),
    "lower": Function(lambda value: value.lower(), "s"),
    "upper": Function(lambda value: value.upper(), "s"),
    "pad": Function(_pad, "sii"),
    "truncate": Function(_truncate, "si"),
}

# In the header of a table the column's title goes through the functions unchanged.
HEADER_FUNCTIONS: Mapping[str, Function] = {
    **FUNCTIONS,
    "json": Function(lambda value: value, "v"),
    "split": Function(lambda value, _: [value], "ss"),
    "join": Function(lambda values, _: values[0] if values else "", "ls"),
    "title": Function(lambda value: value, "s"),
    "lower": Function(lambda value: value, "s"),
    "upper": Function(lambda value: value, "s"),
    "truncate": Function(lambda value, _: value, "si"),
}


def accepts(kind: str, value: object) -> bool:
    """Whether an argument of this kind letter may have this value."""
    if kind == "s":
        return isinstance(value, str)
    if kind == "i":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "l":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return True


KIND_NAMES = {"s": "string", "i": "int", "l": "[]string", "v": "interface {}"}
