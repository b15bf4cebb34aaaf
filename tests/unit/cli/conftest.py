"""A daemon that says what it is told, and a command line that talks to it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from unit.cli.answering import Answering

from cnm.cli.commands import CNM
from cnm.cli.main import run


class Outcome(NamedTuple):
    """What a command left: status and texts."""

    status: int
    out: str
    err: str


CommandLine = Callable[[str], Outcome]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answering]:
    """A server that answers what the test says."""
    folder: Path = tmp_path_factory.mktemp("s")  # short: paths of sockets are limited
    answering = Answering(folder / "s")
    yield answering
    answering.close()


@pytest.fixture
def cnm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> CommandLine:
    """Runs ``cnm …``. Without a server there is no daemon at its address."""
    monkeypatch.setenv("CNM_HOST", "unix:///nonexistent/cnm.sock")

    def call(line: str) -> Outcome:
        status = run("cnm", CNM, shlex.split(line))
        return Outcome(status, *capsys.readouterr())

    return call


@pytest.fixture
def served(server: Answering, cnm: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Runs ``cnm …`` against the server."""
    monkeypatch.setenv("CNM_HOST", server.host)
    return cnm
