"""A real dockerd and our daemon on one host, our drivers as its plugins, and a machine outside."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from livedaemon import Completed, LiveDaemon, run
from patience import patient
from peers.dockerd import Dockerd

OUTSIDE, HOST = "192.0.2.2", "192.0.2.1"
ON_US = ("-d", "cnm-bridge", "--ipam-driver", "cnm-ipam")


class Pair:
    """dockerd and our daemon on one host, and a machine outside."""

    def __init__(self, docker: Dockerd, ours: LiveDaemon) -> None:
        self.docker = docker
        self.ours = ours
        self.outside = ours.namespace("outside")
        self.wire()

    def wire(self) -> None:
        """Connect the two, new."""
        run(
            *("ip", "-n", self.ours.netns, "link", "add", "up0", "type", "veth"),
            *("peer", "name", "eth0", "netns", self.outside),
        )
        for netns, name, address in (
            (self.ours.netns, "up0", HOST),
            (self.outside, "eth0", OUTSIDE),
        ):
            run("ip", "-n", netns, "address", "add", f"{address}/24", "dev", name)
            run("ip", "-n", netns, "link", "set", name, "up")

    def run(self, *words: str, check: bool = True) -> Completed:
        """``docker …`` on dockerd."""
        done = subprocess.run(
            ["docker", "-H", f"unix://{self.docker.socket}", *words],
            capture_output=True,
            text=True,
            timeout=patient(120),
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise AssertionError(f"docker {' '.join(words)}: {done.stderr}{self.ours.log()}")
        return done

    def network(self, name: str, *flags: str) -> str:
        return self.run("network", "create", *(flags or ON_US), name).stdout.strip()

    def sleeper(self, name: str, network: str, *flags: str) -> None:
        self.run(
            "run", "-d", "--name", name, "--network", network, *flags, "busybox", "sleep", "1d"
        )

    def inside(self, name: str, *words: str, check: bool = True) -> Completed:
        return self.run("exec", name, *words, check=check)

    def pings(self, name: str, target: str) -> bool:
        return not self.inside(name, "ping", "-c1", "-W3", target, check=False).returncode

    def address(self, name: str, network: str) -> str:
        template = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
        return self.run("inspect", "--format", template, name).stdout.strip()

    def links(self) -> set[str]:
        return {row["ifname"] for row in self.ours.ip("link")}

    def rows(self, table: str) -> list[Any]:
        """Documents, or whatever the table has first, as our database has them."""
        with closing(sqlite3.connect(f"file:{self.ours.root}/cnm.db?mode=ro", uri=True)) as db:
            return db.execute(f"SELECT * FROM {table}").fetchall()

    def leases(self) -> int:
        """Addresses that the engine has of us."""
        pools = {row[0] for row in self.rows("guest_pools")}
        return sum(row[0] in pools for row in self.rows("leases"))

    def sweep(self) -> list[str]:
        answer = self.ours.http("POST", "/cnm/v1/sweep").document
        return [f"{row['Kind']} {row['Name']}: {row['Action']}" for row in answer["Repairs"]]

    def nothing_left(self) -> None:
        """No container, no network, no link, no record, no lease."""
        for table in ("guest_endpoints", "guest_networks", "guest_pools"):
            assert self.rows(table) == [], table
        assert self.leases() == 0
        assert self.links() == {"lo", "docker0", "cnm0", "up0"}
        self.sweep()  # Docker's bridges have come and gone, and our chain beside its rules
        assert self.sweep() == []

    def clear(self) -> None:
        """Both run, and nothing is left that a test made."""
        if not self.ours.running:
            self.ours.start()
        names = self.run("ps", "-aq").stdout.split()
        if names:
            self.run("rm", "-f", *names)
        shown = self.run("network", "ls", "--format", "{{.Name}} {{.Driver}}").stdout
        for line in shown.splitlines():
            name, driver = line.split()
            if driver.startswith("cnm-"):
                self.run("network", "rm", name)


@contextlib.contextmanager
def plugged() -> Iterator[Pair]:
    """Both, started; all is gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="cnmt-") as folder,
        Dockerd(plugins=True) as docker,
    ):
        flags = ("--plugin-dir", str(docker.plugins), "--sweep-interval", "86400")
        with LiveDaemon(Path(folder), flags, docker.name) as ours:
            ours.start()
            docker.import_image()
            yield Pair(docker, ours)


def poll(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + patient(60.0)
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.1)
