"""How Go prints values: ``fmt``'s ``%v`` and ``Printf``, on what JSON decodes to.

JSON objects come in three kinds. A plain ``dict`` is a Go map: printed as
``map[k:v]``, its keys sorted. A ``Struct`` is a Go struct: printed as ``{a b}``
in the order of its fields. A ``Row`` is one line of a listing, whose fields are
texts and whose methods can be called by a template.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence


class Struct(dict[str, object]):
    """A JSON object whose fields a Go type fixes; ``{{.NoSuchField}}`` is an error.

    The mapping itself holds the fields that the document has. ``every`` holds those
    that JSON leaves out when empty as well, in the order of the type, and ``aliases``
    the names that Go has for fields and JSON has not.
    """

    __slots__ = ("aliases", "every")

    def __init__(
        self,
        fields: Mapping[str, object],
        omitted: Mapping[str, object] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(fields)
        # The omitted ones come last and in the order of the type.
        omitted = omitted or {}
        self.every = {key: value for key, value in fields.items() if key not in omitted}
        self.every |= {key: fields.get(key, default) for key, default in omitted.items()}
        self.aliases = aliases or {}

    def field(self, name: str) -> object:
        """A field by JSON's name or Go's.

        :raises KeyError: when the type has no such field.
        """
        return self.every[name if name in self.every else self.aliases.get(name, name)]


class Absent(dict[str, object]):
    """A map that is null in JSON: empty when printed, ``null`` by ``json``."""

    __slots__ = ()


class AbsentList(list[object]):
    """A list that is null in JSON."""

    __slots__ = ()


class Time(str):
    """A time: RFC 3339 in JSON, printed as Go prints ``time.Time``."""

    __slots__ = ()


class Row:
    """A line of a listing: texts by field name, and methods that templates may call."""

    __slots__ = ("fields", "kind", "methods")

    def __init__(
        self,
        kind: str,
        fields: Mapping[str, str],
        methods: Mapping[str, Callable[[str], str]] | None = None,
    ) -> None:
        self.kind = kind
        self.fields = fields
        self.methods = methods or {}


class NoValue:
    """What a map gives for a key that it does not have."""

    __slots__ = ()


NO_VALUE = NoValue()

_VERB = re.compile(r"%(?P<flags>[-+# 0]*)(?P<width>\d*)(?P<precision>\.\d*)?(?P<verb>.|$)", re.S)


def text(value: object, nested: bool = False) -> str:
    """``fmt.Sprint(value)``; nil is ``<no value>``, inside of collections ``<nil>``."""
    if value is None or value is NO_VALUE:
        return "<nil>" if nested else "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Time):
        return go_time(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Struct):
        return "{" + " ".join(text(item, True) for item in value.every.values()) + "}"
    if isinstance(value, Row):
        return "{" + " ".join(value.fields.values()) + "}"
    if isinstance(value, dict):
        pairs = (f"{key}:{text(value[key], True)}" for key in sorted(value))
        return "map[" + " ".join(pairs) + "]"
    if isinstance(value, list):
        return "[" + " ".join(text(item, True) for item in value) + "]"
    return str(value)


def go_time(value: str) -> str:
    """``2024-01-01T00:00:00.10Z`` as ``2024-01-01 00:00:00.1 +0000 UTC``."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)T([\d:]{8})(\.\d+)?(?:Z|([+-])(\d\d):(\d\d))", value)
    if match is None:
        return value
    day, clock, fraction, sign, hours, minutes = match.groups()
    zone = f"{sign}{hours}{minutes}" if sign else ""
    fraction = (fraction or "").rstrip("0").rstrip(".")
    return f"{day} {clock}{fraction} " + (f"{zone} {zone}" if zone else "+0000 UTC")


def type_name(value: object) -> str:
    """The Go type that errors and ``%T`` name."""
    for kinds, name in _TYPES:
        if isinstance(value, kinds):
            return name
    return "<nil>"


_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (int, "int"),
    (float, "float64"),
    (str, "string"),
    (dict, "map[string]interface {}"),
    (list, "[]interface {}"),
    (Row, "row"),
)


def sprintf(template: str, arguments: Sequence[object]) -> str:
    """``fmt.Sprintf``: a wrong, missing or extra argument shows in the result, as in Go."""
    position = 0

    def convert(match: re.Match[str]) -> str:
        nonlocal position
        verb = match["verb"]
        if verb == "%":
            return "%"
        if not verb:
            return "%!(NOVERB)"
        if position >= len(arguments):
            return f"%!{verb}(MISSING)"
        position += 1
        return _convert(match, arguments[position - 1])

    done = _VERB.sub(convert, template)
    extra = arguments[position:]
    if extra:
        shown = ", ".join(f"{type_name(item)}={text(item, True)}" for item in extra)
        done += f"%!(EXTRA {shown})"
    return done


def _convert(match: re.Match[str], value: object) -> str:
    verb, flags, width = match["verb"], match["flags"], match["width"]
    precision = match["precision"]
    if verb == "T":
        return _pad(type_name(value), flags, width)
    if verb == "t" and isinstance(value, bool):
        return _pad(text(value), flags, width)
    if verb in "dxXobcUq" and isinstance(value, int) and not isinstance(value, bool):
        return _integer(verb, flags, width, value)
    if verb in "feEgGF" and isinstance(value, float):
        return _real(verb, flags, width, precision, value)
    if verb == "v" or (verb in "sxXq" and not isinstance(value, (bool, int, float))):
        return _pad(_string(verb, flags, precision, value), flags, width)
    return f"%!{verb}({type_name(value)}={text(value, True)})"


def _string(verb: str, flags: str, precision: str | None, value: object) -> str:
    shown = quote(str(value)) if verb == "v" and "#" in flags and isinstance(value, str) else None
    shown = shown or text(value, True)
    if precision is not None and isinstance(value, str):
        shown = shown[: int(precision[1:] or 0)]
    if verb == "q":
        return quote(shown)
    if verb in "xX":
        return shown.encode().hex() if verb == "x" else shown.encode().hex().upper()
    return shown


def _integer(verb: str, flags: str, width: str, value: int) -> str:
    if verb == "c":
        return _pad(chr(value), flags, width)
    if verb == "q":
        return _pad("'" + quote(chr(value))[1:-1].replace('\\"', '"') + "'", flags, width)
    if verb == "U":
        return _pad(f"U+{value:04X}", flags, width)
    if verb == "b":
        return _pad(format(value, "b"), flags, width)
    return f"%{flags}{width}{verb}" % value


def _real(verb: str, flags: str, width: str, precision: str | None, value: float) -> str:
    if verb in "gG" and precision is None:
        return _pad(_float(value), flags, width)
    return f"%{flags}{width}{precision or ''}{verb}" % value


def _float(value: float) -> str:
    """The shortest digits that read back the same; an exponent from 1e6 and below 1e-4."""
    if value and not 1e-4 <= abs(value) < 1e6 and math.isfinite(value):
        digits = len(repr(value).partition("e")[0].replace(".", "").strip("-0"))
        return f"{value:.{digits - 1}e}"
    return repr(value).removesuffix(".0")


def _pad(shown: str, flags: str, width: str) -> str:
    size = int(width or 0)
    return shown.ljust(size) if "-" in flags else shown.rjust(size)


def quote(value: str) -> str:
    """``strconv.Quote``."""
    import json

    short = {"\\u0007": "\\a", "\\u000b": "\\v"}
    quoted = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\x7f")
    quoted = re.sub(r"\\u000[7b]", lambda match: short[match.group()], quoted)
    return re.sub(r"\\u00([01][0-9a-f])", r"\\x\1", quoted)


def to_json(value: object, escape_html: bool = False) -> str:
    """``encoding/json``: no blanks, maps sorted by key, structs in their order.

    ``escape_html`` writes ``<``, ``>`` and ``&`` as ``\\u003c`` …, as Go does by default.
    """
    import json

    encoded = json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":"))
    encoded = encoded.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    if escape_html:
        for character in "<>&":
            encoded = encoded.replace(character, f"\\u{ord(character):04x}")
    return encoded


def _ordered(value: object) -> object:
    if isinstance(value, (Absent, AbsentList, NoValue)):
        return None
    if isinstance(value, Row):
        return {key: value.fields[key] for key in sorted(value.fields)}
    if isinstance(value, dict):
        keys = value if isinstance(value, Struct) else sorted(value)
        return {key: _ordered(value[key]) for key in keys}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    return value
