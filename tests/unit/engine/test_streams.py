"""Pure parts of streams: detach keys, frames, the rows of ps."""

from __future__ import annotations

import pytest

from cnm.engine import detachkeys, processes
from cnm.engine.detachkeys import Escape
from cnm.engine.streaming import LogShape, frame
from cnm.errors import InvalidParameter
from cnm.runtime.container.logs import LogEntry


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-A,x", b"\x01x"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
    ],
)
def test_detach_keys(text: str, keys: bytes) -> None:
    assert detachkeys.parse(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ab", "ctrl-1", "a,,b", "ä"])
def test_no_detach_keys(text: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid escape keys"):
        detachkeys.parse(text)


@pytest.mark.parametrize(
    ("typed", "passed", "left"),
    [
        ([b"ab"], b"ab", False),
        ([b"a\x10\x11b"], b"a", True),
        ([b"a\x10", b"\x11"], b"a", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
    ],
)
def test_keys_over_pieces(typed: list[bytes], passed: bytes, left: bool) -> None:
    escape, found, ended = Escape(detachkeys.DEFAULT), b"", False
    for piece in typed:
        data, ended = escape.feed(piece)
        found += data
    assert (found, ended) == (passed, left)


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
