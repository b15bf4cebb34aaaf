"""Progress of long work: one line that grows on a terminal, a line a step elsewhere."""

from __future__ import annotations

import threading
import time
from typing import Protocol, TextIO

_SPEAK_EVERY_S = 5.0  # not a terminal: a log of a build, which shall not look dead


class Progress(Protocol):
    """Told what is being done. May be called from several threads."""

    def begin(self, what: str, total: int) -> None:
        """A step of ``total`` parts starts; the one before is over."""

    def advance(self) -> None:
        """One part more is done."""

    def note(self, text: str) -> None:
        """Something worth a line of its own."""

    def end(self) -> None:
        """The last step is over."""


class Silent:
    """For the Python API."""

    def begin(self, what: str, total: int) -> None: ...
    def advance(self) -> None: ...
    def note(self, text: str) -> None: ...
    def end(self) -> None: ...


class Lines:
    """Writes to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._lock = threading.Lock()
        self._what = ""
        self._done = self._total = 0
        self._since = self._spoken = 0.0

    def begin(self, what: str, total: int) -> None:
        with self._lock:
            self._finish()
            self._what, self._done, self._total = what, 0, total
            self._since = self._spoken = time.monotonic()
            if self._terminal:
                self._write(f"\r{self._line()}")

    def advance(self) -> None:
        with self._lock:
            self._done += 1
            now = time.monotonic()
            if self._terminal:
                self._write(f"\r{self._line()}")
            elif now - self._spoken > _SPEAK_EVERY_S:
                self._write(f"{self._line()} …\n")
                self._spoken = now

    def note(self, text: str) -> None:
        with self._lock:
            if self._terminal and self._what:
                self._write(f"\r{' ' * len(self._line())}\r{text}\n{self._line()}")
            else:
                self._write(f"{text}\n")

    def end(self) -> None:
        with self._lock:
            self._finish()

    def _finish(self) -> None:
        if not self._what:
            return
        took = time.monotonic() - self._since
        start = "\r" if self._terminal else ""
        self._write(f"{start}{self._line()}  {took:.1f} s\n")
        self._what = ""

    def _line(self) -> str:
        return f"{self._what:<12} {self._done}/{self._total}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
