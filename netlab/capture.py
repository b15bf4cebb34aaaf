"""Packets of a wire or a container's interface, shown or written: tcpdump at the right place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from cnm.netlab.errors import LabError


@dataclass(frozen=True, slots=True)
class Tap:
    """Where is listened: an interface in a namespace."""

    namespace: str
    interface: str


def command(
    tap: Tap, expression: str, write: str | None, count: int | None, seconds: float | None
) -> list[str]:
    """The command that captures, until it is interrupted, or has seen or waited enough."""
    words = ["nsenter", f"--net={tap.namespace}"]
    if seconds is not None:
        words += ["timeout", "--foreground", "--signal=INT", str(seconds)]
    words += ["tcpdump", "-i", tap.interface, "-n", "--immediate-mode", "-U"]
    words += ["-w", write] if write is not None else ["-l"]
    words += ["-c", str(count)] if count is not None else []
    # a capture must not become another user's: the file is root's, as what is in it
    words += ["-Z", "root"]
    return [*words, "--", *([expression] if expression else [])]


def run(
    tap: Tap,
    expression: str = "",
    write: str | None = None,
    count: int | None = None,
    seconds: float | None = None,
) -> int:
    """Capture in the foreground; the status. ``-`` as a file: a pcap to standard output.

    :raises LabError: tcpdump is not there.
    """
    sys.stdout.flush()
    words = command(tap, expression, write, count, seconds)
    try:
        with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
            status = _wait(process)
    except FileNotFoundError as error:
        raise LabError("tcpdump is not installed: apt-get install tcpdump") from error
    return 0 if status in (0, 124) else status  # 124: the time of timeout(1) is up


def start(tap: Tap, expression: str, write: str) -> subprocess.Popen[bytes]:
    """Capture into a file in the background; the caller ends it with SIGINT."""
    words: Sequence[str] = command(tap, expression, os.path.abspath(write), None, None)
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Ctrl-C is tcpdump's to answer: it prints its counts and ends."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
