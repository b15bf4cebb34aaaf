"""The plugin as runtimes call it: a process, an environment, a document."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from livedaemon import COMMAND_TIMEOUT_S, PROGRAMS, LiveDaemon

PLUGIN = PROGRAMS / "cnm-cni"


class Runtime:
    """Calls the plugin for one daemon, as a container runtime would."""

    def __init__(self, daemon: LiveDaemon) -> None:
        self.daemon = daemon

    def conf(self, **more: Any) -> dict[str, Any]:
        """A network's configuration."""
        base = {"cniVersion": "1.1.0", "name": "pods", "type": "cnm-cni"}
        return {**base, "subnet": "10.77.0.0/24", **more}

    def start(
        self,
        command: str,
        container: str = "",
        netns: str = "",
        conf: dict[str, Any] | bytes | None = None,
        interface: str = "eth0",
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """A call, its input written."""
        text = conf if isinstance(conf, bytes) else json.dumps(conf or self.conf()).encode()
        process = subprocess.Popen(
            [PLUGIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONSAFEPATH": "1",
                "CNM_HOST": self.daemon.host,
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": container,
                "CNI_NETNS": f"/run/netns/{netns}" if netns else "",
                "CNI_IFNAME": interface,
                "CNI_PATH": str(PROGRAMS),
                **environment,
            },
        )
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        process.stdin = None
        return process

    def __call__(self, *arguments: Any, **more: Any) -> tuple[int, Any]:
        """Exit status, and what was printed, decoded."""
        return outcome(self.start(*arguments, **more))

    def add(self, container: str, netns: str, **more: Any) -> Any:
        """ADD that succeeds; its result."""
        status, document = self("ADD", container, netns, **more)
        assert status == 0, document
        return document

    def error(self, *arguments: Any, **more: Any) -> tuple[int, str]:
        """A call that fails; number and message of its error object."""
        status, document = self(*arguments, **more)
        assert status == 1, document
        assert document.keys() <= {"cniVersion", "code", "msg", "details"}
        return document["code"], document["msg"]


def outcome(process: subprocess.Popen[bytes]) -> tuple[int, Any]:
    out, err = process.communicate(timeout=COMMAND_TIMEOUT_S)
    assert err == b""
    return process.returncode, json.loads(out) if out else None


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    """A daemon for one test, which may kill it."""
    with LiveDaemon(tmp_path) as one:
        yield one.start()


@pytest.fixture
def runtime(daemon: LiveDaemon) -> Runtime:
    return Runtime(daemon)
