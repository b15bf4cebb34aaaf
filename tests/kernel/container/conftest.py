"""Stages for the container tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.container.stage import Stage, make_root


@pytest.fixture(scope="session")
def busybox_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system, never written to."""
    return make_root(tmp_path_factory.mktemp("root"))


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory, busybox_root: Path) -> Iterator[Stage]:
    """A runtime with no container; nothing of it stays behind."""
    made = Stage(tmp_path_factory.mktemp("c"), busybox_root)
    try:
        yield made
    finally:
        made.close()
