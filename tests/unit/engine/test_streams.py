"""Pure parts of streams: frames, the rows of ps."""

from __future__ import annotations

import pytest

from cnm.engine import processes
from cnm.engine.streaming import LogShape, frame
from cnm.errors import InvalidParameter
from cnm.runtime.container.logs import LogEntry


def test_pieces_of_a_log() -> None:
    entry = LogEntry("2026-01-01T00:00:00.5Z", "stderr", b"x\n")
    assert LogShape(True, True, framed=True).piece(entry) == b"\x02\0\0\0\0\0\0\x02x\n"
    assert LogShape(True, True, False, True).piece(entry) == b"2026-01-01T00:00:00.5Z x\n"
    assert LogShape(True, False, framed=True).piece(entry) == b""
    assert frame(1, b"") == b"\x01\0\0\0\0\0\0\0"


def test_rows_of_ps() -> None:
    text = "UID PID CMD\nroot 1 init\nme 22 sh -c x y\n"
    assert processes.parse(text, {22}) == {
        "Titles": ["UID", "PID", "CMD"],
        "Processes": [["me", "22", "sh -c x y"]],
    }
    with pytest.raises(InvalidParameter, match="Couldn't find PID"):
        processes.parse("CMD\nsh\n", {1})
