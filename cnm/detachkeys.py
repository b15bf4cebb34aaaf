"""The keys that leave a terminal and let its process run: ctrl-p ctrl-q, or others.

Both ends look for them, the command for itself and the API for clients that leave it to the
daemon. Names and matching are those of Docker (github.com/moby/term, ``ascii.go``, ``proxy.go``).
"""

from __future__ import annotations

DEFAULT = "ctrl-p,ctrl-q"
_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"  # ctrl-@ is 0, ctrl-a 1, …
_DELETE = 127


def parse(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` or ``a,b,DEL`` as bytes; empty is the default.

    :raises ValueError: for a key that there is not; the text names it.
    """
    return bytes(_key(name) for name in (text or DEFAULT).split(","))


def _key(name: str) -> int:
    if len(name) == 1 and name.isascii():
        return ord(name)
    control = name.removeprefix("ctrl-")
    if control != name and len(control) == 1 and control in _CONTROL:
        return _CONTROL.index(control)
    if name == "DEL":
        return _DELETE
    raise ValueError(f"Unknown character: '{name}'")


class DetachKeys:
    """Looks for the keys in what is typed, over any split into pieces.

    A beginning is held back. A key that breaks it off is no new beginning, as in Docker.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What goes to the process, and whether the keys are complete."""
        passed = bytearray()
        for byte in typed:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(passed), True
                continue
            passed += self._keys[: self._matched]
            passed.append(byte)
            self._matched = 0
        return bytes(passed), False
