"""What the tests of a file share: a daemon that they only ask things, or one beside dockerd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from livedaemon import LiveDaemon
from peers.pair import Pair, plugged


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    """A running daemon; tests make networks with names of their own."""
    with LiveDaemon(tmp_path_factory.mktemp("live")) as daemon:
        yield daemon.start()


@pytest.fixture(scope="module")
def plugged_pair() -> Iterator[Pair]:
    """A dockerd that has our drivers as plugins, and our daemon, on one host."""
    with plugged() as made:
        yield made


@pytest.fixture
def pair(plugged_pair: Pair) -> Iterator[Pair]:
    """Both running, with nothing made; and so again afterwards."""
    if not plugged_pair.ours.running:
        plugged_pair.ours.start()
    yield plugged_pair
    plugged_pair.clear()
