"""Completion: what is offered, and that the scripts offer it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from unit.cli.answering import Answering
from unit.cli.conftest import CommandLine
from unit.cli.documents import container, network


@pytest.fixture
def named(server: Answering) -> Answering:
    """Two networks, a container, two images, two drivers."""
    server.answer("GET", "/networks", [network(), network(Name="another")])
    server.answer("GET", "/containers/json", [container()])
    server.answer("GET", "/images/json", [{"RepoTags": ["b:2", "a:1"]}, {"RepoTags": []}])
    server.answer("GET", "/info", {"Plugins": {"Network": ["null", "bridge"]}})
    return server


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ne", ["net"]),
        (
            "net ''",
            [
                *("connect", "create", "disconnect", "dns", "doctor", "firewall", "inspect"),
                *("ls", "prune", "publish", "rm", "unpublish"),
            ],
        ),
        ("network l", ["ls"]),
        ("-", ["--help", "--host", "--version"]),
        ("net -", ["--help"]),
        ("net prune -", ["--filter", "--force", "--help"]),
        ("net create --ip", ["--ip-range", "--ipam-driver", "--ipam-opt", "--ipv4", "--ipv6"]),
        ("net rm ''", ["another", "b"]),
        ("net rm b ''", ["another"]),
        ("net connect -q ''", []),
        ("net connect b ''", ["c1"]),
        ("net connect --ip 1.2.3.4 b c", ["c1"]),
        ("net connect --ip ''", []),
        ("net connect b c1 ''", []),
        ("net create ''", []),
        ("net create -d ''", ["bridge", "null"]),
        ("net create --driver b", ["bridge"]),
        ("net create --driver=b", ["--driver=bridge"]),
        ("net ls --filter ''", []),
        ("inspect ''", ["c1", "another", "b", "a:1", "b:2"]),
        ("run --ne", ["--network", "--network-alias"]),
        ("run --network ''", ["another", "b"]),
        ("run -it ''", ["a:1", "b:2"]),
        ("run a:1 ''", []),
        ("run a:1 --ne", []),
        ("exec ''", ["c1"]),
        ("exec c1 -", []),
        ("stop ''", ["c1"]),
        ("rename c1 ''", []),
        ("rmi a:1 ''", ["b:2"]),
        ("completion z", ["zsh"]),
        ("daemon ''", []),
        ("bogus ''", []),
        ("--bogus ''", []),
        ("-H unix:///nonexistent net rm ''", []),
    ],
)
def test_candidates(named: Answering, served: CommandLine, words: str, offered: list[str]) -> None:
    status, out, err = served(f"__complete fish {words}")
    assert (status, err) == (0, "")
    assert [line.split("\t")[0] for line in out.splitlines()] == offered


def test_candidates_have_meanings(named: Answering, served: CommandLine) -> None:
    assert served("__complete zsh net l").out == "ls\tList networks\n"
    assert served("__complete zsh net rm b").out == "b\tbridge network\n"


def test_bash_takes_equals_signs_apart(named: Answering, served: CommandLine) -> None:
    assert served("__complete bash net create --driver = b").out == "bridge\tdriver\n"
    assert served("__complete bash net create --driver =").out.split() == [
        *("bridge", "driver", "null", "driver")
    ]


def test_unknown_shell(cnm: CommandLine) -> None:
    assert cnm("completion tcsh") == (
        1,
        "",
        'unknown shell "tcsh": must be one of bash, zsh, fish\n',
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(cnm: CommandLine, shell: str) -> None:
    script = cnm(f"completion {shell}").out
    assert f"__complete {shell}" in script
    assert "net" in script.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["cnm", "net", "cr"], "create"),
        (["net", "rm", "b"], "b"),
        (["cnm", "net", "create", "--driver", "=", "n"], "null"),
    ],
)
def test_bash_script(
    named: Answering, cnm: CommandLine, tmp_path: Path, words: list[str], offered: str
) -> None:
    for program in ("cnm", "net"):
        main = "main" if program == "cnm" else "net"
        code = f"import sys; from cnm.cli.main import {main} as m; sys.exit(m())"
        wrapper = tmp_path / program
        wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -c {shlex.quote(code)} "$@"\n')
        wrapper.chmod(0o755)
    script = cnm("completion bash").out
    typed = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _cnm {words[0]}"
    done = subprocess.run(
        ["bash", "-c", f'{script}\n{typed}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "CNM_HOST": named.host},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (f"{offered}\n", "")
