"""A runtime of its own for a test: exec root, roots from busybox, and a look at what is left."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from patience import patient

from cnm.runtime.container.client import RuntimeClient
from cnm.runtime.container.state import Places, start_time
from cnm.runtimeapi import (
    ContainerSpec,
    ExecSpec,
    LogOptions,
    ProcessID,
    ProcessSpec,
    RootFS,
)

BUSYBOX = "/usr/bin/busybox"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/home/web:/bin/sh\n"
GROUP = "root:x:0:\nwww:x:1001:\nextra:x:1002:web\n"
PROCESS_FIELDS = frozenset(ProcessSpec.__dataclass_fields__)


def until(what: str, condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Poll until it holds; the failure names what was waited for."""
    deadline = time.monotonic() + patient(seconds)
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        time.sleep(0.005)


def new_id() -> ProcessID:
    return ProcessID(secrets.token_hex(32))


def make_root(directory: Path) -> Path:
    """A root file system: busybox, its commands, a few users."""
    for name in ("bin", "etc", "tmp", "root", "home/web"):
        (directory / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, directory / "bin/busybox")
    listing = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True)
    for name in listing.stdout.split():
        if name != "busybox":
            (directory / "bin" / name).symlink_to("busybox")
    (directory / "etc/passwd").write_text(PASSWD)
    (directory / "etc/group").write_text(GROUP)
    (directory / "etc/plain").write_text("not a program\n")
    return directory


def groups_of(container_id: ProcessID) -> list[Path]:
    """A container's control groups: one, or with version 1 one in each hierarchy."""
    places = Path("/sys/fs/cgroup")
    name = f"cnm/{container_id}"
    return [path for path in (places / name, *places.glob(f"*/{name}")) if path.exists()]


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Docker's frames: stream and payload."""
    found = []
    while data:
        stream, length = struct.unpack_from(">BxxxL", data)
        found.append((stream, data[8 : 8 + length]))
        data = data[8 + length :]
    return found


def joined(data: bytes, stream: int) -> bytes:
    return b"".join(payload for number, payload in frames(data) if number == stream)


class Stage:
    """One exec root with its client; :meth:`close` ends all and tells what stayed."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self.root = root
        self.exec_root = str(folder / "x")
        self.runtime = RuntimeClient(self.exec_root)
        self.ids: list[ProcessID] = []
        self.pids: set[int] = set()

    def spec(self, *arguments: str, **options: Any) -> ContainerSpec:
        """A container on the busybox root, with fields of its process among ``options``."""
        container_id = new_id()
        private = self.folder / container_id[:12]
        (private / "upper").mkdir(parents=True)
        (private / "work").mkdir()
        self.ids.append(container_id)
        process = {name: options.pop(name) for name in list(options) if name in PROCESS_FIELDS}
        lower = options.pop("lower", (str(self.root),))
        read_only = options.pop("read_only", False)
        log = LogOptions(str(private / "log"), **options.pop("log_options", {}))
        return ContainerSpec(
            container_id,
            ProcessSpec(arguments, **process),
            RootFS(lower, str(private / "upper"), str(private / "work"), read_only),
            log=log,
            **options,
        )

    def start(self, *arguments: str, **options: Any) -> ContainerSpec:
        """A running container."""
        spec = self.spec(*arguments, **options)
        self.runtime.create(spec)
        self.pids.add(self.runtime.start(spec.id).pid)
        return spec

    def run(self, *arguments: str, **options: Any) -> tuple[int, str]:
        """Exit code and output of a container."""
        spec = self.start(*arguments, **options)
        return self.runtime.wait(spec.id), self.output(spec)

    def shell(self, script: str, **options: Any) -> str:
        """What a script says in a container; it must succeed."""
        code, output = self.run("/bin/sh", "-ec", script, **options)
        assert code == 0, output
        return output

    def output(self, spec: ContainerSpec, stream: str = "") -> str:
        """What the log holds."""
        assert spec.log is not None
        try:
            lines = Path(spec.log.path).read_text().splitlines()
        except FileNotFoundError:
            return ""
        entries = [json.loads(line) for line in lines]
        return "".join(entry["log"] for entry in entries if not stream or entry["stream"] == stream)

    def execute(self, spec: ContainerSpec, *arguments: str, **options: Any) -> tuple[int, bytes]:
        """Exit code and output (stdout, then stderr) of an exec."""
        privileged = options.pop("privileged", False)
        exec_id = new_id()
        self.runtime.exec_create(
            ExecSpec(exec_id, spec.id, ProcessSpec(arguments, **options), privileged)
        )
        with self.runtime.attach(exec_id, stdin=False, stdout=True, stderr=True) as stream:
            self.runtime.exec_start(exec_id)
            data = b"".join(iter(lambda: stream.recv(65536), b""))
        if not options.get("tty"):
            data = joined(data, 1) + joined(data, 2)
        return self.runtime.wait(exec_id), data

    def supervisor_pid(self) -> int:
        """The process that listens for this exec root; 0: none."""
        return listener(Path(self.exec_root, "supervisor.sock"))

    def keeper_pid(self) -> int:
        """The process that keeps terminals."""
        return listener(Path(self.exec_root, "keeper.sock"))

    def close(self) -> None:
        """Take everything down, then look for what is left."""
        for container_id in self.ids:
            self.runtime.destroy(container_id)
        ours = [pid for pid in (self.supervisor_pid(), self.keeper_pid()) if pid]
        self.runtime.shutdown()
        until("its own processes are gone", lambda: not any(map(start_time, ours)))
        assert self.left() == []

    def left(self) -> list[str]:
        """Groups, processes, mounts and directories that belong to this stage."""
        groups = [path for container_id in self.ids for path in groups_of(container_id)]
        mounts = [line for line in _mounts() if str(self.folder) in line]
        processes = [pid for pid in self.pids if pid and start_time(pid)]
        directories = Places(self.exec_root).ids()
        return [str(item) for item in (*groups, *mounts, *processes, *directories)]


def listener(path: Path) -> int:
    """The process that listens on a socket of the supervisor's kind; 0: none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        try:
            link.connect(str(path))
        except OSError:
            return 0
        credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("iii", credentials)[0])


def _mounts() -> Iterator[str]:
    yield from Path("/proc/self/mountinfo").read_text().splitlines()
