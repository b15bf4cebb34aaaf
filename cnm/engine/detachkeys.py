"""The keys that leave a terminal and let the process run: ctrl-p ctrl-q, or others."""

from __future__ import annotations

from cnm.errors import InvalidParameter

DEFAULT = b"\x10\x11"  # ctrl-p, ctrl-q
_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` or ``a,b``; empty is the default.

    :raises InvalidParameter: with Docker's text.
    """
    if not text:
        return DEFAULT
    return bytes(_key(key, text) for key in text.split(","))


def _key(key: str, whole: str) -> int:
    letter = key.removeprefix("ctrl-")
    if len(letter) == 1 and letter.isascii():
        if letter == key:
            return ord(key)
        if letter.isalpha():
            return ord(letter.lower()) - ord("a") + 1
        if letter in _CONTROL:
            return _CONTROL[letter]
    raise InvalidParameter(f"Invalid escape keys ({whole}): Unknown character: '{key}'")


class Escape:
    """Looks for the keys in what is typed, over any split into pieces."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the keys were typed. A beginning is held back."""
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(passed), True
                continue
            passed += self._keys[: self._matched]
            self._matched = 1 if byte == self._keys[0] else 0
            if not self._matched:
                passed.append(byte)
        return bytes(passed), False
