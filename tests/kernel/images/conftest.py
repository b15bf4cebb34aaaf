"""An image store of its own for each test; nothing may be left in its workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from unit.images.tars import Dribble

from cnm.runtime.container.archive import Limits, TarReader
from cnm.runtime.container.imagestore import ImageStore
from cnm.runtime.container.imagestream import Measured
from cnm.runtime.container.layers import unpack

Unpack = Callable[[bytes], Path]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    made = ImageStore(tmp_path / "images")
    yield made
    assert list((tmp_path / "images/tmp").iterdir()) == []
    assert ImageStore(tmp_path / "images").repairs == ()


@pytest.fixture
def unpacked(tmp_path: Path) -> Unpack:
    """Unpacks a tar as one layer; the directory."""

    def make(data: bytes) -> Path:
        tree = tmp_path / "tree"
        tree.mkdir()
        measured = Measured(Dribble(data, 4096), "the layer", Limits().archive_bytes)
        unpack(TarReader(measured, "the layer", Limits()), tree, "the layer")
        return tree

    return make
