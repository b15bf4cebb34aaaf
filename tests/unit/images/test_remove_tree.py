"""Trees that a container made to be hard to remove."""

from __future__ import annotations

import os
from pathlib import Path

from cnm.runtime.container.imagefs import remove_tree

_DEPTH = 3000  # deeper than Python's stack, and than most limits of descriptors


def test_a_tree_deeper_than_our_stack(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    place = os.open(top, os.O_RDONLY)
    for _ in range(_DEPTH):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    remove_tree(top)
    assert not top.exists()
    remove_tree(top)
