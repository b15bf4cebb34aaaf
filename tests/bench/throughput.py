"""``bridge.throughput``: iperf3, one TCP stream between two containers of one network."""

from __future__ import annotations

import json
import shutil
import subprocess
import time

from bench.contenders import Contender
from bench.measure import Metrics
from bench.stage import Peers

_ROUNDS = 5
_SECONDS = 1
_WITHIN_S = 10.0  # for the server to listen


def measure(metrics: Metrics, peers: Peers) -> None:
    """Everybody's path in turn; without iperf3 there is no figure."""
    if shutil.which("iperf3") is None:
        return
    for contender in peers.contenders:
        contender.create()
        contender.attach(0)
        contender.attach(1)
    try:
        for _ in range(min(_ROUNDS, peers.rounds)):
            for contender in peers.contenders:
                metrics.add("bridge.throughput", contender.name, _gigabits(contender))
    finally:
        for contender in peers.contenders:
            contender.detach(0)
            contender.detach(1)
            contender.remove()


def _gigabits(contender: Contender) -> float:
    """Gbit/s that arrive."""
    listening = [*_inside(contender, 0), "iperf3", "--server", "--one-off"]
    server = subprocess.Popen(listening, stdout=subprocess.DEVNULL)
    try:
        asking = [*_inside(contender, 1), "iperf3", "--client", contender.address(0)]
        asking += ["--time", str(_SECONDS), "--json"]
        return _answer(asking)
    finally:
        server.kill()
        server.wait()


def _answer(command: list[str]) -> float:
    """:raises TimeoutError: the server never listened; the text is iperf3's."""
    end = time.monotonic() + _WITHIN_S
    while True:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        found = json.loads(done.stdout)
        if "error" not in found:
            return float(found["end"]["sum_received"]["bits_per_second"]) / 1e9
        if time.monotonic() > end:
            raise TimeoutError(f"iperf3: {found['error']}")
        time.sleep(0.05)


def _inside(contender: Contender, number: int) -> list[str]:
    return ["nsenter", f"--net={contender.namespace(number)}"]
