"""Reading containers' logs: Docker's json-file format, rotated files first.

One JSON object a line: ``{"log": "text\\n", "stream": "stdout", "time": "…"}``. The runtime
writes whole lines only and renames ``log`` to ``log.1`` when it rotates.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cnm.core.containerfiles import ContainerFiles
from cnm.types import SandboxID

STREAMS = {"stdout": 1, "stderr": 2}
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One piece of output. ``stream`` is 1 or 2, ``time`` RFC 3339 with nanoseconds."""

    stream: int
    time: str
    data: bytes

    @property
    def time_ns(self) -> int:
        """Nanoseconds since the epoch."""
        seconds, _, fraction = self.time.rstrip("Z").partition(".")
        moment = datetime.datetime.fromisoformat(f"{seconds}+00:00")
        return int(moment.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0)


@dataclass(frozen=True, slots=True)
class LogWish:
    """What a reader wants. ``lines`` None: all; times 0: no limit."""

    stdout: bool = True
    stderr: bool = True
    lines: int | None = None
    since_ns: int = 0
    until_ns: int = 0

    def takes(self, entry: LogEntry) -> bool:
        """Whether an entry is wanted."""
        if not (self.stdout if entry.stream == STREAMS["stdout"] else self.stderr):
            return False
        if not (self.since_ns or self.until_ns):
            return True
        when = entry.time_ns
        return when >= self.since_ns and not (self.until_ns and when > self.until_ns)


class Logs:
    """All containers' logs."""

    def __init__(self, files: ContainerFiles) -> None:
        self._files = files

    def open(self, container_id: SandboxID) -> LogReader:
        """A reader that can go on after the end; to be closed."""
        return LogReader(self._files.log(container_id))


class LogReader:
    """One reader's place in a log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def begin(self, wish: LogWish) -> Iterator[LogEntry]:
        """What is there now; afterwards :meth:`more` goes on from here."""
        lines: Iterable[bytes] = self._all_lines()
        if wish.lines is not None:
            lines = collections.deque(lines, maxlen=wish.lines)
        for line in lines:
            entry = _parse(line)
            if entry is not None and wish.takes(entry):
                yield entry

    def more(self, wish: LogWish) -> Iterator[LogEntry]:
        """What has come since, over any rotation."""
        for line in [*self._new_lines(), *self._after_rotation()]:
            entry = _parse(line)
            if entry is not None and wish.takes(entry):
                yield entry

    def close(self) -> None:
        """Done."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _all_lines(self) -> Iterator[bytes]:
        self._open()
        for path in self._rotated():
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                yield from file
        yield from self._new_lines()

    def _rotated(self) -> list[Path]:
        """Oldest first."""
        found: list[tuple[int, Path]] = []
        for path in self._path.parent.glob(f"{self._path.name}.*"):
            number = path.name.rpartition(".")[2]
            if number.isdigit():
                found.append((int(number), path))
        return [path for _, path in sorted(found, reverse=True)]

    def _open(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._file = self._path.open("rb")

    def _new_lines(self) -> Iterator[bytes]:
        if self._file is None:
            self._open()
        while self._file is not None and (piece := self._file.read(_PIECE)):
            *lines, self._rest = (self._rest + piece).split(b"\n")
            yield from lines

    def _after_rotation(self) -> Iterator[bytes]:
        if self._file is None:
            return
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self._path).st_ino == os.fstat(self._file.fileno()).st_ino:
                return
            yield from self._new_lines()  # what came between the last look and the rotation
            self.close()
            self._rest = b""
            yield from self._new_lines()


def _parse(line: bytes) -> LogEntry | None:
    try:
        document = json.loads(line)
        return LogEntry(STREAMS[document["stream"]], document["time"], document["log"].encode())
    except (ValueError, KeyError, TypeError):
        return None  # a line that a full disk cut off
