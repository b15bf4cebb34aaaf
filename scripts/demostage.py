"""The stage that ``make demo`` plays on: a host, its daemon, and commands that are shown."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
COLOURS = sys.stdout.isatty()
NETNS = Path("/run/netns")


class Failed(Exception):
    """A step did not hold; the text says which and why."""


def say(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def paint(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m" if COLOURS else text


def title(text: str) -> None:
    say()
    say(paint(f"# {text}", "1;36"))


def wait_until(what: str, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"waited {timeout_s:.0f} s in vain: {what}")
        time.sleep(0.02)


class Stage:
    """A host namespace, containers' namespaces, a folder and a daemon; all of it removable."""

    def __init__(self) -> None:
        self.tag = f"demo{os.getpid()}"
        self.host = f"{self.tag}-host"
        self.folder = Path(tempfile.mkdtemp(prefix=f"cnm-{self.tag}-"))
        self.socket = self.folder / "cnm.sock"
        self.log = self.folder / "daemon.log"
        self.environment = {
            **os.environ,
            "CNM_HOST": f"unix://{self.socket}",
            "PATH": f"{BIN}:{os.environ['PATH']}:/usr/sbin:/sbin",
        }
        self.daemon: subprocess.Popen[bytes] | None = None
        self.others: list[subprocess.Popen[bytes]] = []

    def show(self, command: str, *wanted: str, status: int = 0) -> str:
        """Print a command, run it, print what it said; all of ``wanted`` must be in that."""
        say(paint(f"$ {command}", "1"))
        done = subprocess.run(
            shlex.split(command),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.stdout.strip():
            say(done.stdout.rstrip())
        if done.returncode != status:
            raise Failed(f"`{command}` ended with {done.returncode}, not with {status}")
        for text in wanted:
            if text not in done.stdout:
                raise Failed(f"`{command}` did not say {text!r}")
        return done.stdout

    def read(self, command: str) -> Any:
        """The JSON that a command prints, not shown."""
        done = subprocess.run(
            shlex.split(command), env=self.environment, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout or "[]")

    def start(self) -> None:
        command = (
            f"ip netns exec {self.host} cnm daemon --root {self.folder}/root"
            f" --exec-root {self.folder}/run -H unix://{self.socket}"
        )
        say(paint(f"$ {command} &", "1"))
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                shlex.split(command),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        def ready() -> bool:
            if self.daemon is not None and self.daemon.poll() is not None:
                raise Failed(f"the daemon ended:\n{self.log.read_text()[before:]}")
            return "cnm daemon ready" in self.log.read_text()[before:]

        wait_until("the daemon says that it is ready", ready)
        for line in self.log.read_text()[before:].splitlines():
            say(f"  {line}")

    def stop(self, number: signal.Signals) -> None:
        if self.daemon is not None:
            with contextlib.suppress(ProcessLookupError):
                self.daemon.send_signal(number)
            self.daemon.wait()
            self.daemon = None

    def strike(self) -> None:
        """Everything off the stage, whatever happened on it."""
        for process in self.others:
            process.kill()
            process.wait()
        self.stop(signal.SIGKILL)
        for path in sorted(NETNS.glob(f"{self.tag}-*")):
            subprocess.run(["ip", "netns", "delete", path.name], check=True)
        shutil.rmtree(self.folder, ignore_errors=True)
