"""What a container is held by equals Docker's, beside a real dockerd.

Filters of system calls are read from the kernel, of a process in either engine, and asked for
every call; what is seen from inside (rights, mounts, devices, limits, kernel settings) is compared
line by line. Each difference that is meant is a row of ``meant_confinement.json``, with its
reason; one that has gone must leave it. ``before``: for older engines than that only;
``on``: not every machine shows it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyseccomp
import pytest
from livedaemon import run
from peers.cnmd import Cnmd
from peers.dockerd import Dockerd, import_busybox
from seccompfilter import ALLOW, REFUSE, UNKNOWN, filters_of, strictest

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("dockerd"),
]

MEANT = json.loads(Path(__file__).with_name("meant_confinement.json").read_text())
SCRIPT = Path(__file__).with_name("confinement.sh").read_text()
ABSENT = "(absent)"
WORDS = {ALLOW: "allowed", REFUSE: "EPERM", UNKNOWN: "ENOSYS"}
MOST_CALLS = 1024
X32 = 0x40000000
# What audit calls an architecture, what libseccomp does, and the numbers of its calls. The second
# of x86-64 is x32: as far as it goes with the first, and its own.
INTERFACES = {
    "x86_64": (
        (0xC000003E, pyseccomp.Arch.X86_64, range(MOST_CALLS)),
        (0xC000003E, pyseccomp.Arch.X32, (*range(X32, X32 + 450), *range(X32 + 512, X32 + 548))),
        (0x40000003, pyseccomp.Arch.X86, range(MOST_CALLS)),
    ),
    "aarch64": (
        (0xC00000B7, pyseccomp.Arch.AARCH64, range(MOST_CALLS)),
        (0x40000028, pyseccomp.Arch.ARM, range(MOST_CALLS)),
    ),
}[os.uname().machine]
ARGUMENTS: dict[str, list[int]] = {  # of the first argument
    "socket": list(range(64)),
    "personality": [*(1 << bit for bit in range(32)), 0x20008, 0xFFFFFFFF, 0],
    "clone": [*(1 << bit for bit in range(33)), 0x01200011, 0x7E020000, 0],
    "clone3": [0],
}

Row = tuple[str, str]  # Docker's and ours


class Engines(NamedTuple):
    docker: Path  # sockets
    ours: Path
    version: tuple[int, ...]  # Docker's
    processes: tuple[int, int]


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    """Each has the image, and one container that sleeps."""
    with Dockerd() as docker, Cnmd() as ours:
        image = docker.import_image()
        import_busybox(ours.api, image)
        theirs = docker.run("one", image)
        group = next(Path("/sys/fs/cgroup").glob(f"**/{docker.name}/{theirs}/cgroup.procs"))
        inside(ours.socket, "--detach", "--name", "one", image, "/bin/sleep", "3600")
        mine = ours.api.call("GET", "/containers/one/json")["State"]["Pid"]
        version = docker.api.call("GET", "/version")["Version"]
        yield Engines(
            docker.socket,
            ours.socket,
            tuple(int(part) for part in version.split("+")[0].split(".") if part.isdigit()),
            (int(group.read_text().split()[0]), int(mine)),
        )
        ours.api.call("DELETE", "/containers/one?force=1")


def inside(socket: Path, *words: str) -> str:
    """What ``docker run`` says, on either engine."""
    environment = {**os.environ, "DOCKER_CONFIG": str(socket.parent)}
    return run("docker", "-H", f"unix://{socket}", "run", *words, environment=environment).stdout


def test_system_calls(engines: Engines) -> None:
    docker, ours = (filters_of(pid) for pid in engines.processes)
    found: dict[str, Row] = {}
    for arch, names, numbers in INTERFACES:
        for number in numbers:
            row = verdict(docker, number, arch), verdict(ours, number, arch)
            field = f"call {name_of(names, number)}"
            if row[0] != row[1] and found.setdefault(field, row) != row:
                found[f"{field}, {arch:#x} {number:#x}"] = row
    judge(found, "call", engines.version)


def test_system_calls_by_their_arguments(engines: Engines) -> None:
    docker, ours = (filters_of(pid) for pid in engines.processes)
    arch, names, _ = INTERFACES[0]
    found: dict[str, Row] = {}
    for name, values in ARGUMENTS.items():
        number = pyseccomp.resolve_syscall(names, name)
        for value in values:
            row = verdict(docker, number, arch, value), verdict(ours, number, arch, value)
            if row[0] != row[1]:
                found[f"argument {name} {value:#x}"] = row
    judge(found, "argument", engines.version)


def test_what_is_seen_inside(engines: Engines) -> None:
    command = ("--rm", "--hostname", "box", "busybox", "/bin/sh", "-c", SCRIPT)
    docker, ours = (rows(inside(path, *command)) for path in (engines.docker, engines.ours))
    assert len(docker) > 400  # the script went through to its end
    found = {
        field: (docker.get(field, ABSENT), ours.get(field, ABSENT))
        for field in docker.keys() | ours.keys()
        if docker.get(field, ABSENT) != ours.get(field, ABSENT)
    }
    judge(found, "inside", engines.version)


def verdict(filters: Iterable[bytes], number: int, arch: int, *arguments: int) -> str:
    found = strictest(filters, number, *arguments, arch=arch)
    return WORDS.get(found, hex(found))


def name_of(architecture: int, number: int) -> str:
    try:
        name = pyseccomp.resolve_syscall(architecture, number)
    except ValueError:
        return f"{number:#x}"
    return name.decode() if isinstance(name, bytes) else str(name)


def rows(text: str) -> dict[str, str]:
    return dict(line.split("\t", 1) for line in text.splitlines())


def judge(found: dict[str, Row], kind: str, version: tuple[int, ...]) -> None:
    """Differences are those that are meant; which machine it is decides on some."""
    wanted = meant(kind, version)
    machine = meant(kind, version, "some machines")
    assert {**machine, **found} == {**machine, **wanted}


def meant(kind: str, version: tuple[int, ...], on: str = "") -> dict[str, Row]:
    """The rows of a kind for this Docker; a row may name several fields."""
    return {
        f"{kind} {field}".removeprefix("inside "): (row["docker"], row["cnm"])
        for row in MEANT[kind]
        if version < tuple(int(part) for part in row.get("before", "999").split("."))
        and row.get("on", "") in ("", on)
        for field in row["fields"]
    }
