"""Frames, quantities: pure logic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.cli.errors import CommandError
from cnm.cli.frames import Demultiplexer
from cnm.cli.quantities import Malformed, limit, nano_cpus, shown_size, size_in_bytes


def frame(stream: int, content: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(content).to_bytes(4, "big") + content


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, over and over."""
    pieces: list[bytes] = []
    while data:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=20)), max_size=8),
    st.lists(st.integers(1, 12), min_size=1, max_size=5),
)
def test_frames_in_any_pieces(frames: list[tuple[int, bytes]], sizes: list[int]) -> None:
    demultiplexer = Demultiplexer()
    found = {1: b"", 2: b""}
    for piece in cut(b"".join(frame(*item) for item in frames), sizes):
        for stream, content in demultiplexer.feed(piece):
            found[stream] += content
    assert found == {
        number: b"".join(content for stream, content in frames if stream == number)
        for number in (1, 2)
    }


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (frame(3, b"gone"), "error from daemon in stream: gone"),
        (frame(4, b"x"), "Unrecognized input header: 4"),
    ],
)
def test_frames_that_are_errors(data: bytes, problem: str) -> None:
    demultiplexer = Demultiplexer()
    *pieces, last = cut(data, [1]) if data[0] == 3 else cut(data, [8])[:1]
    assert [item for piece in pieces for item in demultiplexer.feed(piece)] == []
    with pytest.raises(CommandError, match=problem):
        list(demultiplexer.feed(last))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32", 32),
        ("32b", 32),
        ("32k", 32 << 10),
        ("32 KiB", 32 << 10),
        ("1.5gb", 3 << 29),
        (".5t", 1 << 39),
        ("2P", 2 << 50),
        ("32.", 32),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "k", "-1", "5q", "5kbx", "5bb", "5mb b", "1e400", "5 5k", "1..2"]
)
def test_bad_sizes(text: str) -> None:
    with pytest.raises(Malformed):
        size_in_bytes(text)


def test_processors() -> None:
    assert nano_cpus("1.5") == nano_cpus("3/2") == 1_500_000_000
    for text in ("", "x", "1/0", "0.0000000001"):
        with pytest.raises(Malformed):
            nano_cpus(text)


def test_limits() -> None:
    assert limit("nofile=5:6") == {"Name": "nofile", "Soft": 5, "Hard": 6}
    assert limit("core=-1") == {"Name": "core", "Soft": -1, "Hard": -1}


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (4_260_000, "4.26MB"), (77_900_000, "77.9MB")],
)
def test_shown_sizes(size: int, shown: str) -> None:
    assert shown_size(size) == shown
