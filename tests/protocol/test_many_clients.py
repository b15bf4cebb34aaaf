"""Clients that take file descriptors: the daemon keeps enough for itself."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

import pytest
from conftest import DaemonFactory
from livedaemon import LiveDaemon, run

pytestmark = pytest.mark.kernel

_LIMIT = 256
_CLIENTS = 400


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"still waiting for {what}"
        time.sleep(0.02)


def limits(live: LiveDaemon) -> list[str]:
    with open(f"/proc/{live.pid}/limits") as file:
        (line,) = (line for line in file if line.startswith("Max open files"))
    return line.split()[3:5]


def idle(live: LiveDaemon) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(live.socket))
    return client


def test_the_limit_is_raised(daemon: DaemonFactory) -> None:
    live = daemon(start=False)
    live.spawn("prlimit", "--nofile=64:4096")
    live.wait_until_ready()
    assert limits(live) == ["4096", "4096"]


def test_idle_clients_do_not_take_the_last_descriptor(daemon: DaemonFactory) -> None:
    live = daemon("--sweep-interval", "1", start=False)
    live.spawn("prlimit", f"--nofile={_LIMIT}")
    live.wait_until_ready()
    with contextlib.ExitStack() as stack:
        for _ in range(_CLIENTS):
            stack.enter_context(idle(live))
        with idle(live) as client:
            answer = client.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b'too many clients are connected to the cnm daemon: close some"}\n')
        run("ip", "-n", live.netns, "link", "del", "cnm0")
        wait_for(lambda: "cnm0" in str(live.ip("link", "show")), "the sweep")
    wait_for(lambda: live.http("GET", "/_ping").status == 200, "room for clients")
    told = [line for line in live.log().splitlines() if "turned away" in line or "accept" in line]
    assert len(told) == 1
    assert "Too many open files" not in live.log()
