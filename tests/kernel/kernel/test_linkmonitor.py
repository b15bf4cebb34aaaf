"""Links that come are told of by name, once, and only those that are followed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernel.namespaces import Namespace, poll

from cnm.runtime.kernel.linkmonitor import LinkMonitor

pytestmark = pytest.mark.kernel


@pytest.fixture
def told(leaves_nothing: None, host_ns: Namespace) -> Iterator[list[str]]:
    """What a monitor that follows ``a`` and ``b`` has told."""
    names: list[str] = []
    monitor = LinkMonitor(names.append)
    monitor.follow(["wana", "wanb"])
    yield names
    monitor.close()
    monitor.close()


def test_one_that_comes_is_told_when_it_is_up(told: list[str], host_ns: Namespace) -> None:
    host_ns.sh("link add wana type bridge; link add wanc type bridge; link set wanc up")
    host_ns.sh("link set wana mtu 1400; link set wana up; link set wana mtu 1500")
    host_ns.sh("link add wanb type bridge; link set wanb up")
    poll(lambda: "wanb" in told, "link wanb")
    assert told == ["wana", "wanb"]


def test_one_that_goes_and_comes_is_told_again(told: list[str], host_ns: Namespace) -> None:
    for _ in range(2):
        host_ns.sh("link add wana type bridge; link set wana up; link delete wana")
    host_ns.sh("link add wana type bridge; link set wana up; link set wana down; link set wana up")
    poll(lambda: len(told) == 4, "four times link wana")


def test_one_that_gets_the_name_is_told(told: list[str], host_ns: Namespace) -> None:
    """As network cards do when udev has found them."""
    host_ns.sh("link add wanx type bridge; link set wanx name wana; link set wana up")
    poll(lambda: told == ["wana"], "link wana")


def test_one_that_goes_is_told_to_who_wants_to_know(
    leaves_nothing: None, host_ns: Namespace
) -> None:
    words: list[str] = []
    monitor = LinkMonitor(
        lambda name: words.append(f"+{name}"), lambda name: words.append(f"-{name}")
    )
    monitor.follow(["wana"])
    host_ns.sh("link add wanb type bridge; link set wanb up; link delete wanb")
    host_ns.sh("link add wana type bridge; link set wana up; link set wana down; link delete wana")
    poll(lambda: words == ["+wana", "-wana"], "its going")
    monitor.close()


def test_who_is_told_may_fail(leaves_nothing: None, host_ns: Namespace) -> None:
    names: list[str] = []

    def came(name: str) -> None:
        names.append(name)
        raise OSError("test")

    monitor = LinkMonitor(came)
    monitor.follow(["wana", "wanb"])
    host_ns.sh(
        "link add wana type bridge; link set wana up; link add wanb type bridge; link set wanb up"
    )
    poll(lambda: names == ["wana", "wanb"], "both links")
    monitor.close()


def test_without_names_there_is_no_thread(leaves_nothing: None, host_ns: Namespace) -> None:
    monitor = LinkMonitor(lambda name: None)
    monitor.follow([])
    monitor.close()
