"""The programs: dispatch, help, statuses, what a start costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from unit.cli.answering import Answering
from unit.cli.conftest import CommandLine

import cnm as package
from cnm.cli.commands import CNM, NETWORK, Daemon, Entry, Group
from cnm.cli.main import run

START = "import sys; from cnm.cli.main import main; sys.exit(main())"
NOT_YET = (1, "", "not supported yet\n")


def program(*words: str, host: str = "unix:///nonexistent") -> list[str]:
    return [sys.executable, "-c", START, "-H", host, *words]


def commands(group: Group, path: str) -> Iterator[tuple[str, Entry]]:
    for name, entry in group.entries.items():
        if isinstance(entry, Group):
            yield from commands(entry, f"{path} {name}")
        elif isinstance(entry, Entry):
            yield f"{path} {name}", entry


COMMANDS = dict(commands(CNM, "cnm"))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help(cnm: CommandLine, path: str) -> None:
    status, out, err = cnm(f"{path.removeprefix('cnm ')} --help")
    assert (status, err) == (0, "")
    assert out.startswith(f"Usage:  {path}")
    assert "\nOptions:\n" in out
    assert "\nExamples:\n  cnm " in out
    assert all(len(line) <= 100 for line in out.splitlines())


@pytest.mark.parametrize("line", ["", "--help", "-h", "help"])
def test_top_level_help(cnm: CommandLine, line: str) -> None:
    status, out, _ = cnm(line)
    assert status == 0
    assert out.startswith("Usage:  cnm [OPTIONS] COMMAND\n")
    assert "\nExamples:\n  cnm daemon\n" in out


def test_help_of_groups_and_aliases(cnm: CommandLine) -> None:
    assert cnm("net").out.startswith("Usage:  cnm net COMMAND\n")
    assert cnm("network list --help").out == cnm("help net ls").out
    assert "Aliases:\n  cnm net ls, cnm net list\n" in cnm("net ls --help").out


def test_the_program_net(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("net", NETWORK, ["ls", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage:  net ls [OPTIONS]\n")
    assert run("net", NETWORK, ["rm"]) == 1
    assert capsys.readouterr().err.startswith("net: 'net rm' requires at least 1 argument\n")
    assert run("net", NETWORK, ["--version"]) == 0
    assert capsys.readouterr().out == f"net version {package.__version__}\n"


def test_version_flag(cnm: CommandLine) -> None:
    assert cnm("-v") == cnm("--version") == (0, f"cnm version {package.__version__}\n", "")


@pytest.mark.parametrize(
    "line",
    [
        *(f"{name} x --whatever" for name in sorted(CNM.unbuilt)),
        *(f"net {name} x --whatever" for name in sorted(NETWORK.unbuilt)),
        "service --help",
    ],
)
def test_not_supported_yet(cnm: CommandLine, line: str) -> None:
    assert cnm(line) == NOT_YET


@pytest.mark.parametrize(
    ("line", "status", "problem", "usage"),
    [
        ("foo", 1, "cnm: unknown command: cnm foo", None),
        ("net foo", 1, "cnm: unknown command: cnm net foo", "Usage:  cnm net"),
        ("net --foo ls", 125, "unknown flag: --foo", "Usage:  cnm net"),
        ("--foo", 125, "unknown flag: --foo", "Usage:  cnm [OPTIONS] COMMAND [ARG...]"),
        ("-x net", 125, "unknown shorthand flag: 'x' in -x", None),
        ("net ls --foo", 125, "unknown flag: --foo", "Usage:  cnm net ls [OPTIONS]"),
    ],
)
def test_usage_errors(
    cnm: CommandLine, line: str, status: int, problem: str, usage: str | None
) -> None:
    outcome = cnm(line)
    assert (outcome.status, outcome.out) == (status, "")
    lines = outcome.err.splitlines()
    assert lines[0] == problem
    assert usage is None or usage in lines
    assert lines[-1].endswith("--help' for more information")


def test_host_flag_wins(
    server: Answering, cnm: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer("GET", "/networks", [])
    assert cnm(f"-H {server.host} net ls").status == 0
    assert cnm(f"--host={server.host} net ls -q") == (0, "", "")
    monkeypatch.setenv("CNM_HOST", "")
    assert "unix:///run/cnm/cnm.sock" in cnm("--help").out


def test_the_daemon_reads_its_own_flags() -> None:
    for entry in ("daemon", "uninstall"):
        assert isinstance(CNM.entries[entry], Daemon)
        words = [sys.executable, "-c", START, entry, "--help"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert f"usage: cnm {entry}" in done.stdout
        assert "--exec-root" in done.stdout


def test_start_loads_nothing_heavy(server: Answering) -> None:
    server.answer("GET", "/networks", [])
    code = (
        "import sys; from cnm.cli.main import run; from cnm.cli.commands import CNM; "
        "assert not run('cnm', CNM, sys.argv[1:]); print(*sys.modules)"
    )
    words = [sys.executable, "-c", code, "-H", server.host, "net", "ls"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"pydantic", "fastapi", "pyroute2", "nftables", "uvicorn", "yaml", "dnslib"}
    slow = {"http.client", "email", "ssl", "asyncio", "argparse", "dataclasses", "logging"}
    ours = {"cnm.cli.template", "cnm.cli.completion", "cnm.cli.usage", "cnm.types", "cnm.daemon"}
    assert "cnm.cli.network" in loaded
    assert not loaded & (heavy | slow | ours)


def test_all_commands_are_standard_library_only() -> None:
    modules = sorted({entry.module for entry in COMMANDS.values()})
    code = (
        "import sys; from importlib import import_module; "
        f"[import_module('cnm.cli.' + name) for name in {modules}]; "
        "print(*(m for m in sys.modules if m.startswith('cnm.') or '.' not in m))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    allowed = sys.stdlib_module_names | {"cnm", "cnm.detachkeys", "__main__"}  # itself of no more
    foreign = {
        name
        for name in done.stdout.split()
        if not name.startswith(("cnm.cli", "__editable__", "_virtualenv"))
        and name not in allowed
        and not name.startswith(("_distutils", "distutils", "sitecustomize"))
    }
    assert foreign == set()


def test_interrupt_is_silent(server: Answering) -> None:
    server.hold("GET", "/events")
    words = ["env", "--default-signal", *program("events", host=server.host)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        assert server.asked.wait(30)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=30)
    assert (command.returncode, out, err) == (130, b"", b"")


def test_closed_output_is_silent() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        words = program("--help")
        done = subprocess.run(words, stdout=closed, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, b"")


def test_full_disk_is_told() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(program("--help"), stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"cnm: No space left on device\n")
