"""Control groups of containers, version 1, 2 and both at once: ``/<parent>/<container id>``.

Every hierarchy that we join holds a directory of the container's, marked with the
directory of the supervisor that made it (a ``trusted.cnm`` attribute), so that orphans are
told from other daemons' containers. Plain files and no state here.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cnm.runtime.container import devices
from cnm.runtime.container.limits import CPU_PERIOD_US, cpu_quota_us, swap_total
from cnm.runtimeapi import Limits

# name=systemd: or stopping the daemon's unit would end the containers with it.
_JOINED = frozenset({"memory", "cpu", "cpuacct", "pids", "devices", "name=systemd"})
_PLAIN_OPTIONS = frozenset({"rw", "ro", "xattr", "noprefix", "clone_children", "favordynmods"})
_V2_CONTROLLERS = ("memory", "cpu", "pids")
_MARK = "trusted.cnm"
_REMOVE_WITHIN_S = 5.0  # killed processes leave their group when they are reaped
_REMOVE_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy; ``controllers`` is empty for version 2."""

    mountpoint: str
    controllers: frozenset[str]

    @property
    def unified(self) -> bool:
        return not self.controllers


def hierarchies(mountinfo: str) -> tuple[Hierarchy, ...]:
    """Those that containers join, from the text of ``/proc/self/mountinfo``; each once."""
    found: dict[frozenset[str], Hierarchy] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        mountpoint = left.split(" ")[4]
        if kind == "cgroup2":
            found.setdefault(frozenset(), Hierarchy(mountpoint, frozenset()))
        elif kind == "cgroup":
            controllers = frozenset(filter(_is_controller, options.split(",")))
            if controllers & _JOINED:
                found.setdefault(controllers, Hierarchy(mountpoint, controllers))
    return tuple(found.values())


def _is_controller(option: str) -> bool:
    return option not in _PLAIN_OPTIONS and not option.startswith("release_agent=")


def settings(limits: Limits, controllers: frozenset[str]) -> list[tuple[str, str]]:
    """(file, value) for one hierarchy, in the order of writing."""
    return _unified_settings(limits) if not controllers else _v1_settings(limits, controllers)


def _v1_settings(limits: Limits, controllers: frozenset[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if "memory" in controllers and limits.memory_bytes:
        found.append(("memory.limit_in_bytes", str(limits.memory_bytes)))
        found.append(("memory.memsw.limit_in_bytes", str(swap_total(limits))))
    if "cpu" in controllers and limits.cpus:
        found.append(("cpu.cfs_period_us", str(CPU_PERIOD_US)))
        found.append(("cpu.cfs_quota_us", str(cpu_quota_us(limits))))
    if "pids" in controllers and limits.pids > 0:
        found.append(("pids.max", str(limits.pids)))
    return found


def _unified_settings(limits: Limits) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if limits.memory_bytes:
        total = swap_total(limits)
        swap = "max" if total < 0 else str(total - limits.memory_bytes)
        found.append(("memory.max", str(limits.memory_bytes)))
        found.append(("memory.swap.max", swap))
    if limits.cpus:
        found.append(("cpu.max", f"{cpu_quota_us(limits)} {CPU_PERIOD_US}"))
    if limits.pids > 0:
        found.append(("pids.max", str(limits.pids)))
    return found


class ControlGroups:
    """The groups of one supervisor. ``mark`` is its directory."""

    def __init__(self, found: tuple[Hierarchy, ...], parent: str, mark: str) -> None:
        self.found = found
        self._parent = parent
        self._mark = mark.encode()
        self._v1_controllers = frozenset(name for item in found for name in item.controllers)

    def path(self, hierarchy: Hierarchy, container_id: str) -> str:
        """The container's directory in one hierarchy."""
        return os.path.join(hierarchy.mountpoint, self._parent, container_id)

    def create(self, container_id: str, limits: Limits, *, all_devices: bool) -> None:
        """Make the groups and set their limits. :meth:`remove` undoes also half of it."""
        for hierarchy in self.found:
            directory = self.path(hierarchy, container_id)
            if hierarchy.unified and settings(limits, hierarchy.controllers):
                self._delegate(hierarchy)
            os.makedirs(directory, exist_ok=True)
            os.setxattr(directory, _MARK, self._mark)
            self._limit(hierarchy, directory, limits)
            if not all_devices:
                self._restrict_devices(hierarchy, directory)

    def _delegate(self, hierarchy: Hierarchy) -> None:
        """Hand the v2 controllers down to our parent group; v1's cannot be here as well.

        Not without need: where we are not at the top (in a container of another engine, say) it
        fails while processes are in the group above.
        """
        with open(os.path.join(hierarchy.mountpoint, "cgroup.controllers"), encoding="ascii") as f:
            available = f.read().split()
        wanted = " ".join(f"+{name}" for name in _V2_CONTROLLERS if name in available)
        parent = os.path.join(hierarchy.mountpoint, self._parent)
        os.makedirs(parent, exist_ok=True)
        if wanted:
            _write(os.path.join(hierarchy.mountpoint, "cgroup.subtree_control"), wanted)
            _write(os.path.join(parent, "cgroup.subtree_control"), wanted)

    def _limit(self, hierarchy: Hierarchy, directory: str, limits: Limits) -> None:
        for name, value in settings(limits, hierarchy.controllers):
            if hierarchy.unified and name.split(".")[0] in self._v1_controllers:
                continue  # a hybrid machine: version 1 has this controller
            try:
                _write(os.path.join(directory, name), value)
            except FileNotFoundError:
                if "swap" not in name and "memsw" not in name:  # a kernel without swap accounting
                    raise

    def _restrict_devices(self, hierarchy: Hierarchy, directory: str) -> None:
        if "devices" in hierarchy.controllers:
            devices.write_rules(directory)
        elif hierarchy.unified and "devices" not in self._v1_controllers:
            devices.attach_program(directory)

    def join(self, container_id: str, pid: int) -> None:
        """Move a process in: all its later children are born there."""
        for hierarchy in self.found:
            _write(os.path.join(self.path(hierarchy, container_id), "cgroup.procs"), str(pid))

    def processes(self, container_id: str) -> tuple[int, ...]:
        """Host pids of all processes in the container's groups."""
        found: set[int] = set()
        for hierarchy in self.found:
            found.update(_members(self.path(hierarchy, container_id)))
        return tuple(sorted(found))

    def out_of_memory_kills(self, container_id: str) -> int:
        """How many processes the memory limit has killed."""
        for hierarchy in self.found:
            if "memory" in hierarchy.controllers:
                return _counter(self.path(hierarchy, container_id), "memory.oom_control")
        unified = (item for item in self.found if item.unified)
        return sum(_counter(self.path(item, container_id), "memory.events") for item in unified)

    def try_remove(self, container_id: str) -> bool:
        """Remove the groups (and those that were made within); false while processes are left."""
        done = [_remove_tree(self.path(hierarchy, container_id)) for hierarchy in self.found]
        return all(done)

    def remove(self, container_id: str) -> None:
        """Kill what is left and remove the groups.

        :raises TimeoutError: processes stayed in spite of SIGKILL.
        """
        deadline = time.monotonic() + _REMOVE_WITHIN_S
        while True:
            self.kill(container_id)
            if self.try_remove(container_id):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes of {container_id} do not end: not removed")
            time.sleep(_REMOVE_POLL_S)

    def kill(self, container_id: str) -> None:
        """SIGKILL to every process in the groups."""
        for process in self.processes(container_id):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def marked(self) -> dict[str, tuple[str, ...]]:
        """Ids that have groups of ours, and those groups' paths."""
        found: dict[str, list[str]] = {}
        for hierarchy in self.found:
            for directory in _children(os.path.join(hierarchy.mountpoint, self._parent)):
                if self._is_ours(directory):
                    found.setdefault(os.path.basename(directory), []).append(directory)
        return {container_id: tuple(paths) for container_id, paths in found.items()}

    def _is_ours(self, directory: str) -> bool:
        try:
            return os.getxattr(directory, _MARK) == self._mark
        except OSError:
            return False


def own_groups(parent: str, mark: str) -> ControlGroups:
    """The groups under ``parent``, wherever this machine has them mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return ControlGroups(hierarchies(file.read()), parent, mark)


def _members(directory: str) -> Iterator[int]:
    """Pids in a group and the groups within it."""
    for place in [*_children(directory), directory]:
        try:
            with open(os.path.join(place, "cgroup.procs"), encoding="ascii") as file:
                yield from (int(line) for line in file)
        except OSError:
            continue
        if place != directory:
            yield from _members(place)


def _children(directory: str) -> Iterable[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _remove_tree(directory: str) -> bool:
    done = [_remove_tree(child) for child in _children(directory)]
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY and error.errno != errno.ENOTEMPTY:
            raise
        return False
    return all(done)


def _counter(directory: str, name: str) -> int:
    """The line ``oom_kill N`` of a file; 0 without it."""
    try:
        with open(os.path.join(directory, name), encoding="ascii") as file:
            pairs = dict(line.split() for line in file)
    except (OSError, ValueError):
        return 0
    return int(pairs.get("oom_kill", 0))


def _write(path: str, text: str) -> None:
    """One write; the error names the file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"writing {text!r} to {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
