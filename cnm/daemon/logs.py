"""The daemon's log: one line a record on standard error."""

from __future__ import annotations

import logging
import sys
import time

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
_NAMES = {number: name for name, number in LEVELS.items()}


class OneLine(logging.Formatter):
    """``2026-01-31T12:00:00.123Z info message``; more lines only for a traceback when debugging."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        level = _NAMES.get(record.levelno, record.levelname.lower())
        text = f"{seconds}.{int(record.msecs):03d}Z {level} {one_line(record.getMessage())}"
        if record.exc_info and logging.getLogger().isEnabledFor(logging.DEBUG):
            text += "\n" + self.formatException(record.exc_info)
        return text


def one_line(text: str) -> str:
    """Docker's texts of several faults have a line for each."""
    return "; ".join(text.replace(":\n", ": ").splitlines())


def start(level: str) -> None:
    """Send everything to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logging.raiseExceptions = False  # a reader of our log that went away is no reason to die
    set_level(level)


def set_level(level: str) -> None:
    """Change what is logged from now on."""
    logging.getLogger().setLevel(LEVELS[level])
    # what others' libraries tell about themselves is of no use to whoever runs networks
    for name in ("uvicorn", "asyncio", "pyroute2"):
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))
    # the frame has logged the error already, in one line
    logging.getLogger("uvicorn.error").addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    return record.exc_info is None
