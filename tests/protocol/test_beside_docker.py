"""A real dockerd and our daemon on one host: all containers and ports, through restarts of each."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import DaemonFactory
from livedaemon import run
from patience import patient
from peers.dockerd import Dockerd
from peers.lan import ASK, CLIENT, HOST, Lan, server

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(patient(240))]

THEIRS = {
    "Image": "busybox",
    "Cmd": ["/bin/busybox", "nc", "-ll", "-p", "80", "-e", "/bin/busybox", "echo", "theirs"],
    "ExposedPorts": {"80/tcp": {}},
    "HostConfig": {
        "PortBindings": {"80/tcp": [{"HostPort": "6000"}]},
        "RestartPolicy": {"Name": "always"},
    },
}


@pytest.fixture
def docker() -> Iterator[Dockerd]:
    with Dockerd() as running:
        running.import_image()
        yield running


def test_both_work_before_and_after_restarts_of_each(
    docker: Dockerd, daemon: DaemonFactory
) -> None:
    made = docker.api.call("POST", "/containers/create?name=theirs", THEIRS)["Id"]
    docker.api.call("POST", f"/containers/{made}/start")
    live = daemon(netns=docker.name)
    lan = Lan(live)
    live.docker("run", "-d", "--name", "ours", "-p", "5005:80", "host", *server())
    live.net("create", "red")
    live.docker(
        "run", "-d", "--name", "second", "--network", "red", "-p", "5006:80", "host", *server()
    )
    lan.serving("ours")
    lan.serving("second")
    try:
        judge(lan, docker)
        live.restart()
        judge(lan, docker)
        live.kill()
        judge(lan, docker)
        live.start()
        judge(lan, docker)
        docker.restart()
        judge(lan, docker)
        taken = live.docker("run", "--rm", "-p", "6000:80", "host", "true", check=False)
        assert "Bind for 0.0.0.0:6000 failed: port is already allocated" in taken.stderr
        assert "docker-proxy" in taken.stderr
    finally:
        if not live.running:
            live.start()
        live.docker("rm", "-f", "ours", "second")
    judge_theirs(lan)
    live.net("rm", "red")


def judge(lan: Lan, docker: Dockerd) -> None:
    """Who reaches what; at once for ours, and soon for Docker's, whose proxy starts anew."""
    assert lan.ask(HOST, 5005) == CLIENT
    assert lan.ask(HOST, 5006) == CLIENT
    assert lan.ask("127.0.0.1", 5005, netns=lan.host)
    assert lan.ask("::1", 5006, netns=lan.host)
    judge_theirs(lan)
    inside = run("nsenter", f"--net={docker.namespace('theirs')}", *asking(5005))
    assert inside.stdout.strip().startswith("172."), "a container of Docker's reaches ours"
    if lan.live.running:
        for name, port in (("ours", 5006), ("second", 5005), ("second", 6000)):
            assert lan.live.docker("exec", name, *asking(port)).stdout.strip(), (name, port)


def asking(port: int) -> list[str]:
    return [sys.executable, "-c", ASK, "tcp", HOST, str(port)]


def judge_theirs(lan: Lan) -> None:
    poll(lambda: lan.ask(HOST, 6000) == "theirs", "Docker's container is reached")


def poll(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + patient(30)
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)
