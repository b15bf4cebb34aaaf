"""``cnm run`` and its companions on a real daemon: processes, streams, a terminal, images."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import DaemonFactory
from livedaemon import PROGRAMS, LiveDaemon
from unit.cli.pseudoterminal import Terminal

_PATIENCE_S = 50.0


@pytest.fixture
def live(daemon: DaemonFactory) -> Iterator[LiveDaemon]:
    """A daemon whose containers are gone afterwards."""
    running = daemon()
    yield running
    names = running.cnm("ps", "-aq").stdout.split()
    if names:
        running.cnm("rm", "-f", *names)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal."""
    created = Terminal()
    yield created
    created.close()


def fed(live: LiveDaemon, data: bytes, *words: str) -> tuple[int, bytes, bytes]:
    """Status, output and error output of ``cnm …``, which reads ``data``."""
    command = [str(PROGRAMS / "cnm"), "-H", live.host, *words]
    done = subprocess.run(
        command, input=data, capture_output=True, timeout=_PATIENCE_S, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_life(live: LiveDaemon) -> None:
    identifier = live.cnm("run", "-d", "--name", "c1", "host", "sleep", "1000").stdout.strip()
    listed = json.loads(live.cnm("ps", "--no-trunc", "--format", "json").stdout)
    assert (listed["ID"], listed["Names"], listed["State"]) == (identifier, "c1", "running")
    assert live.cnm("exec", "c1", "hostname").stdout.strip() == identifier[:12]
    assert live.cnm("exec", "c1", "sh", "-c", "exit 9", check=False).returncode == 9
    assert live.cnm("top", "c1", "-o", "pid,args").stdout.splitlines()[1].endswith("sleep 1000")
    assert live.cnm("kill", "c1").stdout == "c1\n"
    assert live.cnm("wait", "c1").stdout == "137\n"
    assert live.cnm("restart", "-t", "0", "c1").stdout == "c1\n"
    assert live.cnm("stop", "-t", "0", "c1").stdout == "c1\n"
    live.cnm("rename", "c1", "c2")
    state = live.cnm("inspect", "--format", "{{.Name}} {{.State.Status}}", "c2").stdout
    assert state == "/c2 exited\n"
    assert live.cnm("rm", "c2").stdout == "c2\n"
    assert live.cnm("ps", "-aq").stdout == ""


def test_streams(live: LiveDaemon) -> None:
    data = bytes(range(256)) * 4096
    assert fed(live, data, "run", "-i", "--rm", "host", "cat") == (0, data, b"")
    script = "echo out; echo err >&2; exit 3"
    assert fed(live, b"", "run", "--name", "c1", "host", "sh", "-c", script) == (
        3,
        b"out\n",
        b"err\n",
    )
    assert fed(live, b"", "logs", "c1") == (0, b"out\n", b"err\n")
    assert fed(live, b"", "start", "-a", "c1") == (3, b"out\n", b"err\n")
    assert fed(live, b"", "logs", "-n", "1", "-f", "c1")[0] == 0
    live.cnm("run", "-d", "--name", "c2", "host", "sleep", "1000")
    assert fed(live, data, "exec", "-i", "c2", "cat") == (0, data, b"")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("host", "no-such-command"), 127, "executable file not found in $PATH"),
        (("host", "/etc"), 126, "is a directory"),
        (("nope:1",), 125, "Unable to find image 'nope:1' locally: make it with `cnm import"),
        (("--network", "nope", "host", "true"), 125, "network nope not found"),
    ],
)
def test_failures(live: LiveDaemon, words: tuple[str, ...], status: int, message: str) -> None:
    done = live.cnm("run", "--rm", *words, check=False)
    assert done.returncode == status
    assert done.stderr.startswith("cnm: ")
    assert message in done.stderr
    assert done.stderr.endswith("\n\nRun 'cnm run --help' for more information\n")
    assert live.cnm("ps", "-aq").stdout == ""


def test_signals(live: LiveDaemon) -> None:
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    command = [str(PROGRAMS / "cnm"), "-H", live.host, "run", "--rm", "host", "sh", "-c", script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait(_PATIENCE_S) == 5
    process.stdout.close()


def test_terminal(live: LiveDaemon, terminal: Terminal) -> None:
    shell = ("-e", "PS1=$ ", "host", "sh")
    terminal.begin(live.host, "run", "-it", "--name", "c1", *shell)
    terminal.read_until(b"$ ")
    terminal.type(b"tty; stty size\r")
    terminal.read_until(b"/dev/pts/0\r\n24 80\r\n$ ")
    terminal.resize(50, 132)
    terminal.type(b"\x10\x11")
    assert terminal.end() == 0
    assert terminal.look() == terminal.settings
    assert live.cnm("ps", "--format", "{{.Names}} {{.State}}").stdout == "c1 running\n"
    terminal.shown = b""
    terminal.begin(live.host, "attach", "c1")
    terminal.type(b"\r")  # dash does not draw its prompt anew
    terminal.read_until(b"$ ")
    terminal.type(b"stty size\r")
    terminal.read_until(b"50 132\r\n$ ")
    terminal.type(b"exit 6\r")
    assert terminal.end() == 6
    assert terminal.look() == terminal.settings


def test_terminal_of_exec(live: LiveDaemon, terminal: Terminal) -> None:
    live.cnm("run", "-d", "--name", "c1", "host", "sleep", "1000")
    terminal.begin(live.host, "exec", "-it", "-e", "PS1=$ ", "c1", "sh")
    terminal.read_until(b"$ ")
    terminal.type(b"stty size; exit 4\r")
    terminal.read_until(b"24 80\r\n")
    assert terminal.end() == 4
    assert terminal.look() == terminal.settings


def users_of(pid: str) -> set[str]:
    """The host's numbers of the users that a process has."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return set(next(line for line in lines if line.startswith("Uid:")).split()[1:])


def test_a_user_namespace_for_one(live: LiveDaemon) -> None:
    live.cnm("net", "create", "--subnet", "10.9.0.0/24", "red")
    live.cnm("run", "-d", "--name", "c1", "--userns", "private", "host", "sleep", "1000")
    live.cnm("run", "-d", "--name", "c2", "host", "sleep", "1000")
    form = "{{.State.Pid}} {{.HostConfig.UsernsMode}}"
    pid, mode = live.cnm("inspect", "--format", form, "c1").stdout.split()
    assert (mode, users_of(pid)) == ("private", {"1879048192"})
    assert users_of(live.cnm("inspect", "--format", "{{.State.Pid}}", "c2").stdout.strip()) == {"0"}
    live.cnm("net", "connect", "red", "c1")
    assert "10.9.0.2/24" in live.cnm("exec", "c1", "ip", "address", "show", "eth1").stdout
    live.cnm("exec", "c1", "sh", "-c", "echo 1.2.3.4 more >> /etc/hosts; touch /etc/new")
    live.kill()
    live.start()
    assert live.http("POST", "/cnm/v1/sweep").document == {"Repairs": []}
    live.cnm("restart", "-t", "0", "c1")
    assert live.cnm("exec", "c1", "ls", "/etc/new").returncode == 0
    assert live.cnm("exec", "c1", "ip", "-o", "-4", "address").stdout.count("scope global") == 2


def test_user_namespaces_for_all(live: LiveDaemon) -> None:
    live.config_file.write_text('{"userns-remap": "default"}')
    live.restart()
    assert "name=userns" in live.http("GET", "/info").document["SecurityOptions"]
    live.cnm("run", "-d", "--name", "c1", "host", "sleep", "1000")
    live.cnm("run", "-d", "--name", "c2", "--userns", "host", "--privileged", "host", "sleep", "9")
    pids = live.cnm("inspect", "--format", "{{.State.Pid}}", "c1", "c2").stdout.split()
    assert [users_of(pid) for pid in pids] == [{"1879048192"}, {"0"}]
    refused = live.cnm("run", "--network", "host", "host", "true", check=False)
    assert (refused.returncode, "when user namespaces are enabled" in refused.stderr) == (125, True)


def test_a_remapped_user_without_ids(live: LiveDaemon) -> None:
    live.stop()
    live.config_file.write_text('{"userns-remap": "games"}')
    live.spawn()
    assert live.wait_for_exit() == 1
    told = "cannot start: userns-remap: no ids are reserved for games in /etc/subuid: add a line"
    assert told in live.log()
    live.config_file.write_text("{}")
    live.start()


def root_tar(path: Path) -> Path:
    """A root file system of one file."""
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("etc/motd")
        entry.size = 6
        archive.addfile(entry, io.BytesIO(b"hello\n"))
    return path


def test_images(live: LiveDaemon, tmp_path: Path) -> None:
    archive = root_tar(tmp_path / "root.tar")
    identifier = live.cnm("import", "-c", 'CMD ["sh"]', str(archive), "motd:1").stdout.strip()
    assert identifier.startswith("sha256:")
    form = "{{.Repository}}:{{.Tag}} {{.ID}}"
    listed = live.cnm("images", "--no-trunc", "--format", form).stdout
    assert listed == f"motd:1 {identifier}\n"
    live.cnm("tag", "motd:1", "other")
    inspected = live.cnm("inspect", "--format", "{{.RepoTags}} {{.Config.Cmd}}", "other").stdout
    assert inspected == "[motd:1 other:latest] [sh]\n"
    short = identifier.partition(":")[2][:12]
    assert set(live.cnm("images", "-q", "other").stdout.split()) == {short}
    assert live.cnm("rmi", "motd:1").stdout == "Untagged: motd:1\n"
    assert f"Deleted: {identifier}\n" in live.cnm("rmi", "other").stdout
    assert live.cnm("images", "-q").stdout == ""
    status, out, err = fed(live, b"no tar at all", "load")
    assert (status, out) == (1, b"")
    assert err.startswith(b"Error response from daemon: ")
