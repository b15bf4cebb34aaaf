"""Our own daemon, as a stranger sees it: a host of its own, a process, a socket, a log.

The host is a named network namespace; containers are namespaces named after it. Tests
that need the daemon killed, traced or measured use this; it has no way in but the
commands, the socket, signals and the machine's own tools.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from peers.api import Api

START_TIMEOUT_S = 60.0  # well under 1 s on an idle machine
STOP_TIMEOUT_S = 20.0
NEVER_S = "86400"  # the periodic sweep would blur what a test counts

_numbers = itertools.count()


class Cnmd:
    """A daemon from its start (``with``) to the removal of its host and containers."""

    def __init__(self, *flags: str) -> None:
        self.host = f"cnmt-{os.getpid()}-{next(_numbers)}"
        self.folder = Path(tempfile.mkdtemp(prefix="cnmt-"))
        self.socket = self.folder / "cnm.sock"
        self.log = self.folder / "daemon.log"
        self.api = Api(self.socket)
        self._flags = flags
        self._containers: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            run("ip", "netns", "add", self.host)
            run("ip", "-n", self.host, "link", "set", "lo", "up")
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # the process

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """:raises TimeoutError: it does not answer; the text holds the end of its log."""
        command = ["ip", "netns", "exec", self.host, str(program("cnm")), "daemon"]
        command += ["--root", str(self.folder / "root"), "--exec-root", str(self.folder / "exec")]
        command += ["-H", f"unix://{self.socket}", "--pidfile", str(self.folder / "pid")]
        command += ["--config-file", str(self.folder / "none.json")]
        command += ["--sweep-interval", NEVER_S, *self._flags]
        (self.folder / "none.json").write_text("{}")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._wait_until_it_answers()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait for its end; its exit status. Already gone is fine."""
        self.api.close()
        if self._process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        status = self._process.wait(STOP_TIMEOUT_S)
        self._process = None
        return status

    def close(self) -> None:
        """End the daemon, remove containers, host and files."""
        self.stop(signal.SIGKILL)
        for name in (*self._containers, self.host):
            if Path("/run/netns", name).exists():
                run("ip", "netns", "delete", name)
        self._containers.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_text(self) -> str:
        return self.log.read_text()

    # what a test asks for

    def add_container(self, name: str) -> str:
        """A fresh namespace, adopted; the name of the namespace."""
        namespace = f"{self.host}-{name}"
        run("ip", "netns", "add", namespace)
        self._containers.append(namespace)
        self.ours("POST", "/adopt", {"Name": name, "Netns": f"/run/netns/{namespace}"})
        return namespace

    def ours(self, method: str, path: str, body: object = None) -> Any:
        """A call beyond Docker's API."""
        return self.api.call(method, path, body, prefix="/cnm/v1")

    def sweep(self) -> list[str]:
        """What a comparison of store and kernel repaired just now."""
        rows = self.ours("POST", "/sweep")["Repairs"]
        return [f"{row['Kind']} {row['Name']}: {row['Action']}" for row in rows]

    def connect(self, network: str, container: str, **endpoint: object) -> None:
        body = {"Container": container, "EndpointConfig": endpoint}
        self.api.call("POST", f"/networks/{network}/connect", body)

    def disconnect(self, network: str, container: str, force: bool = False) -> None:
        body = {"Container": container, "Force": force}
        self.api.call("POST", f"/networks/{network}/disconnect", body)

    def create(self, name: str, **wish: object) -> str:
        """The id of a new network."""
        return str(self.api.call("POST", "/networks/create", {"Name": name, **wish})["Id"])

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.api.call("GET", "/networks")
                return
            self.api.close()
            time.sleep(0.01)
        raise TimeoutError(f"the daemon does not answer:\n{self.log_text()[-3000:]}")


def program(name: str) -> Path:
    """One of our commands, beside the Python that runs the test."""
    return Path(sys.executable).parent / name


def run(*command: str) -> str:
    """The output of a command that must succeed; its error text is in the exception."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def json_of(*command: str) -> Any:
    """The decoded output of a command; nothing printed is an empty list."""
    return json.loads(run(*command) or "[]")
