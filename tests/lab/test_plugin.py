"""The pytest plugin as its users have it: a session of its own, a test that fails, a good look."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.remains import remains

_WITHIN_S = 50
FAILING = '''
LAB = """
hosts:
  one: {links: [{to: two, addresses: 10.0.0.1/24}]}
  two: {links: [{to: one, addresses: 10.0.1.2/24}]}
"""

def test_reach(netlab):
    lab = netlab(LAB)
    print("the lab is", lab.name)
    lab["one"].run("ping", "-c", "1", "-W", "1", "10.0.0.9", check=False)
    assert lab["one"].run("hostname").stdout == "two\\n"
'''

Session = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """``session(*options, input=…)``: pytest on the failing test; its dumps are in ``dumps``."""
    (tmp_path / "test_reach.py").write_text(FAILING)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def run(*options: str, input: str = "") -> subprocess.CompletedProcess[str]:
        words = ("-m", "pytest", "-p", "no:cacheprovider", "--netlab-dumps", "dumps", *options)
        return subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            input=input,
            env={**os.environ, "SHELL": "/bin/sh"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_WITHIN_S,
            check=False,
        )

    return run


def lab_of(said: str) -> str:
    found = re.search(r"the lab is (\S+)", said)
    assert found, said
    return found[1]


def test_dumps_and_packets_of_a_failed_test(session: Session, tmp_path: Path) -> None:
    done = session("--pcap", "one:eth0")
    assert done.returncode == 1, done.stdout
    name = lab_of(done.stdout)
    files = [path for path in tmp_path.glob("dumps/**/*") if path.is_file()]
    packets = next(path for path in files if path.name == "one-eth0.pcap")
    assert packets.read_bytes()[:4] in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4")
    for host, address in (("one", "10.0.0.1/24"), ("two", "10.0.1.2/24")):
        texts = [path.read_text(errors="replace") for path in files if host in path.parts]
        assert any(address in text for text in texts), files
    assert f"dumps of lab {name}: {tmp_path}/dumps/" in done.stdout
    assert remains(name) == []


def test_a_pause_with_the_lab_up(session: Session) -> None:
    done = session("--pause-on-error", input="\n")
    assert done.returncode == 1, done.stdout
    name = lab_of(done.stdout)
    assert f"lab {name} is up: netlab exec {name} HOST; Enter goes on" in done.stdout
    assert remains(name) == []


def test_a_shell_on_a_host(session: Session) -> None:
    done = session("--shell", "one", input="echo here is $(hostname), $(ip -br address | wc -l)\n")
    assert done.returncode == 1, done.stdout
    name = lab_of(done.stdout)
    assert f"failed: a shell on one of lab {name}; exit goes on" in done.stdout
    assert "here is one, 3" in done.stdout
    assert remains(name) == []


def test_nobody_can_type_into_several_processes(session: Session) -> None:
    done = session("--shell", "one", "-n", "2")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--pause-on-error and --shell need one process: add -n 0" in done.stdout
