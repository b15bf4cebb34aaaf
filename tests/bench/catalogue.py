"""What is measured: names, units, which way is better, and what the figure means.

The names and the form of ``build/bench.json`` are relied upon by others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CONTENDERS = ("cnm", "docker", "netavark", "cni", "floor")
PEERS = ("docker", "netavark", "cni")
BATCH = 30


@dataclass(frozen=True, slots=True)
class About:
    """One metric. ``words``: for people."""

    name: str
    unit: str
    better: Literal["lower", "higher"]
    words: str


def _lower(name: str, unit: str, words: str) -> About:
    return About(name, unit, "lower", words)


def _higher(name: str, unit: str, words: str) -> About:
    return About(name, unit, "higher", words)


_ALL = (
    _lower("network.create", "ms", "create a bridge network"),
    _lower("network.rm", "ms", "remove it"),
    _lower("endpoint.attach", "ms", "attach a container to a network"),
    _lower("endpoint.detach", "ms", "detach it"),
    _lower(f"endpoint.detach.batch{BATCH}", "ms", f"detach {BATCH} containers at once"),
    _lower("container.run", "ms", "create and start a container, until its first instruction"),
    _lower("ports.publish50", "ms", "publish 50 ports of a container"),
    _lower("ports.unpublish50", "ms", "take 50 published ports back"),
    _lower("ports.resident50", "MB", "memory for 50 published ports (PSS)"),
    _lower("ports.connect1", "ms", "a connection through the only published port"),
    _lower("ports.connect5000", "ms", "a connection through one of 5,000 published ports"),
    _lower("ports.connect5000.ratio", "x", "that, over a connection through the only one"),
    _lower("ports.publish10th", "ms", "publish one port more where 9 are"),
    _lower("ports.publish10000th", "ms", "publish one port more where 9,999 are"),
    _lower("ports.publish10000th.ratio", "x", "that, over one where 9 are"),
    _higher("dns.hot.qps", "q/s", "name service, the same few names"),
    _higher("dns.mixed.qps", "q/s", "name service, many names, some missing"),
    _lower("dns.local.p99", "ms", "name service, 99th percentile"),
    _higher("bridge.throughput", "Gbit/s", "one TCP stream between two containers of a host"),
    _higher("overlay.throughput", "Gbit/s", "one TCP stream between containers of two hosts"),
    _lower("cli.ls", "ms", "the command `network ls`"),
    _lower("daemon.resident", "MB", "memory of daemon and helpers (PSS)"),
    _lower("daemon.restart1000", "s", "restart with 1,000 endpoints, until it answers"),
)

METRICS = {about.name: about for about in _ALL}
