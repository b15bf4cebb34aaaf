"""The host's routes as they come and go, made by ip."""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest
from kernel.namespaces import Namespace, poll

from cnm.hostapi import HostRoute
from cnm.runtime.kernel.monitor import RouteMonitor

pytestmark = pytest.mark.kernel

MANY = [f"11.{high}.{low}.0/24" for high in range(40) for low in range(250)]


@pytest.fixture
def monitor(host_ns: Namespace) -> Iterator[RouteMonitor]:
    """Of a namespace with a bridge and two routes that are there before."""
    host_ns.sh(
        "link add up0 type bridge; address add 192.0.2.2/24 dev up0; link set up0 up;"
        "address add fd00:2::2/64 dev up0 nodad; route add 10.40.0.0/16 via 192.0.2.1"
    )
    made = RouteMonitor()
    yield made
    made.close()


def overrun(namespace: Namespace) -> None:
    """More routes than the monitor's socket holds notifications of."""
    namespace.sh(";".join(f"route add {network} dev up0" for network in MANY))


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Nothing can be opened in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def destinations(monitor: RouteMonitor) -> set[str]:
    return {str(route.destination) for route in monitor.routes()}


def test_routes_there_before(host_ns: Namespace, monitor: RouteMonitor) -> None:
    host_ns.sh("route add default via 192.0.2.1; route add default via fd00:2::1")
    assert destinations(monitor) == {"192.0.2.0/24", "fd00:2::/64", "10.40.0.0/16"}
    found = HostRoute(ip_network("10.40.0.0/16"), "up0", ip_address("192.0.2.1"))
    assert found in monitor.routes()
    assert str(found) == "10.40.0.0/16 via 192.0.2.1 dev up0"


def test_what_comes_and_goes_is_seen_by_the_next_question(
    host_ns: Namespace, monitor: RouteMonitor
) -> None:
    before = destinations(monitor)
    host_ns.sh("route add 10.41.0.0/16 via 192.0.2.1; route add fd00:41::/48 via fd00:2::1")
    assert destinations(monitor) - before == {"10.41.0.0/16", "fd00:41::/48"}
    host_ns.sh("route add 10.42.0.0/16 via 192.0.2.1 table 99")
    assert "10.42.0.0/16" in destinations(monitor)
    host_ns.sh("route del 10.41.0.0/16; route del fd00:41::/48")
    host_ns.sh("route del 10.42.0.0/16 table 99")
    assert destinations(monitor) == before


@pytest.mark.parametrize("how", ["set up0 down", "delete up0"])
def test_routes_go_with_their_link(how: str, host_ns: Namespace, monitor: RouteMonitor) -> None:
    host_ns.sh(f"link {how}")
    assert destinations(monitor) == set()


def test_a_port_that_leaves_its_bridge_keeps_its_routes(
    host_ns: Namespace, monitor: RouteMonitor
) -> None:
    """The bridge says DELLINK of it."""
    host_ns.sh("link add port type veth peer name far; link add other type bridge")
    host_ns.sh("link set far up; link set port up")
    host_ns.sh("address add 198.51.100.1/24 dev port")
    before = destinations(monitor)
    assert "198.51.100.0/24" in before
    host_ns.sh("link set port master other; link set port nomaster")
    assert destinations(monitor) == before


def test_routes_follow_their_device_to_another_name(
    host_ns: Namespace, monitor: RouteMonitor
) -> None:
    host_ns.sh("link add old type bridge; address add 198.51.100.1/24 dev old; link set old up")
    assert HostRoute(ip_network("198.51.100.0/24"), "old") in monitor.routes()
    host_ns.sh("link set old name new")
    assert HostRoute(ip_network("198.51.100.0/24"), "new") in monitor.routes()
    assert not [route for route in monitor.routes() if route.device == "old"]
    host_ns.sh("route add 10.46.0.0/16 dev new")
    assert HostRoute(ip_network("10.46.0.0/16"), "new") in monitor.routes()
    host_ns.sh("link delete new")
    assert "10.46.0.0/16" not in destinations(monitor)


def test_an_answer_that_still_holds_is_given_again(
    host_ns: Namespace, monitor: RouteMonitor
) -> None:
    answer = monitor.routes()
    assert monitor.routes() is answer
    host_ns.sh("link add other type bridge; link set other up")
    assert monitor.routes() is answer
    host_ns.sh("route add 10.41.0.0/16 via 192.0.2.1")
    assert len(monitor.routes()) == len(answer) + 1


def test_watchers_are_told_of_each_new_route(host_ns: Namespace, monitor: RouteMonitor) -> None:
    told: list[HostRoute] = []
    stop = monitor.watch(told.append)
    host_ns.sh("route add 10.41.0.0/16 via 192.0.2.1; route add fd00:41::/48 via fd00:2::1")
    poll(lambda: len(told) == 2, "word of two routes", timeout_s=1)
    assert {str(route.destination) for route in told} == {"10.41.0.0/16", "fd00:41::/48"}
    host_ns.sh("route add default via 192.0.2.1; route add 10.42.0.0/16 via 192.0.2.1")
    monitor.routes()  # must not swallow what the watchers wait for
    poll(lambda: len(told) == 3, "word of the third route")
    stop()
    stop()
    host_ns.sh("route add 10.43.0.0/16 via 192.0.2.1")
    last: list[HostRoute] = []
    monitor.watch(last.append)
    host_ns.sh("route add 10.44.0.0/16 via 192.0.2.1")
    poll(lambda: last, "word of the last route")
    assert len(told) == 3


def test_nothing_is_missed_when_the_kernel_drops_messages(
    host_ns: Namespace, monitor: RouteMonitor
) -> None:
    told: list[HostRoute] = []
    blocked, go_on = threading.Event(), threading.Event()

    def slow(route: HostRoute) -> None:
        blocked.set()
        go_on.wait(30)
        told.append(route)

    monitor.watch(slow)
    host_ns.sh("route add 10.41.0.0/16 via 192.0.2.1")
    assert blocked.wait(10)
    overrun(host_ns)
    go_on.set()
    poll(lambda: len(told) >= 10_001, "word of all routes", timeout_s=30)
    assert {str(route.destination) for route in told} == {"10.41.0.0/16", *MANY}
    assert set(MANY) <= destinations(monitor)


@pytest.mark.usefixtures("leaves_nothing")
def test_the_end(host_ns: Namespace) -> None:
    made = RouteMonitor()
    made.watch(lambda route: None)
    made.routes()
    made.close()
    made.close()


def test_a_table_that_could_not_be_read_anew_is_read_later(
    host_ns: Namespace, monitor: RouteMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[HostRoute] = []
    blocked, go_on = threading.Event(), threading.Event()

    def slow(route: HostRoute) -> None:
        told.append(route)
        blocked.set()
        go_on.wait(30)

    monitor.watch(slow)
    host_ns.sh("route add 10.41.0.0/16 via 192.0.2.1")
    assert blocked.wait(10)
    overrun(host_ns)
    with no_more_descriptors():
        go_on.set()
        poll(lambda: "Too many open files" in caplog.text, "the failure to be told")
    host_ns.sh("route add 10.45.0.0/16 via 192.0.2.1")
    poll(lambda: len(told) >= 10_002, "word of all routes", timeout_s=30)
    assert {"10.40.0.0/16", "10.45.0.0/16", *MANY} <= destinations(monitor)
