"""What thousands of published ports cost: a connection through one, and publishing one more.

A machine drifts by more than what is looked for. So few and many published ports take turns,
what is measured with many is divided by the mean of what was with few just before and just
after, and the ratio of each such turn is a figure of its own.

Connections come from a client on a LAN beside our host. What is published beside the port that
is measured is spread over other containers, as on a host that has so many.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from livedaemon import run
from peers.lan import HOST, Lan, server

from bench.measure import Metrics
from bench.stage import Peers

_ONE = "c0"  # the container that is measured
_OTHERS = tuple(f"c{number}" for number in range(1, 21))
_PORT, _FIRST = 10000, 10001
_IPV4 = "0.0.0.0"  # a port of both families takes two descriptors; not each machine allows 20,000
_ROUNDS = 9
_CLIENTS, _CONNECTIONS, _WARM = 3, 200, 50  # one client alone meets whatever else goes on just then
_ADDED = 15  # times that one more port is published
_PAUSE_S = 0.2  # until a server that was just started listens
# Milliseconds of a connection, the median of some hundred.
_CONNECT = """
import socket, statistics, sys, time
host, port, count, warm = sys.argv[1], *map(int, sys.argv[2:])
taken = []
for _ in range(warm + count):
    started = time.perf_counter()
    with socket.create_connection((host, port), 5) as link:
        taken.append(time.perf_counter() - started)
        link.recv(100)
print(statistics.median(taken[warm:]) * 1e3)
"""


def change(
    peers: Peers,
    verb: str,
    ports: Sequence[int] | None,
    container: str = _ONE,
    address: str = "",
) -> None:
    """Publish ports of the host for a container's port 80, or take them back (``None``: all)."""
    bindings = None
    if ports is not None:
        bindings = {"80/tcp": [{"HostIp": address, "HostPort": str(port)} for port in ports]}
    path = f"/cnm/v1/containers/{container}/{verb}"
    peers.cnm.api.call("POST", path, {"PortBindings": bindings})


def measure(metrics: Metrics, peers: Peers, network: str) -> None:
    """All of it; ``network``: whose first container there is already."""
    with contextlib.ExitStack() as stack:
        for name in _OTHERS:
            stack.enter_context(_connected(peers, network, name))
        _connections(metrics, peers)
        _one_more(metrics, peers)


@contextlib.contextmanager
def _connected(peers: Peers, network: str, name: str) -> Iterator[None]:
    body = {"Container": name}
    peers.cnm.api.call("POST", f"/networks/{network}/connect", body)
    try:
        yield
    finally:
        peers.cnm.api.call("POST", f"/networks/{network}/disconnect", body)


def _connections(metrics: Metrics, peers: Peers) -> None:
    lan = Lan(peers.cnm)
    with _serving(peers.contenders[0].namespace(0)), _published(peers, _ONE, [_PORT]):
        _in_turns(
            metrics,
            peers,
            ("ports.connect1", "ports.connect5000"),
            more=4999,
            figure=lambda: statistics.median(_connect(lan, _PORT) for _ in range(_CLIENTS)),
        )


def _one_more(metrics: Metrics, peers: Peers) -> None:
    def figure() -> float:
        taken = []
        for _ in range(_ADDED):
            started = time.perf_counter()
            change(peers, "publish", [_PORT])
            taken.append((time.perf_counter() - started) * 1e3)
            change(peers, "unpublish", None)
        return statistics.median(taken)

    with _published(peers, _OTHERS[-1], range(_FIRST - 10, _FIRST - 1)):
        _in_turns(
            metrics, peers, ("ports.publish10th", "ports.publish10000th"), more=9990, figure=figure
        )


def _in_turns(
    metrics: Metrics,
    peers: Peers,
    names: tuple[str, str],
    *,
    more: int,
    figure: Callable[[], float],
) -> None:
    """Few published, many, few, many, …, few; each time the figure, and the ratios."""
    few, many = names
    shares = _shares(range(_FIRST, _FIRST + more))
    before = figure()
    metrics.add(few, "cnm", before)
    for _ in range(_ROUNDS):
        with contextlib.ExitStack() as stack:
            for container, ports in shares:
                stack.enter_context(_published(peers, container, ports))
            between = figure()
        after = figure()
        metrics.add(many, "cnm", between)
        metrics.add(few, "cnm", after)
        metrics.add(f"{many}.ratio", "cnm", between / statistics.mean((before, after)))
        before = after


def _shares(ports: range) -> list[tuple[str, range]]:
    """Each other container's part; the last one is left alone."""
    size = -(-len(ports) // (len(_OTHERS) - 1))
    return [
        (container, ports[size * number : size * (number + 1)])
        for number, container in enumerate(_OTHERS[:-1])
    ]


@contextlib.contextmanager
def _published(peers: Peers, container: str, ports: Sequence[int]) -> Iterator[None]:
    change(peers, "publish", ports, container, _IPV4)
    try:
        yield
    finally:
        change(peers, "unpublish", None, container)


@contextlib.contextmanager
def _serving(namespace: str) -> Iterator[None]:
    command = ["nsenter", f"--net={namespace}", *server()]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        time.sleep(_PAUSE_S)
        try:
            yield
        finally:
            process.kill()


def _connect(lan: Lan, port: int) -> float:
    command = ("ip", "netns", "exec", lan.client, sys.executable, "-c", _CONNECT)
    return float(run(*command, HOST, str(port), str(_CONNECTIONS), str(_WARM)).stdout)
