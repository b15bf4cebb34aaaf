"""Writing a container's log: Docker's json-file format, rotated, never in the way.

One JSON object a line: ``{"log": "text\\n", "stream": "stdout", "time": "…"}``. A line longer
than 16 KiB is split, the parts without the newline, as Docker does. What the disk does not
take is dropped and counted: the container must not notice.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

from cnm.runtimeapi import LogOptions

LONGEST_LINE = 16 * 1024
STREAM_NAMES = {1: "stdout", 2: "stderr"}


class LogFile:
    """The open log of a running container."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._partial = dict.fromkeys(STREAM_NAMES, b"")
        self.dropped = 0  # bytes of output that were not written
        self._file = self._open()

    def write(self, stream: int, data: bytes) -> None:
        """Add output. A part of a line is kept until the rest of it comes."""
        data = self._partial[stream] + data
        lines = data.split(b"\n")
        rest = lines.pop()
        found = [part for line in lines for part in _split(line + b"\n")]
        while len(rest) >= LONGEST_LINE:
            found.append(rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
        self._partial[stream] = rest
        if found:
            self._write_lines(stream, found)

    def flush(self) -> None:
        """Write parts of lines: nothing will follow them."""
        for stream, rest in self._partial.items():
            if rest:
                self._partial[stream] = b""
                self._write_lines(stream, [rest])

    def close(self) -> None:
        self.flush()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write_lines(self, stream: int, lines: list[bytes]) -> None:
        tail = f',"stream":"{STREAM_NAMES[stream]}","time":"{_now()}"}}\n'
        text = "".join(
            f'{{"log":{json.dumps(line.decode("utf-8", "replace"), ensure_ascii=False)}{tail}'
            for line in lines
        )
        if not self._append(text.encode()):
            self.dropped += sum(len(line) for line in lines)

    def _append(self, data: bytes) -> bool:
        """All of it or nothing, so that the file holds whole lines only."""
        try:
            if self._file < 0:
                self._file = self._open()
            size = os.fstat(self._file).st_size
            if 0 < self._options.max_size_bytes < size + len(data) and size:
                self._rotate()
                size = 0
            if os.write(self._file, data) == len(data):
                return True
            os.ftruncate(self._file, size)
        except OSError:
            return False
        return False

    def _open(self) -> int:
        try:
            os.makedirs(os.path.dirname(self._options.path), exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            return os.open(self._options.path, flags, 0o640)
        except OSError:
            return -1

    def _rotate(self) -> None:
        """``log`` becomes ``log.1`` and so on; the oldest goes."""
        path = self._options.path
        os.close(self._file)
        self._file = -1
        for number in range(self._options.max_files - 1, 0, -1):
            older = path if number == 1 else f"{path}.{number - 1}"
            with contextlib.suppress(FileNotFoundError):
                os.rename(older, f"{path}.{number}")
        if self._options.max_files == 1:
            os.unlink(path)  # not truncated: readers keep what they have open
        self._file = self._open()
        if self._file < 0:
            raise OSError("log file cannot be opened")


def _split(line: bytes) -> list[bytes]:
    return [line[start : start + LONGEST_LINE] for start in range(0, len(line), LONGEST_LINE)]


def _now() -> str:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{nanoseconds:09d}Z", time.gmtime(seconds))
