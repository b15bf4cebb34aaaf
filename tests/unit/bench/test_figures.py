"""The figures of a run: what is kept, the form of bench.json, targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench import document
from bench.catalogue import METRICS
from bench.document import advantage, best_peer
from bench.measure import Metrics, growth
from bench.targets import Target, outcomes

# what others rely on
NAMES = (
    "network.create network.rm endpoint.attach endpoint.detach endpoint.detach.batch30"
    " container.run ports.publish50 ports.unpublish50 ports.resident50 ports.connect1"
    " ports.connect5000 ports.connect5000.ratio ports.publish10th ports.publish10000th"
    " ports.publish10000th.ratio dns.hot.qps dns.mixed.qps dns.local.p99 bridge.throughput"
    " overlay.throughput cli.ls daemon.resident daemon.restart1000"
)


def metric(name: str, better: str = "lower", **medians: float) -> dict[str, Any]:
    figures = {who: {"median": value} for who, value in medians.items()}
    return {"name": name, "unit": "ms", "better": better, **figures}


def test_catalogue_has_the_names_that_others_rely_on() -> None:
    assert set(METRICS) == set(NAMES.split())
    higher = {name for name, about in METRICS.items() if about.better == "higher"}
    assert higher == {"dns.hot.qps", "dns.mixed.qps", "bridge.throughput", "overlay.throughput"}


def test_documents() -> None:
    metrics = Metrics()
    for value in (3.0, 1.0, 2.0, 10.0):
        metrics.add("endpoint.attach", "cnm", value)
    metrics.add("network.create", "docker", 2.00049)
    metrics.add("endpoint.attach", "floor", 0.5)
    assert metrics.documents() == [
        {
            "name": "network.create",
            "unit": "ms",
            "better": "lower",
            "docker": {"median": 2.0, "min": 2.0, "max": 2.0, "runs": 1},
        },
        {
            "name": "endpoint.attach",
            "unit": "ms",
            "better": "lower",
            "cnm": {"median": 2.5, "min": 1.0, "max": 10.0, "runs": 4},
            "floor": {"median": 0.5, "min": 0.5, "max": 0.5, "runs": 1},
        },
    ]


def test_what_nobody_knows_is_refused() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError):
        metrics.add("endpoint.teleport", "cnm", 1.0)
    with pytest.raises(ValueError, match="no contender abacus"):
        metrics.add("cli.ls", "abacus", 1.0)
    assert metrics.documents() == []


def test_a_failure_is_no_figure() -> None:
    metrics = Metrics()
    with pytest.raises(OSError, match="broken"), metrics.timed("cli.ls", "cnm"):
        raise OSError("broken")
    assert metrics.documents() == []
    with metrics.timed("daemon.restart1000", "cnm"):
        pass
    assert metrics.documents()[0]["unit"] == "s"


def test_growth_is_of_the_ends() -> None:
    assert growth([1.0] * 9 + [50.0] + [7.0] * 80 + [3.0] * 10) == (1.0, 3.0)


def test_the_file_comes_back(tmp_path: Path) -> None:
    written = {"machine": {"cpus": 2}, "metrics": [metric("cli.ls", cnm=1.0)], "scaling": {}}
    path = document.write(tmp_path / "build", written)
    assert path.name == "bench.json"
    assert document.read(tmp_path / "build") == written == json.loads(path.read_text())


def test_machine_tells_where() -> None:
    found = document.machine({"cnm": "1.2"})
    assert set(found) == {"date", "cpu", "cpus", "kernel", "python", "system", "versions"}
    assert all(found.values())


@pytest.mark.parametrize(
    ("better", "medians", "best", "ahead"),
    [
        pytest.param("lower", {"cnm": 2.0, "docker": 8.0, "cni": 6.0}, 6.0, 3.0, id="lower"),
        pytest.param("higher", {"cnm": 9.0, "docker": 2.0, "cni": 3.0}, 3.0, 3.0, id="higher"),
        pytest.param("higher", {"cnm": 1.0, "netavark": 2.0}, 2.0, 0.5, id="we are behind"),
        pytest.param("lower", {"cnm": 2.0, "floor": 1.0}, None, None, id="the floor is no peer"),
        pytest.param("lower", {"docker": 1.0}, 1.0, None, id="we cannot"),
    ],
)
def test_comparison(
    better: str, medians: dict[str, float], best: float | None, ahead: float | None
) -> None:
    found = metric("cli.ls", better, **medians)
    assert best_peer(found) == best
    assert advantage(found, best) == ahead


def test_targets() -> None:
    metrics = [
        metric("network.create", cnm=5.0, docker=50.0),
        metric("network.rm", cnm=14.0, floor=10.0),
        metric("endpoint.attach", cnm=3.0, docker=30.0, cni=20.0),
        metric("cli.ls", cnm=101.0),
        metric("container.run", cnm=3.0),
        metric("dns.hot.qps", "higher", cnm=220.0, docker=107.0),
        metric("dns.mixed.qps", "higher", cnm=150.0, docker=107.0),
    ]
    wanted = (
        Target("network.create", 0.1, "docker", "a tenth"),
        Target("network.rm", 1.3, "floor", "the kernel's"),
        Target("endpoint.attach", 0.2, "best peer", "a fifth"),
        Target("cli.ls", 100.0, "", "100 ms"),
        Target("container.run", 1 / 3, "docker", "no docker here"),
        Target("dns.local.p99", 1.0, "", "not measured"),
        Target("dns.hot.qps", 2.0, "docker", "at least twice"),
        Target("dns.mixed.qps", 1.5, "docker", "at least 1.5 times"),
    )
    found = [
        (item.target.metric, round(item.bound, 6), item.reached)
        for item in outcomes(metrics, wanted)
    ]
    assert found == [
        ("network.create", 5.0, True),
        ("network.rm", 13.0, False),
        ("endpoint.attach", 4.0, True),
        ("cli.ls", 100.0, False),
        ("dns.hot.qps", 214.0, True),
        ("dns.mixed.qps", 160.5, False),
    ]
