"""``ports.*``: fifty ports published and taken back, and what they hold in memory.

Ours publishes on a container that runs. Docker cannot: its fifty are those of a container that
joins, or leaves, a network, with what the same costs a container without ports taken off.
What thousands of ports cost: ``manyports``.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

from peers.api import Api
from peers.dockerd import Dockerd

from bench import manyports
from bench.manyports import change
from bench.measure import Metrics
from bench.resident import name_of, proportional_mb
from bench.stage import IMAGE, Peers

_NETWORK = "bench-ports"
_PORTS = [20000 + 7 * number for number in range(50)]  # scattered: no two are one range
_ROUNDS = 5


def measure(metrics: Metrics, peers: Peers) -> None:
    """Ours, then Docker's; who is not there is left out."""
    with _connected(peers.cnm.api, "c0"):
        _publish(Metrics(), peers, 1)  # warm: the first port starts the helper
        _publish(metrics, peers, peers.rounds)
        manyports.measure(metrics, peers, _NETWORK)
    if peers.docker is not None:
        _docker(metrics, peers.docker)


@contextlib.contextmanager
def _connected(api: Api, name: str) -> Iterator[None]:
    api.call("POST", "/networks/create", {"Name": _NETWORK})
    api.call("POST", f"/networks/{_NETWORK}/connect", {"Container": name})
    try:
        yield
    finally:
        api.call("POST", f"/networks/{_NETWORK}/disconnect", {"Container": name})
        api.call("DELETE", f"/networks/{_NETWORK}")


def _publish(metrics: Metrics, peers: Peers, rounds: int) -> None:
    for number in range(rounds):
        with metrics.timed("ports.publish50", "cnm"):
            change(peers, "publish", _PORTS)
        if number == rounds - 1:
            helpers = peers.cnm.helpers_named("cnm.drivers.bridge.portserver")
            if len(helpers) != 1:
                raise ValueError(f"{len(helpers)} processes hold the ports")
            metrics.add("ports.resident50", "cnm", proportional_mb(helpers[0]))
        with metrics.timed("ports.unpublish50", "cnm"):
            change(peers, "unpublish", None)


# Docker


def _docker(metrics: Metrics, docker: Dockerd) -> None:
    """Two containers that sleep, one with ports, in and out of a network in turns."""
    api = docker.api
    api.call("POST", "/networks/create", {"Name": _NETWORK})
    names = {"bare": [], "ports": _PORTS}
    for name, ports in names.items():
        _asleep(api, name, ports)
    try:
        taken: dict[tuple[str, str], list[float]] = {}
        for _, name in itertools.product(range(_ROUNDS), names):
            body = {"Container": name}
            for verb in ("connect", "disconnect"):
                call = f"/networks/{_NETWORK}/{verb}"
                taken.setdefault((name, verb), []).append(
                    _timed(partial(api.call, "POST", call, body))
                )
                if (name, verb) == ("ports", "connect"):
                    memory = _proxies(docker)
        metrics.add("ports.resident50", "docker", memory)
        for metric, verb in (("ports.publish50", "connect"), ("ports.unpublish50", "disconnect")):
            bare = statistics.median(taken["bare", verb])
            for value in taken["ports", verb]:
                metrics.add(metric, "docker", max(value - bare, 0.0))
    finally:
        for name in names:
            api.call("DELETE", f"/containers/{name}?force=1")
        api.call("DELETE", f"/networks/{_NETWORK}")


def _asleep(api: Api, name: str, ports: list[int]) -> None:
    wish = {
        "Image": IMAGE,
        "Cmd": ["/bin/sleep", "3600"],
        "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {
            "NetworkMode": "none",
            "PortBindings": {"80/tcp": [{"HostPort": str(port)} for port in ports]},
        },
    }
    api.call("POST", f"/containers/create?name={name}", wish)
    api.call("POST", f"/containers/{name}/start")
    api.call("POST", "/networks/none/disconnect", {"Container": name})


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


def _proxies(docker: Dockerd) -> float:
    found = [pid for pid in docker.processes() if name_of(pid) == "docker-proxy"]
    return sum(map(proportional_mb, found))
