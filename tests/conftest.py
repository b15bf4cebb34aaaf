"""Fixtures for everybody."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from livedaemon import LiveDaemon

DaemonFactory = Callable[..., LiveDaemon]


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonFactory]:
    """``daemon(*flags, netns=…, start=True)``: a real daemon, gone after the test.

    Each has fresh folders; without ``netns`` also a fresh network namespace.
    """
    with contextlib.ExitStack() as stack:

        def make(*flags: str, netns: str | None = None, start: bool = True) -> LiveDaemon:
            folder: Path = tmp_path_factory.mktemp("d")  # short: paths of sockets are limited
            live = stack.enter_context(LiveDaemon(folder, flags, netns))
            return live.start() if start else live

        yield make
