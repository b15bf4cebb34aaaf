"""Fixtures for everybody."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from livedaemon import LiveDaemon

if "CNM_VM" not in os.environ:  # none of its tests run in there, and it takes 5 s to import
    from hypothesis import settings

    # How long an example takes says how busy the machine is.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")

pytest_plugins = ["secondkernel.plugin"]

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests recorded (``record_property``), also from several workers: seeds, ranges."""
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {key} {value}"
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for key, value in report.user_properties
    ]
    if lines:
        terminalreporter.section("recorded")
        for line in sorted(lines):
            terminalreporter.line(line)
