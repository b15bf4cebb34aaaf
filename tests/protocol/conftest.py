"""One daemon for all tests of a file that only ask it things."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from livedaemon import LiveDaemon


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    """A running daemon; tests make networks with names of their own."""
    with LiveDaemon(tmp_path_factory.mktemp("live")) as daemon:
        yield daemon.start()
