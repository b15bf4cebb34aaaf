"""A real daemon for tests: in a network namespace of its own, with folders and socket of its own.

It is a process started by the installed program, asked by real clients. When it is
closed the process ends, the namespaces that it and its test made are deleted, and
with them every link, table and sysctl.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import freshnetns
from forked import Forked
from patience import ON_SECOND_KERNEL, patient

from cnm.dns.handover import Handover
from cnm.runtime.container.client import RuntimeClient
from cnm.runtime.kernel import resident
from cnm.runtime.kernel.resident import Place

READY_TIMEOUT_S = patient(
    30.0
)  # a start takes about 1 s; the suite's other workers keep the machine busy
STOP_TIMEOUT_S = patient(20.0)
COMMAND_TIMEOUT_S = patient(50.0)
PROGRAMS = Path(sys.executable).parent

_numbers = itertools.count(1)

Completed = subprocess.CompletedProcess[str]


class Answer(NamedTuple):
    """An HTTP answer; ``document`` is the decoded JSON, or the text if it is none."""

    status: int
    headers: Mapping[str, str]
    document: Any


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=COMMAND_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class LiveDaemon:
    """One daemon's place in the world, and the process while it runs."""

    def __init__(self, folder: Path, flags: Sequence[str] = (), netns: str | None = None) -> None:
        self.folder = folder
        self.flags = tuple(flags)
        self.root = folder / "root"
        self.exec_root = folder / "run"
        self.socket = folder / "cnm.sock"
        self.config_file = folder / "daemon.json"
        self.log_file = folder / "daemon.log"
        self._namespaces: list[str] = []
        self.netns = netns or self.namespace()
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self.config_file.write_text("{}")

    @property
    def host(self) -> str:
        """What clients are given with ``-H``."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """Of the running daemon."""
        assert self._process is not None, "the daemon does not run"
        return self._process.pid

    @property
    def resolver_pid(self) -> int:
        """Of the resolver that serves this daemon's containers, as the process list has it."""
        wanted = [b"cnm.dns.server", b"--exec-root", str(self.exec_root).encode()]
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has just ended
                if entry.read_bytes().rstrip(b"\0").split(b"\0")[-3:] == wanted:
                    found.append(int(entry.parent.name))
        assert len(found) == 1, f"resolvers: {found}"
        return found[0]

    def namespace(self, name: str = "") -> str:
        """A fresh network namespace, deleted at the end; its name is its own in the whole suite."""
        own = f"cnmt-{os.getpid()}-{next(_numbers)}{f'-{name}' if name else ''}"
        freshnetns.add(own)
        self._namespaces.append(own)
        return own

    # the process

    def command(self) -> list[str]:
        """How the daemon is started: inside its namespace, in our mount namespace."""
        return [
            *("nsenter", f"--net=/run/netns/{self.netns}", str(PROGRAMS / "cnm"), "daemon"),
            *("--root", str(self.root), "--exec-root", str(self.exec_root), "-H", self.host),
            *("--config-file", str(self.config_file), *self.flags),
        ]

    def spawn(self, *prefix: str) -> None:
        """Start without waiting for anything. ``prefix``: a program that runs it (strace …)."""
        with self.log_file.open("ab") as log:
            if ON_SECOND_KERNEL and not prefix:
                self._process = Forked(("cnm", *self.command()[3:]), self.netns, log)
                return
            self._process = subprocess.Popen(
                [*prefix, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )

    def start(self) -> Self:
        """Start, and wait until it answers."""
        self.spawn()
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        """Wait until ``/_ping`` is answered by this process."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._answers():
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(
                    f"the daemon ended with {self._process.returncode}: {self.log()}"
                )
            if time.monotonic() > deadline:
                raise AssertionError(f"the daemon does not answer: {self.log()}")
            time.sleep(0.02)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop and start again."""
        self.stop()
        return self.start()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the running daemon."""
        os.kill(self.pid, number)

    def wait_for_exit(self) -> int:
        """Wait until it has ended by itself; the exit status."""
        assert self._process is not None
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon does not end: {self.log()}") from None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """All that it has logged, over all starts."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def close(self) -> None:
        """End the process, delete the namespaces."""
        with contextlib.ExitStack() as stack:
            for name in self._namespaces:
                stack.callback(run, "ip", "netns", "del", name)
            stack.callback(self._end_resolver)
            stack.callback(self._end_port_helper)
            stack.callback(self._end_containers)
            if self.running:
                stack.callback(self.kill)

    def _end_containers(self) -> None:
        """Containers outlive their daemon, and so does what minds them: not the test."""
        if (self.exec_root / "supervisor.sock").exists():
            runtime = RuntimeClient(str(self.exec_root))
            for status in runtime.containers():
                runtime.destroy(status.id)
            runtime.shutdown()
        for pin in self.exec_root.glob("netns/*"):
            run("umount", "-l", str(pin), check=False)

    def _end_resolver(self) -> None:
        """It outlives its daemon, too, and holds the namespaces that it serves."""
        if (self.exec_root / "dns.sock").exists():
            Handover(str(self.exec_root)).shutdown()

    def _end_port_helper(self) -> None:
        """It goes on while it holds ports of containers whose end no daemon has seen."""
        try:
            link = resident.connect(Place(str(self.exec_root), "ports"))
        except (FileNotFoundError, ConnectionRefusedError):
            return
        with link:
            peer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 3 * 4)
        os.kill(int.from_bytes(peer[:4], sys.byteorder), signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        sys.stdout.write(self.log())  # pytest shows it if the test has failed

    def _end(self, number: signal.Signals) -> int:
        if self.running:
            self.send(number)
        return self.wait_for_exit()

    def _answers(self) -> bool:
        try:
            return self.http("GET", "/_ping").status == 200
        except OSError:
            return False

    # clients

    def net(self, *arguments: str, check: bool = True) -> Completed:
        """``net …`` on this daemon."""
        return self._client(str(PROGRAMS / "net"), arguments, check)

    def cnm(self, *arguments: str, check: bool = True) -> Completed:
        """``cnm …`` on this daemon."""
        return self._client(str(PROGRAMS / "cnm"), arguments, check)

    def docker(self, *arguments: str, check: bool = True) -> Completed:
        """The real ``docker`` command on this daemon."""
        return self._client("docker", arguments, check)

    def ip(self, *arguments: str, netns: str | None = None) -> Any:
        """``ip -j …`` in the daemon's namespace (or another), decoded."""
        text = run("ip", "-j", "-n", netns or self.netns, *arguments).stdout
        return json.loads(text) if text.strip() else []

    def inside(self, netns: str, *command: str, check: bool = True) -> Completed:
        """A command in a network namespace."""
        return run("ip", "netns", "exec", netns, *command, check=check)

    def adopt(self, name: str) -> str:
        """A fresh namespace as the container ``name``; the namespace's name."""
        netns = self.namespace(name)
        self.cnm("adopt", name, "--netns", f"/run/netns/{netns}")
        return netns

    def http(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request. Bytes are sent as they are, anything else as JSON."""
        sent = dict(headers or {})
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if content is not None and not isinstance(body, bytes):
            sent.setdefault("Content-Type", "application/json")
        with contextlib.closing(UnixConnection(self.socket)) as connection:
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            text = response.read().decode()
            answered = {key.lower(): value for key, value in response.getheaders()}
        try:
            return Answer(response.status, answered, json.loads(text))
        except ValueError:
            return Answer(response.status, answered, text)

    def _client(self, program: str, arguments: Sequence[str], check: bool) -> Completed:
        environment = {
            **os.environ,
            "CNM_HOST": self.host,
            "DOCKER_HOST": self.host,
            "DOCKER_CONFIG": str(self.folder / "docker"),  # not the machine's user's
        }
        return run(program, *arguments, check=check, environment=environment)


def run(
    *command: str, check: bool = True, environment: Mapping[str, str] | None = None
) -> Completed:
    """A command to its end, as text. With ``check`` a failure shows what it said."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(command)} ended with {done.returncode}: {done.stderr}{done.stdout}"
        )
    return done
