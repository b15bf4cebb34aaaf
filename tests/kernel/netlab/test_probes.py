"""Probes on real namespaces: what is there is seen, and what is not, is not."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from kernel.namespaces import Namespace, entered
from kernel.netlab.stage import FAR, NEAR, Stage

from cnm.netlab.model import (
    Http,
    Packets,
    Ping,
    Place,
    Probe,
    Reach,
    Resolve,
    Run,
    Throughput,
    Traceroute,
)

_NOWHERE = ip_address("10.77.0.1")
_BRIEFLY_S = 0.1
_WIRE = "near:eth0"
_PING6 = "icmp6 and ip6[40] = 128"  # an echo request: a kernel says other ICMPv6 by itself


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"for {self.client_address[0]} at {self.headers['Host']}".encode()
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """No log."""


@pytest.fixture
def services(stage: Stage) -> Iterator[Stage]:
    """On far: HTTP on 80, an echo of datagrams on 7."""
    with contextlib.ExitStack() as stack:
        with entered(stage.far):
            web = stack.enter_context(http.server.HTTPServer(("10.9.1.1", 80), _Page))
            echo = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        echo.bind(("10.9.1.1", 7))
        threads = [
            threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}),
            threading.Thread(target=_echo, args=(echo,)),
        ]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(_end_echo, stage.far)
        stack.callback(web.shutdown)
        yield stage


def _echo(link: socket.socket) -> None:
    while True:
        data, sender = link.recvfrom(2048)
        if data == b"end":
            return
        link.sendto(data, sender)


def _end_echo(namespace: Namespace) -> None:
    with entered(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.sendto(b"end", ("10.9.1.1", 7))


def test_what_is_there_is_seen(services: Stage) -> None:
    expected: list[tuple[Probe, str]] = [
        (Ping(NEAR, FAR, count=2), "10.9.1.1: 2 packets transmitted, 2 received"),
        (Ping(NEAR, FAR, family=6), "fd00:1::1: 1 packets transmitted, 1 received"),
        (Ping(NEAR, FAR, size=1472, dont_fragment=True), "1 received"),
        (Traceroute(NEAR, FAR, hops=2), "2 hops: 10.9.0.254 10.9.1.1"),
        (Traceroute(NEAR, FAR, via=(ip_address("10.9.0.254"),)), "2 hops"),
        (Traceroute(NEAR, ip_address("fd00:1::1"), hops=2), "2 hops: fd00::fe fd00:1::1"),
        (Reach(NEAR, FAR, 80), "10.9.1.1:80: connected"),
        (Reach(NEAR, "other", 7, "udp"), "10.9.1.1:7: answered"),
        (Http(NEAR, "http://10.9.1.1/", contains="for 10.9.0.1 at 10.9.1.1"), "status 200"),
        (Http(NEAR, "http://far/missing", status=404), "status 404"),
        (Resolve(NEAR, "far", answers=("10.9.1.1",)), "10.9.1.1"),
        (Resolve(NEAR, "FAR.", record="AAAA"), "fd00:1::1"),
        (Run(NEAR, ("ip", "route"), contains="via 10.9.0.254"), "status 0"),
        (Run(NEAR, ("false",), status=1), "status 1"),
        (Throughput(NEAR, FAR, at_least_bit_s=1_000_000, seconds=0.2), "Mbit/s"),
        (Packets(_WIRE, "middle", "icmp", during=Ping(NEAR, FAR)), "1 packets"),
        (Packets(_WIRE, "near", "udp port 7", during=Reach(NEAR, FAR, 7, "udp")), "1 packets"),
    ]
    for probe, seen in expected:
        result = services.look(probe)
        assert result.passed, f"{probe}: {result.detail}"
        assert seen in result.detail


def test_what_is_not_there_is_not_seen(services: Stage) -> None:
    expected: list[tuple[Probe, str]] = [
        (Ping(NEAR, _NOWHERE), "100% packet loss"),
        (Ping(NEAR, FAR, size=1473, dont_fragment=True), ""),
        (Ping(NEAR, "nobody"), "resolv.conf names no server"),
        (Traceroute(NEAR, FAR, hops=1), "2 hops: 10.9.0.254 10.9.1.1"),
        (Traceroute(NEAR, FAR, via=(ip_address("10.9.0.253"),)), "2 hops"),
        (Reach(NEAR, FAR, 81), "Connection refused"),
        (Reach(NEAR, FAR, 81, "udp"), "Connection refused"),
        (Http(NEAR, "http://far/missing"), "status 404"),
        (Http(NEAR, "http://far/", contains="no such words"), "status 200, body"),
        (Resolve(NEAR, "far", answers=("10.9.1.2",)), "10.9.1.1; not 10.9.1.2"),
        (Run(NEAR, ("false",)), "status 1"),
        (Run(NEAR, ("echo", "one"), contains="two"), "status 0: one"),
        (Throughput(NEAR, FAR, at_most_bit_s=1, seconds=0.1), "Mbit/s"),
        (Packets(_WIRE, "near", _PING6, during=Ping(NEAR, FAR)), "0 packets"),
        (Packets(_WIRE, "near", "no filter", during=Ping(NEAR, FAR)), "syntax error"),
    ]
    for probe, seen in expected:
        result = services.look(probe, within_s=_BRIEFLY_S)
        assert not result.passed, f"{probe}: {result.detail}"
        assert seen in result.detail
        assert services.look(probe, expect=False, within_s=_BRIEFLY_S).passed


def test_a_way_that_ends_nowhere_is_not_the_end_of_the_way(stage: Stage) -> None:
    result = stage.look(Traceroute(NEAR, _NOWHERE, hops=2), within_s=_BRIEFLY_S)
    assert not result.passed
    assert f"{_NOWHERE} is not reached" in result.detail


def test_a_check_is_tried_again_until_it_holds(stage: Stage) -> None:
    stage.middle.sh("link set eth2 down")
    timer = threading.Timer(0.6, stage.middle.sh, args=("link set eth2 up",))
    timer.start()
    result = stage.look(Ping(NEAR, FAR), within_s=20.0)
    timer.join()
    assert result.passed
    assert result.tries > 1


def test_the_address_in_a_shared_subnet_is_taken(stage: Stage) -> None:
    stage.middle.sh("link add z type bridge; addr add 10.1.1.1/24 dev z; link set z up")
    for source, address in ((NEAR, "10.9.0.254"), (FAR, "10.9.1.254")):
        result = stage.look(Ping(source, Place("middle")))
        assert result.passed
        assert result.detail.startswith(f"{address}:")
