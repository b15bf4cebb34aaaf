"""Docker's stream frames, and the keys that detach a terminal.

A frame is a header of eight bytes (stream, three zeros, length, big-endian) and its
payload. It may arrive in any number of pieces. Source: Engine API, "Attach to a
container", Stream format.
"""

from __future__ import annotations

from collections.abc import Iterator

from cnm.cli.errors import CommandError

STDERR = 2
_SYSTEM_ERROR = 3
_HEADER = 8
_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"  # ctrl-@ is 0, ctrl-a 1, …
_DELETE = 127
DETACH_KEYS = "ctrl-p,ctrl-q"


class Demultiplexer:
    """Takes a stream of frames apart. Payloads are passed on as they come, not frame by frame."""

    def __init__(self) -> None:
        self._header = b""
        self._stream = 0
        self._left = 0
        self._trouble = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The stream and the content of each payload in ``data``.

        :raises CommandError: for an error that the daemon sent, or what is no frame.
        """
        while data:
            if self._left:
                payload, data = data[: self._left], data[self._left :]
                self._left -= len(payload)
                yield from self._pass_on(payload)
                continue
            missing = _HEADER - len(self._header)
            self._header, data = self._header + data[:missing], data[missing:]
            if len(self._header) == _HEADER:
                self._begin()

    def _begin(self) -> None:
        self._stream, self._left = self._header[0], int.from_bytes(self._header[4:], "big")
        self._header = b""
        if self._stream > _SYSTEM_ERROR:
            raise CommandError(f"Unrecognized input header: {self._stream}")

    def _pass_on(self, payload: bytes) -> Iterator[tuple[int, bytes]]:
        if self._stream != _SYSTEM_ERROR:
            yield self._stream, payload
            return
        self._trouble += payload
        if not self._left:
            raise CommandError(f"error from daemon in stream: {self._trouble.decode()}")


class DetachKeys:
    """Finds the keys in what is typed; holds back what may be their beginning."""

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


def detach_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` as bytes.

    :raises CommandError: for a key that there is not.
    """
    return bytes(_key(name) for name in text.split(","))


def _key(name: str) -> int:
    if len(name) == 1 and name.isascii():
        return ord(name)
    control = name.removeprefix("ctrl-")
    if control != name and len(control) == 1 and control in _CONTROL:
        return _CONTROL.index(control)
    if name == "DEL":
        return _DELETE
    raise CommandError(f"invalid detach keys: Unknown character: '{name}'")
