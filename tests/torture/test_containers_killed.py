"""SIGKILL at the Nth kernel step of a container's create, start, stop and removal.

After each: namespaces, mounts, links, leases, directories, control groups, processes and the
runtime's own state are those of the containers that the API shows, a sweep repairs nothing, and
the container can be started with its networks and its static address, or removed.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import itertools
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import DaemonFactory
from kernel.container.stage import listener, until
from livedaemon import Answer, LiveDaemon
from torture.stepkiller import StepKiller

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

Record = Callable[[str, object], None]  # pytest's record_property

SAMPLE = 2  # kills of each verb in `make test`
VERBS = ("create", "start", "start-private", "stop", "remove")
STATIC, DYNAMIC = "10.9.0.77", "172.17.0.2"
BODY: dict[str, Any] = {
    "Image": "host",
    "Cmd": ["sleep", "1000"],
    "HostConfig": {"NetworkMode": "red"},
    "NetworkingConfig": {
        "EndpointsConfig": {"red": {"IPAMConfig": {"IPv4Address": STATIC}}, "bridge": {}}
    },
}


@pytest.fixture
def live(daemon: DaemonFactory) -> Iterator[LiveDaemon]:
    running = daemon()
    running.docker("network", "create", "--subnet", "10.9.0.0/24", "red")
    yield running
    reset(running)


@pytest.mark.parametrize("verb", VERBS)
def test_sample(live: LiveDaemon, verb: str, record_property: Record) -> None:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    ready(live, verb)
    do(live, verb)
    reset(live)  # the first time has steps of its own, of libraries that are loaded
    ready(live, verb)
    with StepKiller(live.pid, 0) as counted:
        do(live, verb)
    judge(live)
    reset(live)
    chosen = random.Random(f"{seed} {verb}").sample(range(1, counted.steps + 1), SAMPLE)
    record_property(f"SEED={seed}", f"N {chosen} of 1 to {counted.steps}")
    for when in chosen:
        kill_and_judge(live, verb, when)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("verb", VERBS)
def test_every_step(live: LiveDaemon, verb: str, record_property: Record) -> None:
    last = next(when for when in itertools.count(1) if not kill_and_judge(live, verb, when))
    record_property("every N", f"from 1 to {last - 1}")


def ready(live: LiveDaemon, verb: str) -> None:
    if verb != "create":
        assert do(live, "create-private" if verb == "start-private" else "create").status == 201
    if verb in ("stop", "remove"):
        assert do(live, "start").status == 204


def do(live: LiveDaemon, verb: str) -> Answer:
    match verb:
        case "create":
            return live.http("POST", "/containers/create?name=web", BODY)
        case "create-private":
            host = {**BODY["HostConfig"], "UsernsMode": "private"}
            return live.http("POST", "/containers/create?name=web", {**BODY, "HostConfig": host})
        case "start" | "start-private":
            return live.http("POST", "/containers/web/start")
        case "stop":
            return live.http("POST", "/containers/web/stop?t=0")
        case _:
            return live.http("DELETE", "/containers/web?force=1")


def reset(live: LiveDaemon) -> None:
    assert do(live, "remove").status in (204, 404)
    judge(live)


def kill_and_judge(live: LiveDaemon, verb: str, when: int) -> bool:
    """Whether the verb was killed: it may take fewer steps than ``when``."""
    ready(live, verb)
    with StepKiller(live.pid, when) as tracer:
        with contextlib.suppress(OSError, http.client.HTTPException):
            do(live, verb)
    if tracer.killed:
        live.wait_for_exit()
        live.start()
    judge(live)
    assert live.http("POST", "/cnm/v1/sweep").document == {"Repairs": []}
    if verb in ("start", "start-private", "stop"):
        assert do(live, "start").status in (204, 304)
        judge(live)
        networks = live.http("GET", "/containers/web/json").document["NetworkSettings"]["Networks"]
        assert {name: item["IPAddress"] for name, item in networks.items()} == {
            "red": STATIC,
            "bridge": DYNAMIC,
        }
    reset(live)
    return tracer.killed


def judge(live: LiveDaemon) -> None:
    """What is there is what the API shows."""
    rows = live.http("GET", "/containers/json?all=1").document
    every = {row["Id"] for row in rows}
    running = {row["Id"] for row in rows if row["State"] == "running"}
    assert names(live.exec_root / "netns") == running
    assert mounted_below(live.exec_root / "netns") == running
    assert names(live.root / "containers") == every
    assert names(live.exec_root / "containers") <= every
    links = [link for link in live.ip("link") if link["ifname"].startswith("veth")]
    assert len(links) == 2 * len(running)
    judge_processes(live, running)
    held = {STATIC for _ in every} | {DYNAMIC for _ in running}
    assert leases(live) == {"10.9.0.1", "172.17.0.1"} | held


def judge_processes(live: LiveDaemon, running: set[str]) -> None:
    """One process for each that runs, in control groups of its own, and no other of ours."""
    until("only what runs has control groups", lambda: set(groups(live)) == running)
    shown = {
        live.http("GET", f"/containers/{container_id}/json").document["State"]["Pid"]
        for container_id in running
    }
    members = {pid for paths in groups(live).values() for pid in members_of(paths)}
    assert members == shown
    if (live.exec_root / "supervisor.sock").exists():
        assert children(listener(live.exec_root / "supervisor.sock")) == shown
    assert children(live.pid) == set()


def groups(live: LiveDaemon) -> dict[str, list[Path]]:
    """Control groups that bear the mark of this daemon's directory, by container."""
    found: dict[str, list[Path]] = {}
    for path in Path("/sys/fs/cgroup").glob("*/cnm/*"):
        with contextlib.suppress(OSError):
            if os.getxattr(path, "trusted.cnm") == str(live.exec_root).encode():
                found.setdefault(path.name, []).append(path)
    return found


def members_of(paths: list[Path]) -> set[int]:
    return {int(pid) for path in paths for pid in (path / "cgroup.procs").read_text().split()}


def children(pid: int) -> set[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(word) for task in tasks for word in task.read_text().split()}


def names(folder: Path) -> set[str]:
    return {item.name for item in folder.iterdir()} if folder.is_dir() else set()


def mounted_below(folder: Path) -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    paths = [Path(line.split()[4]) for line in lines]
    return {path.name for path in paths if path.parent == folder}


def leases(live: LiveDaemon) -> set[str]:
    path = f"file:{live.root / 'cnm.db'}?mode=ro"
    with closing(sqlite3.connect(path, uri=True)) as database:
        rows = database.execute("SELECT address FROM leases").fetchall()
    return {str(ipaddress.ip_address(address)) for (address,) in rows}
