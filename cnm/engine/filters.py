"""The ``filters`` parameter, and booleans of a query, as Docker's clients write them.

Different keys must all match; several values of one key are alternatives, but for
labels, where all must match.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cnm.engine import expression
from cnm.errors import InvalidParameter

_FALSE = {"", "0", "no", "false", "none"}
_EXPRESSIONS = {"name", "id"}  # keys whose values are regular expressions


def truth(text: str) -> bool:
    """A boolean of a query: clients write ``1``, ``true``, ``True``, …"""
    return text.strip().lower() not in _FALSE


@dataclass(frozen=True, slots=True)
class Filters:
    """Wanted values by key. A key that is absent matches everything."""

    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, accepted: Collection[str] | None = None) -> Filters:
        """Reads both shapes: ``{"name": {"x": true}}`` (CLI) and ``{"name": ["x"]}`` (docker-py).

        :raises InvalidParameter: not such JSON, a key that is not ``accepted``, or an
            expression that could take long to match.
        """
        if not text:
            return cls()
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidParameter("invalid filter") from None
        if document is None:
            return cls()
        if not isinstance(document, dict):
            raise InvalidParameter("invalid filter")
        values = {key: _values(wanted) for key, wanted in document.items()}
        for key in values:
            if accepted is not None and key not in accepted:
                raise InvalidParameter(f"invalid filter '{key}'")
        for key in values.keys() & _EXPRESSIONS:
            for wanted in values[key]:
                expression.check(key, wanted)
        return cls({key: items for key, items in values.items() if items})

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str) -> tuple[str, ...]:
        """The values of a key, none if it is absent."""
        return self.values.get(key, ())

    def exact(self, key: str, *texts: str) -> bool:
        """One of the values equals one of the texts."""
        return key not in self.values or any(text in self.values[key] for text in texts)

    def prefix(self, key: str, *texts: str) -> bool:
        """One of the values is the beginning of one of the texts."""
        return key not in self.values or any(text.startswith(self.values[key]) for text in texts)

    def pattern(self, key: str, *texts: str) -> bool:
        """One of the values equals one of the texts or is found in it as a regular expression."""
        if key not in self.values:
            return True
        return any(expression.found(value, text) for value in self.values[key] for text in texts)

    def labels(self, key: str, labels: Mapping[str, str]) -> bool:
        """All values, each ``k`` or ``k=v``, are among the labels."""
        for wanted in self.get(key):
            name, equals, value = wanted.partition("=")
            if name not in labels or (equals and labels[name] != value):
                return False
        return True

    def boolean(self, key: str) -> bool | None:
        """``true``/``1`` or ``false``/``0``; None if the key is absent.

        :raises InvalidParameter: something else, or both.
        """
        if key not in self.values:
            return None
        wanted = set(self.values[key])
        yes, no = bool(wanted & {"1", "true"}), bool(wanted & {"0", "false"})
        if yes == no:
            raise InvalidParameter(
                f'invalid value for filter \'{key}\', must be "true" (or "1"), or "false" (or "0")'
            )
        return yes


def _values(wanted: object) -> tuple[str, ...]:
    """A list's items; of an object the keys that are true. A single text stands for itself."""
    match wanted:
        case dict():
            return tuple(str(value) for value, on in wanted.items() if on)
        case list():
            return tuple(str(value) for value in wanted)
        case str():
            return (wanted,)
        case None:
            return ()
        case _:
            raise InvalidParameter("invalid filter")
