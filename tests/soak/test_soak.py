"""Connect and disconnect, over and over: nothing may grow.

File descriptors, threads and kernel objects must be equal after the cycles and before,
memory at most 2 MB more once warm. 200 cycles in ``make test``; ten minutes and at
least 5,000 cycles in ``make soak``.
"""

from __future__ import annotations

import contextlib
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

# Cycles. Allocator, caches, the history of events and the thread pool reach their size first.
WARM_UP = 150
SHORT = 200
LONG_WARM_UP = 3_000
LONG = 5_000
LONG_S = 600.0
MORE_MEMORY_KB = 2_048
ANNOUNCED_S = 30.0  # three announcements, a second apart; more on a busy machine
CHURN = 30  # every so many cycles a network comes and goes too
NAMES = ("one", "two", "three")


@pytest.fixture
def daemon() -> Iterator[Cnmd]:
    with Cnmd() as daemon:
        daemon.create("home", EnableIPv6=True, IPAM=dual("10.60.0.0/24", "fd60::/64"))
        for name in NAMES:
            daemon.adopt(name)
        yield daemon


def test_short_soak(daemon: Cnmd) -> None:
    soak(daemon, WARM_UP, SHORT, 0.0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_minutes(daemon: Cnmd) -> None:
    soak(daemon, LONG_WARM_UP, LONG, LONG_S)


def soak(daemon: Cnmd, warm_up: int, cycles: int, least_s: float) -> None:
    for number in range(0, warm_up, len(NAMES)):
        cycles_of_all(daemon, number)
    wait_for_silence(daemon)
    objects, memory = kernel_objects(daemon), memory_kb(daemon.pid)
    resolver = memory_kb(daemon.resolver_pid)
    started, number = time.monotonic(), 0
    while number < cycles or time.monotonic() - started < least_s:
        cycles_of_all(daemon, number)
        number += len(NAMES)
        if number % 3000 == 0:
            report(number, started, memory_kb(daemon.pid) - memory)
    wait_for_silence(daemon)
    more = memory_kb(daemon.pid) - memory
    report(number, started, more)
    for kind, after_all in kernel_objects(daemon).items():
        assert (kind, after_all) == (kind, objects[kind])
    assert more <= MORE_MEMORY_KB
    assert memory_kb(daemon.resolver_pid) - resolver <= MORE_MEMORY_KB
    assert daemon.sweep() == []


def cycles_of_all(daemon: Cnmd, number: int) -> None:
    """One cycle of each container: in and out of one network, now and then of a new one."""
    network = "home"
    if number % CHURN == 0:
        network = "away"
        daemon.create(network, EnableIPv6=True, IPAM=dual("10.61.0.0/24", "fd61::/64"))
    for name in NAMES:
        daemon.connect(network, name)
    for name in NAMES:
        daemon.disconnect(network, name)
    if network == "away":
        daemon.remove(network)


def wait_for_silence(daemon: Cnmd) -> None:
    """Until the last new address was announced: that goes on for some seconds, in sockets of
    the containers' namespaces; and until the kernel has told that empty bridges are down.
    """
    end = time.monotonic() + ANNOUNCED_S
    while any(packet_sockets(namespace) for namespace in daemon.containers.values()):
        assert time.monotonic() < end, "addresses are still being announced"
        time.sleep(0.1)
    while not all("linkdown" in line for line in routes(daemon)):
        assert time.monotonic() < end, f"a bridge without ports is up: {routes(daemon)}"
        time.sleep(0.1)


def routes(daemon: Cnmd) -> list[str]:
    return run("ip", "-n", daemon.netns, "route").stdout.splitlines()


def packet_sockets(namespace: str) -> list[str]:
    command = ("nsenter", f"--net=/run/netns/{namespace}", "cat", "/proc/net/packet")
    return run(*command).stdout.splitlines()[1:]


def kernel_objects(daemon: Cnmd) -> dict[str, Any]:
    """What must be the same again, each by a tool that is not ours."""
    proc = Path(f"/proc/{daemon.pid}")
    host = ("ip", "-n", daemon.netns)
    return {
        "file descriptors": descriptors(proc),
        "resolver's descriptors": descriptors(Path(f"/proc/{daemon.resolver_pid}")),
        "threads": len(list((proc / "task").iterdir())),
        "links": [link["ifname"] for link in json.loads(run(*host, "-j", "link").stdout)],
        "addresses": run(*host, "-o", "address").stdout,
        "routes": run(*host, "route").stdout + run(*host, "-6", "route").stdout,
        "rules": run("ip", "netns", "exec", daemon.netns, "nft", "-s", "list", "ruleset").stdout,
        "forwarding": run(
            "ip", "netns", "exec", daemon.netns, "sysctl", "net.ipv4.ip_forward"
        ).stdout,
    }


def descriptors(proc: Path) -> dict[str, int]:
    """How many of each kind are open: ``socket:[12]`` and ``socket:[99]`` are one kind."""
    kinds: dict[str, int] = {}
    for entry in (proc / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed while we look
            kind = re.sub(r"\d+", "N", str(entry.readlink()))
            kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def memory_kb(pid: int) -> int:
    """Memory of its own. Pages of files (Python, libraries) are left out: their share changes
    with every other Python that starts or ends on the machine.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))


def report(number: int, started: float, more_kb: int) -> None:
    seconds = time.monotonic() - started
    sys.stdout.write(f"{number} cycles in {seconds:.0f} s, memory {more_kb:+d} kB\n")
    sys.stdout.flush()


def dual(v4: str, v6: str) -> dict[str, Any]:
    return {"Config": [{"Subnet": v4}, {"Subnet": v6}]}
