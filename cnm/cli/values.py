"""What templates and listings handle: JSON's values with the types that Go gives them.

JSON objects come in three kinds. A plain ``dict`` is a Go map: printed as
``map[k:v]``, its keys sorted. A ``Struct`` is a Go struct: printed as ``{a b}``
in the order of its fields. A ``Row`` is one line of a listing, whose fields are
texts and whose methods can be called by a template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


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
