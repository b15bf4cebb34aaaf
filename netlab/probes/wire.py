"""What passes a wire: packets counted at an interface, by tcpdump."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from typing import IO

from cnm.netlab.errors import LabError
from cnm.netlab.probes.outcome import Outcome

_LISTENING_WITHIN_S = 10.0
_GRACE_S = 0.3  # for what the last packet of the traffic sets off
_NOTHING_S = 0.02


def count(
    netns: str,
    interface: str,
    expression: str,
    at_least: int,
    during: Callable[[], Outcome] | None,
    seconds: float,
) -> Outcome:
    """Packets that match while something runs, or for some seconds.

    :raises LabError: the filter is none (tcpdump's own words).
    """
    command = ["nsenter", f"--net={netns}", "tcpdump", "-i", interface, "-n", "-l", "-q", "-t"]
    command += ["--immediate-mode", "-c", str(at_least), "--", expression]
    with subprocess.Popen(
        command if expression else command[:-2],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        try:
            _wait_until_it_listens(process.stderr)
            traffic = during() if during is not None else None
            _wait_for_end(process, _GRACE_S if traffic is not None else seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        lines = [line for line in process.stdout.read().splitlines() if line.strip()]
    seen = f"{len(lines)} packets"
    if traffic is not None and not traffic.held:
        seen += f" ({traffic.detail})"
    return Outcome(len(lines) >= at_least, seen)


def _wait_until_it_listens(stream: IO[bytes]) -> None:
    text = b""
    deadline = time.monotonic() + _LISTENING_WITHIN_S
    while b"listening on" not in text:
        ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(stream.fileno(), 4096) if ready else b""
        text += data
        if not data:
            said = text.decode(errors="replace").strip().splitlines()
            raise LabError(said[-1] if said else "tcpdump does not start")


def _wait_for_end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """It ends by itself when it has seen enough."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(seconds, _NOTHING_S))
