"""Names and marks: how everything that a lab makes says whose it is, and how it is found.

=====================  ==========================================  =======================
object                 name                                        mark
=====================  ==========================================  =======================
network namespace      ``/run/netns/<lab>.<host>``                 alias of its ``lo``
host's first process   ``sleep infinity``                          NETLAB in its environment
link                   as the file says                            its alias
control groups         ``netlab/<lab>/<host>`` in each hierarchy   the path
state, logs            ``/run/netlab/<lab>/``                      the path
=====================  ==========================================  =======================

A dot parts lab and host: neither name can have one, so no two labs can meet in a name.
All other processes and mounts of a host are in its process and mount namespace, and end with
its first process. ``down`` goes by these marks, so that it needs no memory of what ``up`` did.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NETNS_FOLDER = Path("/run/netns")  # ip-netns(8)
STATE_FOLDER = Path("/run/netlab")
VARIABLE = "NETLAB"
_PREFIX = "netlab"


@dataclass(frozen=True, slots=True)
class Holder:
    """The first process of a host: while it lives, so do the host's namespaces."""

    lab: str
    host: str
    pid: int


def host_mark(lab: str, host: str) -> str:
    """The alias of a host's loopback; ``<lab>:<host>`` of it is what the holder carries."""
    return f"{_PREFIX}:{lab}:{host}"


def link_mark(lab: str, link: str) -> str:
    """The alias of both ends of a link."""
    return f"{_PREFIX}:{lab}:{link}"


def is_marked(lab: str, alias: str) -> bool:
    """Whether an alias is one of this lab's."""
    return alias.startswith(f"{_PREFIX}:{lab}:")


def netns_path(lab: str, host: str) -> Path:
    """Where a host's network namespace is pinned."""
    return NETNS_FOLDER / f"{lab}.{host}"


def pins(lab: str) -> Iterator[tuple[str, Path]]:
    """Host and path of whatever lies where the lab's namespaces are pinned."""
    if not NETNS_FOLDER.is_dir():
        return
    for path in sorted(NETNS_FOLDER.glob(f"{lab}.*")):
        yield path.name.removeprefix(f"{lab}."), path


def holders(lab: str | None = None) -> list[Holder]:
    """The first processes of all hosts that live now, of one lab or of all."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            holder = holder_of(int(entry))
            if holder is not None and lab in (None, holder.lab):
                found.append(holder)
    return found


def holder_of(pid: int) -> Holder | None:
    """What host the process holds; ``None`` for any other process, and for one that is gone."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read(256)  # a holder has the mark and nothing else
        name, equals, value = environment.rstrip(b"\0").partition(b"=")
        if name != VARIABLE.encode() or not equals or not _is_first(pid):
            return None
    except OSError:
        return None
    lab, _, host = value.decode(errors="replace").partition(":")
    return Holder(lab, host, pid)


def _is_first(pid: int) -> bool:
    """Whether it is number 1 in a process namespace of its own (``NSpid`` in proc(5))."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("State:") and line.split()[1] in ("Z", "X"):
                return False
            if line.startswith("NSpid:"):
                numbers = line.split()[1:]
                return len(numbers) > 1 and numbers[-1] == "1"
    return False
