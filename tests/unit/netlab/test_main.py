"""The program: finding sub-commands, help, statuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cnm.netlab import main


def netlab(*words: str) -> tuple[int, str, str]:
    code = "import sys; from cnm.netlab.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_help_names_every_command() -> None:
    status, out, err = netlab("--help")
    assert (status, err) == (0, "")
    for name, entry in main.COMMANDS.items():
        assert f"    {name} " in out
        assert entry.short in out
    assert netlab() == (0, out, "")


def test_version() -> None:
    status, out, _ = netlab("--version")
    assert (status, out.split()[:2]) == (0, ["netlab", "version"])


def test_unknown_command_is_refused_and_the_known_ones_named() -> None:
    status, out, err = netlab("upp", "lab.yaml")
    assert (status, out) == (2, "")
    assert "upp" in err
    assert "'up'" in err


@pytest.mark.parametrize("name", sorted(main.COMMANDS))
def test_every_command_is_whole_or_says_that_it_is_not_there(name: str) -> None:
    command = main.load(name)
    if command is None:
        assert netlab(name, "x") == (1, "", "not supported yet\n")
        return
    status, out, _ = netlab(name, "--help")
    assert status == 0
    assert out.startswith(f"usage: netlab {name} ")
    assert "example" in out


def test_help_of_the_program_imports_nothing_heavy() -> None:
    code = (
        "import sys; from cnm.netlab import main; main._overview().format_help()\n"
        "print(sorted({'yaml', 'pydantic', 'pyroute2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n"
