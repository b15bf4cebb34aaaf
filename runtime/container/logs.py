"""Reading a container's log, in the daemon: the last lines, a span of time, what comes next.

The writer (``logfile``) only appends whole lines and renames: so a reader that keeps a file
open and knows which one it is (device and inode) loses nothing by a rotation, unless so
many follow at once that its file is gone.
"""

from __future__ import annotations

import calendar
import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

_BLOCK = 64 * 1024
_FOLLOW_POLL_S = 0.05  # a person does not see less; a poll costs two fstat
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line, or a part of a long one. ``stamp`` is RFC 3339, as written."""

    stamp: str
    stream: str
    data: bytes

    @property
    def time_ns(self) -> int:
        """Nanoseconds since the epoch; 0 for a damaged stamp."""
        found = _TIME.fullmatch(self.stamp)
        if found is None:
            return 0
        seconds = calendar.timegm(time.strptime(found[1], "%Y-%m-%dT%H:%M:%S"))
        return seconds * 1_000_000_000 + int((found[2] or "").ljust(9, "0"))


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What is wanted; ``tail`` None: everything; times 0: no bound, both inclusive."""

    tail: int | None = None
    since_ns: int = 0
    until_ns: int = 0

    def takes(self, entry: LogEntry) -> bool:
        return self.since_ns <= entry.time_ns and not self.is_past(entry)

    def is_past(self, entry: LogEntry) -> bool:
        return bool(self.until_ns) and entry.time_ns > self.until_ns


def read(path: str, query: LogQuery) -> Iterator[LogEntry]:
    """What the log holds now. No log is an empty one."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(file) for file in _open_all(path)]
        yield from _selected(files, query)


def follow(path: str, query: LogQuery, ended: Callable[[], bool]) -> Iterator[LogEntry]:
    """What the log holds, then what comes, until ``ended`` (asked between polls) or ``until``."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(file) for file in _open_all(path)]
        yield from _selected(files, query)
        reader = _Follower(path, files[-1] if files else None)
        stack.callback(reader.close)
        over = False
        while not over:
            over = ended()  # asked before the last look, so that nothing is missed
            for entry in reader.news():
                if query.is_past(entry):
                    return
                if query.takes(entry):
                    yield entry
            if query.until_ns and time.time_ns() > query.until_ns:
                return
            if not over:
                time.sleep(_FOLLOW_POLL_S)


def remove(path: str) -> None:
    """Delete a log and its older files; gone is fine."""
    for name in _names(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _names(path: str) -> list[str]:
    """The files of a log, oldest first."""
    older: list[str] = []
    while os.path.exists(f"{path}.{len(older) + 1}"):
        older.append(f"{path}.{len(older) + 1}")
    return [*reversed(older), path]


def _open_all(path: str) -> list[BinaryIO]:
    found: list[BinaryIO] = []
    seen: set[tuple[int, int]] = set()
    for name in _names(path):
        try:
            file = open(name, "rb", buffering=_BLOCK)
        except FileNotFoundError:
            continue
        key = _identity(file)
        if key in seen:  # it was renamed while we looked
            file.close()
            continue
        seen.add(key)
        found.append(file)
    return found


def _identity(file: BinaryIO) -> tuple[int, int]:
    info = os.fstat(file.fileno())
    return info.st_dev, info.st_ino


def _selected(files: list[BinaryIO], query: LogQuery) -> Iterator[LogEntry]:
    left = _seek_tail(files, query.tail) if query.tail is not None else files
    for file in left:
        for entry in _entries(file):
            if query.is_past(entry):
                return
            if query.takes(entry):
                yield entry
    for file in files:
        if file not in left:
            file.seek(0, os.SEEK_END)


def _entries(file: BinaryIO) -> Iterator[LogEntry]:
    """Whole lines from here on; a line that is being written is left for later."""
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(start)
            return
        entry = _parse(line)
        if entry is not None:
            yield entry


def _parse(line: bytes) -> LogEntry | None:
    try:
        found = json.loads(line)
        return LogEntry(found["time"], found["stream"], found["log"].encode())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # a line that a crash has torn


def _seek_tail(files: list[BinaryIO], count: int) -> list[BinaryIO]:
    """Place the files so that reading on yields the last ``count`` lines; those with any."""
    wanted: list[BinaryIO] = []
    for file in reversed(files):
        if count <= 0:
            break
        count -= _seek_back(file, count)
        wanted.insert(0, file)
    return wanted


def _seek_back(file: BinaryIO, count: int) -> int:
    """Go to the start of the ``count`` last lines; how many lines follow from there."""
    position = file.seek(0, os.SEEK_END)
    found = 0
    while position > 0:
        size = min(_BLOCK, position)
        file.seek(position - size)
        block = file.read(size)
        end = len(block)
        while (end := block.rfind(b"\n", 0, end)) >= 0:
            if found == count:
                file.seek(position - size + end + 1)
                return count
            found += 1
        position -= size
    file.seek(0)
    return min(found, count)


class _Follower:
    """Reads on, over rotations."""

    def __init__(self, path: str, file: BinaryIO | None) -> None:
        self._path = path
        self._file = file
        self._own = False  # opened here, so closed here

    def news(self) -> Iterator[LogEntry]:
        """What was written since the last call."""
        while True:
            following = self._next()  # looked for first: what was written until then is read below
            if self._file is not None:
                yield from _entries(self._file)
            if following is None:
                return
            self.close()
            self._file, self._own = following, True

    def _next(self) -> BinaryIO | None:
        """The file after ours, if ours was rotated away (or there was none yet)."""
        files = _open_all(self._path)
        index = -1
        if self._file is not None:
            ours = _identity(self._file)
            index = next((n for n, file in enumerate(files) if _identity(file) == ours), -1)
        wanted = files[index + 1] if index + 1 < len(files) else None
        for file in files:
            if file is not wanted:
                file.close()
        return wanted

    def close(self) -> None:
        if self._own and self._file is not None:
            self._file.close()
