"""A real Podman whose networks are ours, by its CNI backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from livedaemon import LiveDaemon
from peers.podman import Podman
from protocol.cni.conftest import PLUGIN

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(180)]


@pytest.fixture
def podman(daemon: LiveDaemon) -> Iterator[Podman]:
    with Podman(daemon.netns, PLUGIN, daemon.host) as one:
        one.network("pods", subnet="10.88.0.0/24")
        yield one


def names(daemon: LiveDaemon) -> set[str]:
    return set(daemon.cnm("ps", "-a", "--format", "{{.Names}}").stdout.split())


def test_containers_of_podman(daemon: LiveDaemon, podman: Podman) -> None:
    podman.start("ann", network="pods")
    podman.start("bob", "-p", "8088:80", network="pods")
    assert "nameserver 127.0.0.11\n" in podman("exec", "bob", "cat", "/etc/resolv.conf").stdout
    podman("exec", "bob", "ping", "-c", "1", "-W", "5", "ann")
    podman("exec", "ann", "nslookup", "bob")
    podman("exec", "-d", "bob", "httpd", "-f", "-p", "80", "-h", "/bin")
    got = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--retry", "20")
    again = ("--retry-connrefused", "--retry-delay", "1", "http://10.88.0.1:8088/busybox")
    assert daemon.inside(daemon.netns, *got, *again).stdout == "200"
    ports = podman("port", "bob").stdout
    assert ports == "80/tcp -> 0.0.0.0:8088\n"

    podman("stop", "--time", "0", "ann")
    assert len(names(daemon)) == 1
    daemon.restart()
    podman("start", "ann")
    podman("exec", "bob", "ping", "-c", "1", "-W", "5", "ann")

    podman("rm", "--force", "--time", "0", "ann", "bob")
    assert names(daemon) == set()
    assert daemon.ip("link", "show", "type", "veth") == []


def test_removed_beside_a_dead_daemon(daemon: LiveDaemon, podman: Podman) -> None:
    podman.start("ann", "--ip", "10.88.0.9", network="pods")
    daemon.kill()
    podman("rm", "--force", "--time", "0", "ann")
    failed = podman("run", "--network", "pods", "bb", "true", check=False)
    assert failed.returncode == 126 or "Cannot connect to the cnm daemon" in failed.stderr
    daemon.start()
    podman.start("ann", "--ip", "10.88.0.9", network="pods")
    assert len(names(daemon)) == 1


def test_a_network_more(daemon: LiveDaemon, podman: Podman, tmp_path: Path) -> None:
    podman.network("more", subnet="10.89.0.0/24")
    podman.start("ann", network="pods")
    podman("network", "connect", "more", "ann")
    shown = podman("exec", "ann", "ip", "-o", "address").stdout
    assert "10.88.0.2/24" in shown
    assert "10.89.0.2/24" in shown
    podman("network", "disconnect", "more", "ann")
    assert "10.89.0.2/24" not in podman("exec", "ann", "ip", "-o", "address").stdout
