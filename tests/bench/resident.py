"""``daemon.resident``: what stays in memory for a network with thirty containers.

PSS, by the kernel (proc_pid_smaps(5)): a page that several processes share is divided among
them. Each engine with its helpers; the containers' supervisors (our one, Docker's shims,
Podman's conmon) apart. netavark leaves no daemon, but its resolver; CNI leaves nothing.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench.contenders import Contender
from bench.measure import Metrics
from bench.stage import Peers

_NAME = "daemon.resident"
_SWEPT_S = 31  # our daemon returns free memory to the kernel every half minute


def measure(metrics: Metrics, peers: Peers) -> None:
    """Once, after the other modules have kept everybody busy, and a sweep has been."""
    for contender in peers.contenders:
        contender.create()
        contender.attach_all()
    time.sleep(_SWEPT_S)
    try:
        for name, pids in _processes(peers).items():
            metrics.add(_NAME, name, sum(map(proportional_mb, pids)))
    finally:
        for contender in peers.contenders:
            _leave(contender)


def _processes(peers: Peers) -> dict[str, list[int]]:
    found = {"cnm": [peers.cnm.pid, *peers.cnm.helpers()]}
    if peers.docker is not None:
        found["docker"] = [pid for pid in peers.docker.processes() if "shim" not in name_of(pid)]
    if peers.netavark is not None:
        found["netavark"] = peers.netavark.helpers()
    return found


def _leave(contender: Contender) -> None:
    contender.detach_all()
    contender.remove()


def proportional_mb(pid: int) -> float:
    """PSS of a process in MB (2^20 bytes)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(row.split()[1]) / 1024 for row in text.splitlines() if row.startswith("Pss:"))


def name_of(pid: int) -> str:
    """What a process is called."""
    return Path(f"/proc/{pid}/comm").read_text().strip()
