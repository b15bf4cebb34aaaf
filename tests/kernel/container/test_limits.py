"""Limits that hold, on the control groups of this machine; the v2 device program as well."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from kernel.container.stage import Stage, groups_of, new_id
from patience import patient

from cnm.runtime.container import devices
from cnm.runtime.container.cgroup import ControlGroups, Hierarchy, hierarchies
from cnm.runtimeapi import Limits

pytestmark = [pytest.mark.kernel, pytest.mark.both_kernels]


def test_a_fork_bomb_is_stopped(stage: Stage) -> None:
    spec = stage.start(
        "sh", "-c", "for i in $(seq 50); do sleep 1d & done 2>&1; sleep 1d", limits=Limits(pids=10)
    )
    stage.runtime.wait(spec.id)
    assert "can't fork" in stage.output(spec)


def test_memory_is_limited_and_the_kill_is_told(stage: Stage) -> None:
    code, _ = stage.run(
        "sh", "-c", "exec awk 'BEGIN { s = \"x\"; while (1) s = s s }'",
        limits=Limits(memory_bytes=16 << 20),
    )  # fmt: skip
    assert code == 137
    assert stage.runtime.status(stage.ids[-1]).oom_killed


def test_the_values_in_the_groups(stage: Stage) -> None:
    limits = Limits(memory_bytes=32 << 20, cpus=0.5, pids=20)
    spec = stage.start("sleep", "1d", limits=limits)
    limited = ("memory.limit_in_bytes", "cpu.cfs_quota_us", "pids.max", "memory.max", "cpu.max")
    found = {
        file: Path(path, file).read_text().strip()
        for path in map(str, groups_of(spec.id))
        for file in os.listdir(path)
        if file in limited
    }
    v1 = {"memory.limit_in_bytes": "33554432", "cpu.cfs_quota_us": "50000", "pids.max": "20"}
    v2 = {"memory.max": "33554432", "cpu.max": "50000 100000", "pids.max": "20"}
    assert found in (v1, v2)


def test_groups_made_within_are_removed_too(stage: Stage) -> None:
    spec = stage.start("sleep", "1d")
    for path in groups_of(spec.id):
        (path / "inner").mkdir()
    stage.runtime.destroy(spec.id)
    assert stage.left() == []


def test_the_device_program_of_version_2(tmp_path: Path) -> None:
    """The kernel takes it, and it says no to what the rules leave out."""
    found = hierarchies(Path("/proc/self/mountinfo").read_text())
    unified = next(item for item in found if item.unified)
    group = Path(unified.mountpoint) / f"cnmtest-{new_id()[:8]}"
    node, disk = tmp_path / "null", tmp_path / "disk"
    os.mknod(node, 0o20666, os.makedev(1, 3))
    os.mknod(disk, 0o60666, os.makedev(254, 0))
    group.mkdir()
    try:
        devices.attach_program(str(group))
        script = (
            f"echo 0 > {group}/cgroup.procs; echo x > {node} && echo null"
            f"; cat {disk} && echo disk; mknod {tmp_path}/more b 8 0 && echo made"
        )
        ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
        assert ran.stdout.split() == ["null", "made"]
        assert "Operation not permitted" in ran.stderr
    finally:
        group.rmdir()


def test_a_unified_hierarchy_alone(tmp_path: Path) -> None:
    """Version 2 as far as this kernel has it: groups, membership, processes, removal."""
    found = hierarchies(Path("/proc/self/mountinfo").read_text())
    unified = next(item for item in found if item.unified)
    groups = ControlGroups((Hierarchy(unified.mountpoint, frozenset()),), "cnm", str(tmp_path))
    container_id = new_id()
    groups.create(container_id, Limits(), all_devices=False)
    directory = groups.path(groups.found[0], container_id)
    script = f"echo 0 > {directory}/cgroup.procs; exec sleep 1d"
    with subprocess.Popen(["sh", "-c", script]) as process:
        deadline = time.monotonic() + patient(20)
        while groups.processes(container_id) != (process.pid,):
            assert time.monotonic() < deadline, "waited for the process to join"
        assert set(groups.marked()) == {container_id}
        assert not groups.try_remove(container_id)
        groups.kill(container_id)
        process.wait()
    groups.remove(container_id)
    assert not os.path.exists(directory)
