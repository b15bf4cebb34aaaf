"""The real ``docker`` command runs containers on us: life, streams, networks, images."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import DaemonFactory
from livedaemon import LiveDaemon

_PATIENCE_S = 50.0


@pytest.fixture
def live(daemon: DaemonFactory) -> Iterator[LiveDaemon]:
    """A daemon whose containers are gone afterwards."""
    running = daemon()
    yield running
    if not running.running:
        running.start()
    names = running.docker("ps", "-aq").stdout.split()
    if names:
        running.docker("rm", "-f", *names)
    assert not list((running.exec_root / "netns").iterdir())


def piped(live: LiveDaemon, data: bytes, *words: str) -> tuple[int, bytes]:
    """``docker …`` with data on its standard input: status and output."""
    done = subprocess.run(
        ["docker", "-H", live.host, *words],
        input=data,
        capture_output=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout


def poll(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def inspect(live: LiveDaemon, name: str, template: str) -> str:
    return live.docker("inspect", "--format", template, name).stdout.strip()


class Terminal:
    """``docker …`` at a terminal."""

    def __init__(self, live: LiveDaemon, *words: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            ["docker", "-H", live.host, *words], stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        self.seen = b""

    def send(self, data: bytes) -> None:
        os.write(self._master, data)

    def expect(self, text: bytes) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} not in {self.seen!r}"
            if select.select([self._master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self._master, 4096)
                except OSError:  # its other end is closed
                    assert text in self.seen
                    return

    def close(self) -> int:
        try:
            return self.process.wait(_PATIENCE_S)
        finally:
            os.close(self._master)


def test_run_prints_and_passes_the_exit_code_on(live: LiveDaemon) -> None:
    done = live.docker(
        "run", "--rm", "host", "sh", "-c", "echo out; echo err >&2; exit 7", check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert live.docker("ps", "-aq").stdout == ""


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [("/nope", 127, "no such file or directory"), ("/etc", 126, "is a directory")],
)
def test_commands_that_cannot_run(live: LiveDaemon, command: str, code: int, text: str) -> None:
    done = live.docker("run", "--rm", "host", command, check=False)
    assert done.returncode == code
    assert text in done.stderr
    assert "Error waiting" not in done.stderr
    assert live.docker("ps", "-aq").stdout == ""


def test_input_and_its_end_reach_the_process(live: LiveDaemon) -> None:
    data = os.urandom(300_000)
    assert piped(live, data, "run", "--rm", "-i", "host", "cat") == (0, data)
    live.docker("run", "-d", "--name", "web", "host", "sleep", "1000")
    assert piped(live, data, "exec", "-i", "web", "cat") == (0, data)


def test_exec(live: LiveDaemon) -> None:
    live.docker("run", "-d", "--name", "web", "-e", "A=1", "host", "sleep", "1000")
    assert live.docker("exec", "-e", "B=2", "web", "sh", "-c", "echo $A$B").stdout == "12\n"
    assert live.docker("exec", "web", "sh", "-c", "exit 9", check=False).returncode == 9
    missing = live.docker("exec", "web", "/nope", check=False)
    assert missing.returncode == 127
    assert "no such file or directory" in missing.stdout
    assert live.docker("exec", "-d", "web", "touch", "/there").returncode == 0
    poll(lambda: not live.docker("exec", "web", "ls", "/there", check=False).returncode, "file")
    live.docker("stop", "-t", "0", "web")
    done = live.docker("exec", "web", "true", check=False)
    assert (done.returncode, "is not running" in done.stderr) == (1, True)


def test_a_terminal_with_detach_keys(live: LiveDaemon) -> None:
    terminal = Terminal(live, "run", "-it", "--name", "web", "host", "sh")
    terminal.send(b"stty size; echo o''k\n")
    terminal.expect(b"ok")
    terminal.send(b"\x10\x11")
    assert terminal.close() == 0
    assert inspect(live, "web", "{{.State.Status}}") == "running"
    again = Terminal(live, "attach", "web")
    again.send(b"echo $((40+2)); exit 5\n")
    again.expect(b"42")
    assert again.close() == 5


def test_logs(live: LiveDaemon) -> None:
    live.docker("run", "--name", "web", "host", "sh", "-c", "echo a; echo b >&2; sleep 0.5; echo c")
    done = live.docker("logs", "web")
    assert (done.stdout, done.stderr) == ("a\nc\n", "b\n")
    assert live.docker("logs", "--tail", "1", "web").stdout == "c\n"
    stamped = live.docker("logs", "-t", "--tail", "1", "web").stdout.split()
    assert stamped[0].endswith("Z")
    assert live.docker("logs", "-f", "web").stdout == "a\nc\n"
    live.docker("start", "web")
    assert live.docker("logs", "-f", "web").stdout == "a\nc\na\nc\n"


def test_life(live: LiveDaemon) -> None:
    identifier = live.docker("run", "-d", "--name", "web", "host", "sleep", "1000").stdout.strip()
    listed = json.loads(live.docker("ps", "--no-trunc", "--format", "json").stdout)
    assert (listed["ID"], listed["Names"], listed["State"]) == (identifier, "web", "running")
    assert live.docker("top", "web", "-o", "pid,args").stdout.splitlines()[1].endswith("sleep 1000")
    refused = live.docker("rm", "web", check=False)
    assert "container is running: stop the container before removing" in refused.stderr
    taken = live.docker("create", "--name", "web", "host", "true", check=False)
    assert f'"/web" is already in use by container "{identifier}"' in taken.stderr
    live.docker("kill", "web")
    assert live.docker("wait", "web").stdout == "137\n"
    live.docker("restart", "-t", "0", "web")
    live.docker("rename", "web", "other")
    live.docker("stop", "-t", "0", "other")
    assert inspect(live, "other", "{{.Name}} {{.State.Status}}") == "/other exited"
    live.docker("rm", "other")
    now = time.time()
    wanted = f"/events?since={now - 60:.3f}&until={now:.3f}&filters=" + quote(
        '{"type": ["container"]}'
    )
    told = [
        json.loads(line)["Action"] for line in str(live.http("GET", wanted).document).splitlines()
    ]
    assert told == [
        *("create", "start", "kill", "die", "start", "restart", "rename"),
        *("kill", "die", "stop", "destroy"),
    ]


def test_networks_of_a_container(live: LiveDaemon) -> None:
    live.docker("network", "create", "--subnet", "10.9.0.0/24", "red")
    live.docker("network", "create", "--subnet", "10.8.0.0/24", "blue")
    live.docker(
        *("run", "-d", "--name", "web", "--network", "red", "--ip", "10.9.0.77"),
        *("--mac-address", "02:42:00:00:00:07", "--add-host", "x:1.2.3.4", "host", "sleep", "1000"),
    )
    address = live.docker("exec", "web", "ip", "-4", "-o", "addr", "show", "eth0").stdout
    assert "10.9.0.77/24" in address
    assert "02:42:00:00:00:07" in live.docker("exec", "web", "ip", "link", "show", "eth0").stdout
    hosts = live.docker("exec", "web", "cat", "/etc/hosts").stdout
    assert "1.2.3.4\tx\n" in hosts
    assert "10.9.0.77\t" in hosts
    live.docker("network", "connect", "blue", "web")
    assert "10.8.0.2/24" in live.docker("exec", "web", "ip", "-4", "addr", "show", "eth1").stdout
    assert "10.8.0.2\t" in live.docker("exec", "web", "cat", "/etc/hosts").stdout
    live.docker("run", "--rm", "--network", "container:web", "host", "ip", "link", "show", "eth1")
    live.docker("restart", "-t", "0", "web")
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    assert inspect(live, "web", template).split() == ["10.8.0.2", "10.9.0.77"]
    alone = live.docker("run", "--rm", "--network", "none", "host", "ls", "/sys/class/net")
    assert alone.stdout.split() == ["lo"]
    with_host = live.docker(
        "run", "--rm", "--network", "host", "host", "ip", "link", "show", "cnm0"
    )
    assert "cnm0" in with_host.stdout


def test_containers_reach_one_another(live: LiveDaemon) -> None:
    live.docker("run", "-d", "--name", "web", "host", "sleep", "1000")
    address = inspect(live, "web", "{{.NetworkSettings.IPAddress}}")
    live.docker("run", "--rm", "host", "ping", "-c", "1", "-W", "5", address)


def test_containers_outlive_the_daemon(live: LiveDaemon) -> None:
    live.docker("run", "-d", "--name", "web", "host", "sleep", "1000")
    live.docker("run", "-d", "--name", "short", "host", "sh", "-c", "sleep 1; exit 6")
    live.docker("run", "-d", "--name", "ever", "--restart", "always", "host", "sleep", "1000")
    before = inspect(live, "web", "{{.State.Pid}} {{.NetworkSettings.IPAddress}}")
    ever = int(inspect(live, "ever", "{{.State.Pid}}"))
    live.kill()
    os.kill(ever, 9)
    time.sleep(1.5)  # what happens in this time happens without a daemon: there is none to ask
    live.start()
    assert inspect(live, "web", "{{.State.Pid}} {{.NetworkSettings.IPAddress}}") == before
    assert inspect(live, "short", "{{.State.Status}} {{.State.ExitCode}}") == "exited 6"
    poll(lambda: inspect(live, "ever", "{{.State.Status}}") == "running", "it runs again")
    live.docker("exec", "web", "true")


def test_a_namespace_is_found_by_its_process(live: LiveDaemon) -> None:
    """A daemon in a mount namespace of its own takes its pins along when it is killed."""
    live.docker("run", "-d", "--name", "web", "host", "sleep", "1000")
    before = live.docker("exec", "web", "ip", "-o", "address").stdout
    live.kill()
    (pin,) = (live.exec_root / "netns").iterdir()
    subprocess.run(["umount", str(pin)], check=True)
    live.start()
    assert "namespace web: found again by its process" in live.log()
    assert live.docker("exec", "web", "ip", "-o", "address").stdout == before
    live.docker("network", "create", "late")
    live.docker("network", "connect", "late", "web")
    assert "eth1" in live.docker("exec", "web", "ip", "-o", "address").stdout


def test_restart_policy(live: LiveDaemon) -> None:
    live.docker("run", "-d", "--name", "web", "--restart", "on-failure:2", "host", "false")
    template = "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}"
    poll(lambda: inspect(live, "web", template) == "2 exited 1", "it is given up")


def test_images(live: LiveDaemon, tmp_path: Path) -> None:
    busybox = Path("/bin/busybox")
    archive = tmp_path / "root.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(busybox, "bin/busybox")
        for name in ("sh", "echo", "cat", "sleep"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    live.docker("import", "-c", 'CMD ["echo", "from the image"]', str(archive), "tiny:1")
    assert live.docker("run", "--rm", "tiny:1").stdout == "from the image\n"
    assert live.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout == "tiny:1\n"
    live.docker("tag", "tiny:1", "other:2")
    live.docker("run", "-d", "--name", "web", "tiny:1", "sleep", "1000")
    refused = live.docker("rmi", "tiny:1", "other:2", check=False)
    assert refused.returncode == 1
    live.docker("rm", "-f", "web")
    live.docker("rmi", "-f", "other:2", check=False)
    assert live.docker("images", "-q").stdout == ""
    missing = live.docker("run", "nope", check=False)
    assert (missing.returncode, "cnm import" in missing.stderr) == (125, True)
