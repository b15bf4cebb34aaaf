"""How Go prints values: ``fmt``'s ``%v`` and ``Printf``, and JSON as ``encoding/json``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from cnm.cli.display import go_time
from cnm.cli.values import NO_VALUE, Absent, AbsentList, NoValue, Row, Struct, Time

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
