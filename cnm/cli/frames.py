"""Docker's stream frames.

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
