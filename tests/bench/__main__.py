"""The run: everybody in turn, round after round, so that drift of the machine hits all alike."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from livedaemon import PROGRAMS, run
from peers.cnmd import Cnmd
from peers.dockerd import Dockerd

from bench import contenders, output
from bench.contenders import Contender
from bench.measure import Metrics, growth, steps

ROUNDS = 15
STARTS = 5
SCALE = 200  # steps of the growth check
ENDPOINTS = (100, 10)  # containers, and networks that each of them is on: 1000 endpoints
POOL = "base=10.128.0.0/9,size=24"  # room for hundreds of networks without naming subnets


def main() -> int:
    metrics = Metrics()
    with ExitStack() as stack:
        prefix = f"cnmb-{os.getpid()}"
        ours = stack.enter_context(Cnmd("--default-address-pool", POOL))
        docker = stack.enter_context(Dockerd()) if shutil.which("dockerd") else None
        everybody: list[Contender] = [contenders.ours(ours), contenders.floor(stack, prefix)]
        if docker is not None:
            everybody.append(contenders.docker(docker))
        for contender in everybody:
            contender.round(Metrics())  # warm
        for number in range(ROUNDS):
            say(f"round {number + 1} of {ROUNDS}")
            for contender in everybody:
                contender.round(metrics)
            listing(metrics, ours, docker)
        resident(metrics, ours, docker)
    scaling = scale()
    restart(metrics)
    report(metrics, scaling)
    return 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def listing(metrics: Metrics, ours: Cnmd, docker: Dockerd | None) -> None:
    """The command as a person waits for it."""
    with metrics.timed("cli.ls", "cnm"):
        run(str(PROGRAMS / "net"), "ls", environment={**os.environ, "CNM_HOST": ours.host})
    command = shutil.which("docker")
    if docker is not None and command is not None:
        with metrics.timed("cli.ls", "docker"):
            run(command, "-H", f"unix://{docker.socket}", "network", "ls")


def resident(metrics: Metrics, ours: Cnmd, docker: Dockerd | None) -> None:
    """Each engine with its helpers, the containers' supervisors apart."""
    metrics.add("daemon.resident", "cnm", proportional_mb(ours.pid), "MB")
    if docker is not None:
        engine = [pid for pid in docker.processes() if "shim" not in name_of(pid)]
        metrics.add("daemon.resident", "docker", sum(map(proportional_mb, engine)), "MB")


def proportional_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(row.split()[1]) / 1024 for row in text.splitlines() if row.startswith("Pss:"))


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()


def scale() -> dict[str, object]:
    """Does the 200th take longer than the first? Medians of steps 1-10 and 191-200."""
    found: dict[str, object] = {}
    with Cnmd("--default-address-pool", POOL) as daemon:
        daemon.create("crowd", IPAM={"Config": [{"Subnet": "10.64.0.0/16"}]})
        for number in range(SCALE):
            daemon.adopt(f"c{number}")
        say(f"{SCALE} containers on one network, then {SCALE} networks")
        taken = steps(SCALE, lambda number: daemon.connect("crowd", f"c{number}"))
        found["attach"] = growth(taken)
        taken = steps(SCALE, lambda number: daemon.disconnect("crowd", f"c{number}"))
        found["detach"] = growth(taken)
        found["create"] = growth(steps(SCALE, lambda number: daemon.create(f"n{number}")))
        found["rm"] = growth(steps(SCALE, lambda number: daemon.remove(f"n{number}")))
    return found


def restart(metrics: Metrics) -> None:
    """From the start of the process until it answers, with 1000 endpoints to look after."""
    containers, networks = ENDPOINTS
    with Cnmd("--default-address-pool", POOL) as daemon:
        for number in range(containers):
            daemon.adopt(f"c{number}")
        for network in range(networks):
            daemon.create(f"n{network}")
            for number in range(containers):
                daemon.connect(f"n{network}", f"c{number}")
        for number in range(STARTS):
            say(f"start {number + 1} of {STARTS} with {containers * networks} endpoints")
            daemon.send(signal.SIGKILL)
            daemon.wait_for_exit()
            started = time.perf_counter()
            daemon.start()
            metrics.add("daemon.restart1000", "cnm", time.perf_counter() - started, "s")


def report(metrics: Metrics, scaling: dict[str, object]) -> None:
    rows = list(metrics.all.values())
    output.write(Path("build"), rows, scaling)
    say("\n" + output.table(rows))
    say(f"\nGrowth over {SCALE} steps, medians in ms: steps 1-10, steps {SCALE - 9}-{SCALE}, ratio")
    for name, figures in scaling.items():
        assert isinstance(figures, tuple)
        first, last = figures
        say(f"{name:<10}{first:>10.2f}{last:>10.2f}{last / first:>10.2f}x")
    say("\nwritten: build/bench.json, build/bench.svg")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.SubprocessError as error:
        sys.exit(f"bench: {error}")
