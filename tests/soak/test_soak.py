"""Connect and disconnect, over and over: nothing may grow.

File descriptors, threads and kernel objects must be equal after the cycles and before,
memory at most 2 MB more once warm. 200 cycles in ``make test``; ten minutes and at
least 5,000 cycles in ``make soak``.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from livedaemon import run
from peers.cnmd import Cnmd

pytestmark = [pytest.mark.kernel]

WARM_UP = 100  # cycles: allocator, caches and thread pool reach their size
SHORT = 200
LONG = 5_000
LONG_S = 600.0
MORE_MEMORY_KB = 2_048
CHURN = 10  # every so many cycles a network comes and goes too


@pytest.fixture
def daemon() -> Iterator[Cnmd]:
    with Cnmd() as daemon:
        daemon.create("home", EnableIPv6=True, IPAM=dual("10.60.0.0/24", "fd60::/64"))
        for name in ("one", "two", "three"):
            daemon.adopt(name)
        yield daemon


def test_short_soak(daemon: Cnmd) -> None:
    soak(daemon, SHORT, 0.0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_minutes(daemon: Cnmd) -> None:
    soak(daemon, LONG, LONG_S)


def soak(daemon: Cnmd, cycles: int, least_s: float) -> None:
    for number in range(WARM_UP):
        cycle(daemon, number)
    objects, memory = kernel_objects(daemon), memory_kb(daemon.pid)
    started, number = time.monotonic(), 0
    while number < cycles or time.monotonic() - started < least_s:
        cycle(daemon, number)
        number += 1
        if number % 1000 == 0:
            report(number, started, memory_kb(daemon.pid) - memory)
    after = memory_kb(daemon.pid)
    report(number, started, after - memory)
    assert kernel_objects(daemon) == objects
    assert after - memory <= MORE_MEMORY_KB
    assert daemon.sweep() == []


def cycle(daemon: Cnmd, number: int) -> None:
    """Three containers in and out of one network, now and then of a new one."""
    network = "home"
    if number % CHURN == 0:
        network = "away"
        daemon.create(network, EnableIPv6=True, IPAM=dual("10.61.0.0/24", "fd61::/64"))
    for name in ("one", "two", "three"):
        daemon.connect(network, name)
    for name in ("one", "two", "three"):
        daemon.disconnect(network, name)
    if network == "away":
        daemon.remove(network)


def kernel_objects(daemon: Cnmd) -> dict[str, Any]:
    """What must be the same again, each by a tool that is not ours."""
    proc = Path(f"/proc/{daemon.pid}")
    host = ("ip", "-n", daemon.netns)
    return {
        "file descriptors": descriptors(proc),
        "threads": len(list((proc / "task").iterdir())),
        "links": [link["ifname"] for link in json.loads(run(*host, "-j", "link").stdout)],
        "addresses": run(*host, "-br", "address").stdout,
        "routes": run(*host, "route").stdout + run(*host, "-6", "route").stdout,
        "rules": run("ip", "netns", "exec", daemon.netns, "nft", "list", "ruleset").stdout,
        "forwarding": run(
            "ip", "netns", "exec", daemon.netns, "sysctl", "net.ipv4.ip_forward"
        ).stdout,
    }


def descriptors(proc: Path) -> dict[str, int]:
    """How many of each kind are open: ``socket:[12]`` and ``socket:[99]`` are one kind."""
    kinds: dict[str, int] = {}
    for entry in (proc / "fd").iterdir():
        kind = re.sub(r"\d+", "N", str(entry.readlink()))
        kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def memory_kb(pid: int) -> int:
    """Proportional set size: shared pages count for each process by its share."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def report(number: int, started: float, more_kb: int) -> None:
    seconds = time.monotonic() - started
    sys.stdout.write(f"{number} cycles in {seconds:.0f} s, memory {more_kb:+d} kB\n")
    sys.stdout.flush()


def dual(v4: str, v6: str) -> dict[str, Any]:
    return {"Config": [{"Subnet": v4}, {"Subnet": v6}]}
