"""The program: what it prints, its statuses, who has to wait for whom."""

from __future__ import annotations

import json
import os
import pty
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.remains import remains

from cnm.netlab import main
from cnm.netlab.state import State

TWO = """\
hosts:
  one:
    links: [{to: two, addresses: 10.0.0.1/24, peer: {addresses: 10.0.0.2/24}}]
    processes: {waits: sleep 86400}
  two:
"""


class Program:
    """netlab in this process, but for ``exec``, which goes into the host for good."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.name = f"cmd-{secrets.token_hex(4)}"
        self.file = folder / f"{self.name}.yaml"
        self.file.write_text(TWO)

    def __call__(self, *words: str, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = self._in_a_process(words) if words[0] == "exec" else self._here(words)
        assert check is None or done.returncode == check, done.stderr
        return done

    def _here(self, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        self._capsys.readouterr()
        status = main.run(words)
        said = self._capsys.readouterr()
        return subprocess.CompletedProcess(words, status, said.out, said.err)

    def _in_a_process(self, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cnm.netlab", *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=50, stdin=subprocess.DEVNULL
        )


@pytest.fixture
def netlab_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Program]:
    made = Program(tmp_path, capsys)
    yield made
    made("down", "-q", made.name, check=None)
    assert remains(made.name) == []


@pytest.fixture
def up(netlab_program: Program) -> Program:
    netlab_program("up", "-q", str(netlab_program.file))
    return netlab_program


def test_up_shows_its_progress_and_says_what_it_made(netlab_program: Program) -> None:
    name, file = netlab_program.name, str(netlab_program.file)
    done = netlab_program("up", file)
    assert done.stdout == f"lab {name} is up: 4 things made\n"
    steps = [line.split()[:2] for line in done.stderr.splitlines()]
    assert steps == [["hosts", "2/2"], ["links", "1/1"], ["content", "1/1"]]
    again = netlab_program("up", file)
    assert again.stdout == f"lab {name} is up: nothing was missing\n"
    assert netlab_program("down", file).stdout == f"lab {name} is down\n"


def test_quiet_is_quiet(netlab_program: Program) -> None:
    for words in (("up", "-q", str(netlab_program.file)), ("down", "-q", netlab_program.name)):
        done = netlab_program(*words)
        assert (done.stdout, done.stderr) == ("", "")


def test_a_file_can_be_up_under_several_names(up: Program) -> None:
    second = f"{up.name}-2"
    up("up", "-q", "--name", second, str(up.file))
    try:
        assert {up.name, second} <= set(up("ls", "-q").stdout.split())
        assert up("exec", second, "two", "--", "ip", "-br", "a", "show", "eth0").stdout
    finally:
        up("down", "-q", second)
    assert remains(second) == []
    assert up("ls", "-q", up.name).stdout == "one\ntwo\n"


def test_dry_run_makes_nothing(netlab_program: Program) -> None:
    done = netlab_program("up", "--dry-run", str(netlab_program.file))
    assert done.stdout == f"{netlab_program.file}: lab {netlab_program.name} is in order\n"
    assert remains(netlab_program.name) == []


def test_mistakes_are_told_line_by_line_and_nothing_is_made(netlab_program: Program) -> None:
    netlab_program.file.write_text("hosts:\n  one: {links: [{to: three}], cmn: }\n")
    done = netlab_program("up", str(netlab_program.file), check=1)
    assert done.stderr.splitlines() == [
        f'{netlab_program.file}:2: hosts.one.cmn: unknown key; did you mean "cnm"?',
        (
            f'{netlab_program.file}:2: hosts.one.links[0].to: no host or switch named "three"; '
            "known here: one"
        ),
    ]
    assert remains(netlab_program.name) == []


def test_what_cannot_be_run_is_told_and_the_rest_stays_to_be_looked_at(
    netlab_program: Program,
) -> None:
    text = TWO.replace("sleep 86400", "no-such-program").replace("  two:\n", "  two: {cnm: }\n")
    netlab_program.file.write_text(text)
    done = netlab_program("up", "-q", str(netlab_program.file), check=1)
    assert done.stderr == "one: waits: no-such-program: No such file or directory\n"
    rows = json.loads(netlab_program("ls", "--json", netlab_program.name).stdout)
    assert [row["running"] for row in rows] == [[], ["cnm"]]


def test_a_daemon_that_does_not_start_is_told_with_its_log(netlab_program: Program) -> None:
    text = TWO.replace("  two:\n", "  two: {cnm: {config: {no-such-key: 1}}}\n")
    netlab_program.file.write_text(text)
    done = netlab_program("up", "-q", str(netlab_program.file), check=1)
    assert done.stderr.startswith("two: cnm ended: cnm daemon: cannot start: ")
    assert "no-such-key" in done.stderr
    assert f"/run/netlab/{netlab_program.name}/log/two/cnm.log" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_ls(up: Program) -> None:
    rows = json.loads(up("ls", "--json").stdout)
    assert {"name": up.name, "hosts": "2/2", "state": "up", "file": str(up.file)} in rows
    one, two = json.loads(up("ls", up.name, "--json").stdout)
    assert (one["netns"], one["addresses"], one["running"]) == (
        f"{up.name}.one",
        ["10.0.0.1/24"],
        ["waits"],
    )
    assert (two["addresses"], two["running"]) == (["10.0.0.2/24"], [])
    header, first, _ = up("ls", up.name).stdout.splitlines()
    assert header.split() == ["HOST", "PID", "NETNS", "ADDRESSES", "RUNNING"]
    assert first.split() == ["one", str(one["pid"]), f"{up.name}.one", "10.0.0.1/24", "waits"]


def test_exec_gives_the_commands_own_status_and_output(up: Program) -> None:
    done = up("exec", up.name, "one", "--", "sh", "-c", "hostname; echo no >&2; exit 7", check=7)
    assert (done.stdout, done.stderr) == ("one\n", "no\n")
    assert up("exec", str(up.file), "two", "hostname").stdout == "two\n"
    up("exec", up.name, "one", "--", "sh", "-c", "kill -9 $$", check=137)
    assert up("exec", up.name, "one", "no-such", check=127).stderr == "no-such: command not found\n"
    assert up("exec", up.name, "one", "/etc", check=126).stderr == "/etc: Permission denied\n"


def test_exec_without_a_command_is_a_shell_on_the_terminal(up: Program) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cnm.netlab", "exec", up.name, "two"]
    environment = {**os.environ, "SHELL": "/bin/sh", "PS1": ""}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as shell:
        os.close(theirs)
        os.write(ours, b"test -t 0 && hostname && exit 5\n")
        said = b""
        try:
            while piece := os.read(ours, 1000):
                said += piece
        except OSError:  # EIO: the shell has left the terminal
            pass
        assert shell.wait(20) == 5
    os.close(ours)
    assert b"two\r\n" in said


def test_words_that_name_nothing(up: Program) -> None:
    name = up.name
    assert up("exec", name, "three", "id", check=1).stderr == (
        f'lab {name} has no host "three" that is up (up: one, two)\n'
    )
    said = up("exec", "no-lab", "one", "id", check=1).stderr
    assert said.startswith('no lab "no-lab" is up (up: ')
    assert name in said
    assert up("down", "no-lab", check=1).stderr.startswith('no lab "no-lab" is up')
    assert up("ls", "no-lab", check=1).stderr.startswith('no lab "no-lab" is up')
    assert up("up", "no.yaml", check=1).stderr == "no.yaml: No such file or directory\n"
    assert up("down", check=1).stderr == 'netlab down: name a lab, or say "--all"\n'


def test_down_knows_a_lab_by_its_file_even_when_that_is_broken(up: Program) -> None:
    up.file.write_text("hosts: [")
    up("down", str(up.file))
    assert remains(up.name) == []


def test_who_comes_second_is_told_who_is_at_work(up: Program) -> None:
    with State(up.name).locked():
        for words in (("up", str(up.file)), ("down", up.name)):
            done = up(*words, check=1)
            assert done.stderr == (
                f"lab {up.name}: another netlab (pid {os.getpid()}) is at work on it: wait\n"
            )
    assert up("up", str(up.file)).stdout == f"lab {up.name} is up: nothing was missing\n"
