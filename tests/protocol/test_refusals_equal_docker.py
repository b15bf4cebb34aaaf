"""What is refused, and how, equals Docker's: the same ``docker`` words to a real dockerd and to us.

Exit code and text are compared; two things about the text are not. Engines differ in whether the
first letter is large (newer ones: no), and in how they name the programs that they start containers
with.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from livedaemon import COMMAND_TIMEOUT_S
from peers.cnmd import Cnmd
from peers.dockerd import Dockerd, import_busybox

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("dockerd"),
]

SCENE = (
    "network create --subnet 10.5.0.0/24 mine",
    "run -d --name run1 --network mine bb sleep 10000",
    "run -d --name stopped bb /bin/sleep 0",
)
RUN = (  # behind `docker run --rm`
    "bb /no/such",
    "bb no-such-command",
    "bb ./x",
    "bb /etc/hosts",
    "--name run1 bb sh",
    "--name ?bad bb sh",
    "--network nonet bb sh",
    "--memory 1k bb sh",
    "--memory 6m --memory-swap 5m bb sh",
    "--memory-swap 5m bb sh",
    "--cpus 100 bb sh",
    "--cpus -1 bb sh",
    "-w relative bb sh",
    "-w /bin/busybox bb sh",
    "--sysctl net.nonsense.x=1 bb sh",
    "--sysctl net.ipv4.ip_forward=zz bb sh",
    "--cap-add NOPE bb sh",
    "--cap-drop NOPE bb sh",
    "-v /x:rel bb sh",
    "-v /tmp:/ bb sh",
    "-v /tmp:/x:bad bb sh",
    "-v /tmp:/x -v /etc:/x bb sh",
    "--user nobody9 bb sh",
    "--user 0:nogrp bb sh",
    "--user -1 bb sh",
    "--restart always bb sh",
    "--ip 10.5.0.9 bb sh",
    "--network mine --ip zz bb sh",
    "--network host --ip 10.5.0.9 bb sh",
    "--network host --link run1 bb sh",
    "--network container: bb sh",
    "--network container:nobody bb sh",
    "--network container:run1 --hostname h bb sh",
    "--network container:run1 --dns 192.0.2.1 bb sh",
    "--network container:run1 --add-host a:192.0.2.1 bb sh",
    "--network container:run1 --link run1 bb sh",
    "--link nobody bb sh",
    "--stop-signal NOPE bb sh",
    "--security-opt nope bb sh",
    "--log-opt max-size=x bb sh",
    "--tmpfs rel bb sh",
)
OTHERS = (
    "start nope",
    "stop nope",
    "kill nope",
    "kill stopped",
    "kill --signal 99 run1",
    "restart nope",
    "rm nope",
    "exec nope true",
    "exec stopped true",
    "exec -w /nope run1 true",
    "attach nope",
    "attach stopped",
    "logs nope",
    "wait nope",
    "rename nope xx",
    "rename run1 stopped",
    "rename run1 ?",
    "rename run1 run1",
    "top stopped",
    "port run1 80",
    "network connect nonet run1",
    "network connect mine nope",
    "network disconnect bridge run1",
)
# What stands for a container in texts, and what newer engines have changed in them.
SAME = (
    (r"[0-9a-f]{64}", "ID"),
    (r"failed to create shim task: OCI runtime create failed: runc create failed: ", "START "),
    (r"failed to create task for container: ", "START "),
    (r"error during container init: ", ""),
    (r"invalid endpoint settings:\n", ""),
)


class Engines(NamedTuple):
    docker: Path  # sockets
    ours: Path


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    with Dockerd() as docker, Cnmd() as ours:
        docker.import_image("bb")
        import_busybox(ours.api, "bb")
        both = Engines(docker.socket, ours.socket)
        for words in SCENE:
            for socket in both:
                assert said(socket, words)[0] == 0
        there = [containers(socket) for socket in both]
        yield both
        assert [containers(socket) for socket in both] == there  # nothing is left of a refusal


@pytest.mark.parametrize("words", [*(f"run --rm {words}" for words in RUN), *OTHERS])
def test_as_docker_refuses_it(engines: Engines, words: str) -> None:
    theirs, mine = (said(socket, words) for socket in engines)
    assert theirs[0] != 0
    assert mine == theirs


def said(socket: Path, words: str) -> tuple[int, str]:
    """Exit code and text of ``docker`` with these words."""
    done = subprocess.run(
        ["docker", *shlex.split(words)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=COMMAND_TIMEOUT_S,
        env={**os.environ, "DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": "/nonexistent"},
    )
    text = done.stdout + done.stderr
    for pattern, plain in SAME:
        text = re.sub(pattern, plain, text)
    return done.returncode, text.lower()


def containers(socket: Path) -> list[str]:
    return said(socket, "ps -a --format '{{.Names}} {{.State}}'")[1].splitlines()
