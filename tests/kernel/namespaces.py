"""Network namespaces for tests: to stand for hosts, containers and peers."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import freshnetns
from patience import patient

from cnm.types import NamespaceIdentity, SandboxID, SandboxKey, SandboxRecord, SandboxStatus

_CLONE_NEWNET = 0x40000000
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Namespace:
    """A named network namespace and other people's tools in it."""

    name: str

    @property
    def path(self) -> str:
        return f"/run/netns/{self.name}"

    def run(self, *command: str, check: bool = True) -> str:
        """Standard output of a command inside, as ``ip netns exec`` runs it."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            capture_output=True,
            text=True,
            timeout=patient(30),
        )
        if check and done.returncode:
            raise AssertionError(f"{shlex.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def sh(self, commands: str) -> None:
        """``ip`` commands inside, separated by semicolons, all by one process."""
        text = "\n".join(command.strip() for command in commands.split(";"))
        done = subprocess.run(
            ["ip", "-n", self.name, "-batch", "-"],
            input=text,
            capture_output=True,
            text=True,
            timeout=patient(30),
        )
        assert done.returncode == 0, f"{commands}: {done.stderr}"

    def ip(self, *arguments: str) -> list[dict[str, Any]]:
        """What ``ip -j`` says."""
        done = subprocess.run(
            ["ip", "-n", self.name, "-j", *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=patient(30),
        )
        return [item for item in json.loads(done.stdout or "[]") if item]

    def link(self, name: str) -> dict[str, Any] | None:
        """One link as ``ip -d link`` shows it; ``None`` if there is none."""
        found = self.ip("-d", "link", "show")
        return next((item for item in found if item["ifname"] == name), None)

    def addresses(self, name: str) -> set[str]:
        """Addresses of a link, those that the kernel makes for IPv6 left out."""
        return {
            f"{item['local']}/{item['prefixlen']}"
            for item in self.ip("address", "show", "dev", name)[0]["addr_info"]
            if not (item["scope"] == "link" and item["family"] == "inet6")
        }

    def routes(self, *selector: str) -> set[str]:
        """Destinations (``default`` is one) of both families, with gateway and protocol."""
        both = self.ip("-4", "route", "show", *selector) + self.ip("-6", "route", "show", *selector)
        return {
            " ".join(filter(None, (item["dst"], item.get("gateway"), item.get("protocol", "boot"))))
            for item in both
            if item.get("protocol") != "kernel"
        }

    def pings(self, target: str) -> bool:
        """Whether one of three echo requests is answered."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name]
            + ["ping", "-n", "-q", "-c", "3", "-i", "0.05", "-W", "1", target],
            capture_output=True,
            timeout=patient(30),
        )
        return done.returncode == 0


NamespaceFactory = Callable[[str], Namespace]


def add_namespace(hint: str) -> Namespace:
    """A new one, with loopback up; its name is like no other."""
    made = Namespace(f"cnmt-{hint}-{os.getpid()}-{secrets.token_hex(3)}")
    freshnetns.add(made.name)
    made.sh("link set lo up")
    return made


def delete_namespace(namespace: Namespace) -> None:
    """Gone is fine: some tests take it away themselves."""
    subprocess.run(["ip", "netns", "delete", namespace.name], capture_output=True)


@contextlib.contextmanager
def entered(namespace: Namespace) -> Iterator[None]:
    """The calling thread is inside; threads and processes that it starts are too."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        inside = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            assert libc.setns(inside, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        finally:
            os.close(inside)
        try:
            yield
        finally:
            assert libc.setns(home, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(home)


def record_of(
    namespace: Namespace, cookie: int, *, loopback_was_up: bool = True, adopted: bool = True
) -> SandboxRecord:
    """What the store would keep of a sandbox with this namespace."""
    return SandboxRecord(
        id=SandboxID(secrets.token_hex(32)),
        name=namespace.name,
        key=SandboxKey(namespace.path),
        identity=NamespaceIdentity(cookie),
        status=SandboxStatus.RUNNING,
        created_ns=0,
        adopted=adopted,
        loopback_was_up=loopback_was_up,
    )


def poll(condition: Callable[[], object], what: str, timeout_s: float = 10) -> None:
    """Wait until ``condition`` holds.

    :raises AssertionError: it does not within ``timeout_s``; names ``what`` was waited for.
    """
    end = time.monotonic() + patient(timeout_s)
    while not condition():
        assert time.monotonic() < end, f"waited {timeout_s} s in vain for {what}"
        time.sleep(_POLL_S)
