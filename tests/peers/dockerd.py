"""A real Docker Engine as a peer: Debian's dockerd and containerd, leaving the machine alone.

It lives in a network namespace of its own (its iptables rules and bridges go there)
and in a process namespace of its own: when that one's first process is killed, the
kernel kills dockerd, containerd, every shim and every container with it, and the
mounts they made go with their mount namespace. What is left to remove is one named
network namespace, empty control groups and a folder.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import freshnetns
from patience import patient
from peers.api import Api

START_TIMEOUT_S = patient(60.0)  # 2 s on an idle machine; the other workers keep it busy

# $1: folder, $2: cgroup parent. `ip netns exec` mounts a fresh /sys, so the control groups
# that were mounted below the old one are mounted again, as they were ($1/cgroups).
_START = """
set -e
while read -r type path options; do
  mkdir -p "$path"
  mount -t "$type" -o "$options" "$type" "$path"
done <"$1/cgroups"
containerd --root "$1/containerd" --state "$1/containerd-state" \
  --address "$1/containerd.sock" >"$1/containerd.log" 2>&1 &
engine() {
  $1 dockerd --containerd "$2/containerd.sock" --data-root "$2/data" --exec-root "$2/exec" \
    --pidfile "$2/dockerd.pid" -H "unix://$2/docker.sock" --cgroup-parent "$3" \
    --config-file "$2/daemon.json" >>"$2/dockerd.log" 2>&1
}
[ -d "$1/plugins" ] || engine exec "$1" "$2"
# where dockerd looks for plugins is fixed: it gets a /run of its own
mount --bind "$1" /mnt
mount -t tmpfs tmpfs /run
mkdir -p /run/docker/plugins "$1"
mount --bind /mnt "$1"  # below /run on the second kernel
mount --bind "$1/plugins" /run/docker/plugins
while :; do
  while [ -e "$1/hold" ]; do sleep 0.05; done
  engine "" "$1" "$2" || true
done
"""


class Dockerd:
    """The engine, from its start (``with``) to its complete removal.

    :raises TimeoutError: it did not answer in time; the text holds the end of its log.
    """

    def __init__(self, *, plugins: bool = False) -> None:
        self.name = f"cnm-peer-{os.getpid()}"  # of the network namespace and the cgroup parent
        self.folder = Path(tempfile.mkdtemp(prefix="cnm-peer-"))
        self.plugins = self.folder / "plugins"  # its /run/docker/plugins, if there is one
        if plugins:
            self.plugins.mkdir()
        self.api = Api(self.folder / "docker.sock")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "docker.sock"

    def __enter__(self) -> Self:
        try:
            self._start()
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def end(self, number: signal.Signals) -> None:
        """End the engine alone; its containers' shims live on. Only with ``plugins``."""
        assert self.plugins.is_dir(), "without plugins everything ends with the engine"
        (self.folder / "hold").touch()
        self.api.close()
        pid = self._named("dockerd")
        os.kill(pid, number)
        end = time.monotonic() + START_TIMEOUT_S
        while Path(f"/proc/{pid}/comm").exists():
            if time.monotonic() > end:
                raise TimeoutError("dockerd does not end")
            time.sleep(0.02)

    def again(self) -> None:
        """Start the engine that was ended, without waiting for it."""
        (self.folder / "docker.sock").unlink(missing_ok=True)
        (self.folder / "dockerd.pid").unlink(missing_ok=True)  # its number may live again
        (self.folder / "hold").unlink()

    def wait(self) -> None:
        """Until the engine that was started again answers."""
        self._wait_until_it_answers()

    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "dockerd.log").read_text()

    def import_image(self, name: str = "busybox") -> str:
        """An image with one static busybox in it, made without any registry."""
        return import_busybox(self.api, name)

    def run(self, name: str, image: str, network: str = "none") -> str:
        """A container that sleeps; its id."""
        wish = {
            "Image": image,
            "Cmd": ["/bin/sleep", "3600"],
            "HostConfig": {"NetworkMode": network},
        }
        answer = self.api.call("POST", f"/containers/create?name={name}", wish)
        self.api.call("POST", f"/containers/{answer['Id']}/start")
        return str(answer["Id"])

    def processes(self) -> list[int]:
        """Those of the engine itself: dockerd, containerd, proxies and shims."""
        listing = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True
        )
        own = self._process.pid if self._process else 0
        return [pid for pid in map(int, listing.stdout.split()) if pid != own]

    def namespace(self, name: str) -> str:
        """Path of a running container's network namespace, as seen from here."""
        key = self.api.call("GET", f"/containers/{name}/json")["NetworkSettings"]["SandboxKey"]
        return f"/proc/{self._named('dockerd')}/root{key}"  # a mount of the engine's own

    def _named(self, program: str) -> int:
        for pid in self.processes():
            if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                return pid
        raise AssertionError(f"no process {program}")

    def stop(self) -> None:
        """End it and remove all it left; may be called twice."""
        self.api.close()
        if self._process is not None:
            self._end()
            self._wait_until_empty()
        if Path("/run/netns", self.name).exists():
            subprocess.run(["ip", "netns", "delete", self.name], check=True)
        remove_control_groups(self.name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def restart(self) -> None:
        """All of it is killed, and started again on the same files and in the same namespace."""
        self._end()
        for pidfile in self.folder.glob("**/*.pid"):  # of a process namespace that is no more
            pidfile.unlink()
        self._spawn()
        self._wait_until_it_answers()

    def _end(self) -> None:
        self.api.close()
        assert self._process is not None
        # unshare's child is the first process of the process namespace: with it the kernel
        # ends everything inside. unshare, its parent, is left to reap it.
        for pid in _children(self._process.pid) or [self._process.pid]:
            with contextlib.suppress(ProcessLookupError):  # its start failed
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _start(self) -> None:
        mounts = (" ".join(mount) + "\n" for mount in _cgroup_mounts())
        (self.folder / "cgroups").write_text("".join(mounts))
        (self.folder / "daemon.json").write_text("{}")
        freshnetns.add(self.name)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)
        self._spawn()

    def _spawn(self) -> None:
        command = ["ip", "netns", "exec", self.name]
        command += ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
        command += ["sh", "-c", _START, "sh", str(self.folder), f"/{self.name}"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.api.call("GET", "/networks")
                return
            self.api.close()
            time.sleep(0.05)
        log = self.folder / "dockerd.log"
        text = log.read_text()[-2000:] if log.exists() else "(no log)"
        raise TimeoutError(f"dockerd does not answer; the end of its log:\n{text}")

    def _wait_until_empty(self) -> None:
        end = time.monotonic() + 10
        while self.processes():
            if time.monotonic() > end:
                raise TimeoutError(f"processes outlive dockerd: {self.processes()}")
            time.sleep(0.02)


def import_busybox(api: Api, name: str = "busybox") -> str:
    """An image with one static busybox in it, for whichever engine; its name."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(Path(shutil.which("busybox") or "/bin/busybox").resolve(), "bin/busybox")
        for applet in ("sh", "sleep", "ip", "ping"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    api.call("POST", f"/images/create?fromSrc=-&repo={name}", archive.getvalue())
    return name


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _cgroup_mounts() -> list[tuple[str, str, str]]:
    """Type, path and options (controllers and names only) of each hierarchy, outermost first."""
    wanted = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, path, kind, options, *_ = line.split()
        if not path.startswith("/sys/fs/cgroup"):
            continue
        if kind == "tmpfs":
            wanted.append((kind, path, "mode=755"))
        elif kind == "cgroup2":
            wanted.append((kind, path, "rw"))
        elif kind == "cgroup":
            general = {"rw", "ro", "nosuid", "nodev", "noexec", "relatime"}
            own = [word for word in options.split(",") if word not in general]
            wanted.append((kind, path, ",".join(own)))
    return wanted


def remove_control_groups(name: str) -> None:
    """Those of this name, and all below, in every hierarchy."""
    for mount in _cgroup_mounts():
        _remove_groups(Path(mount[1]) / name)


def _remove_groups(top: Path) -> None:
    """Control groups are removed one by one, children first; files in them need no removal.

    A killed process leaves its group a moment after its parent saw it die.
    """
    end = time.monotonic() + 5
    while top.exists():
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        if time.monotonic() > end:
            raise TimeoutError(f"control group {top} cannot be removed: it has processes")
