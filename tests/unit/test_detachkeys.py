"""Keys that detach a terminal: their names, and how they are found in what is typed."""

from __future__ import annotations

import pytest

from cnm.detachkeys import DEFAULT, DetachKeys, parse


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([b"\x10\x11"], b"", True),
        ([b"a\x10", b"\x11b"], b"a", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10\x10\x11", False),  # as Docker: no second beginning
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_keys_over_pieces(typed: list[bytes], passed: bytes, detached: bool) -> None:
    keys = DetachKeys(parse(DEFAULT))
    results = [keys.feed(piece) for piece in typed]
    assert b"".join(content for content, _ in results) == passed
    assert results[-1][1] is detached


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-@,ctrl-a,ctrl-_", b"\x00\x01\x1f"),
        ("a,ctrl-\\,DEL", b"a\x1c\x7f"),
        ("ctrl-[,ctrl-],ctrl-^", b"\x1b\x1d\x1e"),
    ],
)
def test_names_of_keys(names: str, keys: bytes) -> None:
    assert parse(names) == keys


@pytest.mark.parametrize("names", ["ctrl-", "ctrl-P", "ctrl-1", "ab", "a,,b", "é"])
def test_bad_names_of_keys(names: str) -> None:
    with pytest.raises(ValueError, match="Unknown character: "):
        parse(names)
