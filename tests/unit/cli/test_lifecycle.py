"""``cnm stop|restart|kill|rm|wait|rename|logs|top|port``."""

from __future__ import annotations

from typing import Any

import pytest
from unit.cli.answering import Answering
from unit.cli.conftest import CommandLine

IDENTIFIER = "c" * 64
MISSING = "Error response from daemon: No such container: x\n"


@pytest.fixture
def two(server: Answering) -> Answering:
    """Containers c1 and c2, and none named x."""
    for verb in ("stop", "restart", "kill"):
        for name in ("c1", "c2"):
            server.answer("POST", f"/containers/{name}/{verb}", status=204)
        server.refuse("POST", f"/containers/x/{verb}", 404, "No such container: x")
    for name in ("c1", "c2"):
        server.answer("DELETE", f"/containers/{name}", status=204)
        server.answer("POST", f"/containers/{name}/wait", {"StatusCode": 3})
    server.refuse("DELETE", "/containers/x", 404, "No such container: x")
    server.refuse("POST", "/containers/x/wait", 404, "No such container: x")
    return server


def targets(server: Answering) -> list[str]:
    """What was asked, without the version, in alphabetical order: it is asked at once."""
    return sorted(request.target.removeprefix("/v1.51") for request in server.requests)


@pytest.mark.parametrize(
    ("words", "query"),
    [
        ("stop", ["/containers/c1/stop"]),
        ("stop -t 3 -s HUP", ["/containers/c1/stop?signal=HUP&t=3"]),
        ("stop --time -1", ["/containers/c1/stop?t=-1"]),
        ("restart --timeout 0", ["/containers/c1/restart?t=0"]),
        ("kill", ["/containers/c1/kill"]),
        ("kill --signal USR1", ["/containers/c1/kill?signal=USR1"]),
        ("rm", ["/containers/c1"]),
        ("rm -fv", ["/containers/c1?force=1&v=1"]),
        ("remove -l", ["/containers/c1?link=1"]),
    ],
)
def test_requests(two: Answering, served: CommandLine, words: str, query: list[str]) -> None:
    assert served(f"{words} c1") == (0, "c1\n", "")
    assert targets(two) == query


@pytest.mark.parametrize("verb", ["stop", "restart", "kill", "rm"])
def test_goes_on_after_an_error(two: Answering, served: CommandLine, verb: str) -> None:
    assert served(f"{verb} c1 x c2") == (1, "c1\nc2\n", MISSING)


def test_stop_of_a_stopped_one(server: Answering, served: CommandLine) -> None:
    server.answer("POST", "/containers/c1/stop", status=304)
    assert served("stop c1") == (0, "c1\n", "")


def test_rm_forced_forgives(two: Answering, served: CommandLine) -> None:
    assert served("rm -f x /c1") == (0, "/c1\n", MISSING)
    assert served("rm c1 /") == (1, "", "container name cannot be empty\n")


def test_no_daemon_is_told_once(cnm: CommandLine) -> None:
    assert cnm("rm c1 c2 c3").err.count("Cannot connect") == 1
    assert cnm("wait c1 c2").err.count("Cannot connect") == 1


def test_wait(two: Answering, served: CommandLine) -> None:
    assert served("wait c1 x c2") == (1, "3\n3\n", MISSING)


def test_wait_garbled(server: Answering, served: CommandLine) -> None:
    server.raw("POST", "/containers/c1/wait", b"HTTP/1.1 200 OK\r\n\r\ncut")
    assert served("wait c1") == (0, "125\n", "")


def test_rename(server: Answering, served: CommandLine) -> None:
    server.answer("POST", "/containers/c1/rename", status=204)
    assert served("rename c1 ' web '") == (0, "", "")
    assert targets(server) == ["/containers/c1/rename?name=web"]
    server.refuse("POST", "/containers/c1/rename", 409, "taken")
    problem = "Error response from daemon: taken\nError: failed to rename container named c1\n"
    assert served("rename c1 web") == (1, "", problem)
    empty = "Error: Neither old nor new names may be empty\n"
    assert served("rename c1 ' '") == (1, "", empty)


def inspected(server: Answering, **parts: Any) -> None:
    """Makes ``c1`` such a container."""
    server.answer("GET", "/containers/c1/json", {"Id": IDENTIFIER, "Config": {}} | parts)


def frame(stream: int, text: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text


def chunked(*pieces: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def test_logs(server: Answering, served: CommandLine) -> None:
    inspected(server)
    whole = frame(1, b"one\n") + frame(2, b"two\n") + frame(1, b"three\n")
    path = f"/containers/{IDENTIFIER}/logs"
    server.raw("GET", path, chunked(whole[:3], whole[3:14], whole[14:]))
    assert served("logs c1") == (0, "one\nthree\n", "two\n")
    assert targets(server)[1] == f"{path}?stderr=1&stdout=1&tail=all"
    served("logs -ft -n 3 --since 5 --until 2024-01-01T00:00:00Z c1")
    assert server.requests[-1].target.endswith(
        "/logs?follow=1&since=5&stderr=1&stdout=1&tail=3&timestamps=1&until=1704067200.000000000"
    )


def test_logs_of_a_terminal(server: Answering, served: CommandLine) -> None:
    inspected(server, Config={"Tty": True})
    server.raw("GET", f"/containers/{IDENTIFIER}/logs", chunked(b"a\r\n", b"b"))
    assert served("logs c1") == (0, "a\r\nb", "")


def test_logs_fail(server: Answering, served: CommandLine) -> None:
    inspected(server)
    path = f"/containers/{IDENTIFIER}/logs"
    server.raw("GET", path, chunked(frame(1, b"one\n"))[:-7])
    broken = f"error during connect: {server.host}: the connection ended early\n"
    assert served("logs c1") == (1, "one\n", broken)
    assert served("logs --since bogus c1").err == (
        'invalid value for "since": failed to parse value as time or duration: "bogus"\n'
    )


def test_top(server: Answering, served: CommandLine) -> None:
    rows = [["1", "sh -c x"], ["4711", "sleep 1d"]]
    server.answer("GET", "/containers/c1/top", {"Titles": ["PID", "COMMAND"], "Processes": rows})
    blank = " "
    assert served("top c1 -o pid,args").out == (
        f"PID{blank * 17}COMMAND\n1{blank * 19}sh -c x\n4711{blank * 16}sleep 1d\n"
    )
    assert targets(server) == ["/containers/c1/top?ps_args=-o%20pid%2Cargs"]


PORTS = {
    "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "5005"}, {"HostIp": "::", "HostPort": "5005"}],
    "9/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
    "70/tcp": None,
}


@pytest.mark.parametrize(
    ("wanted", "status", "out", "err"),
    [
        (
            "",
            0,
            "9/udp -> 127.0.0.1:53\n80/tcp -> 0.0.0.0:5005\n80/tcp -> [::]:5005\n",
            "",
        ),
        ("80", 0, "0.0.0.0:5005\n[::]:5005\n", ""),
        ("9/udp", 0, "127.0.0.1:53\n", ""),
        ("9", 1, "", "Error: No public port '9' published for c1\n"),
        ("70/tcp", 1, "", "Error: No public port '70/tcp' published for c1\n"),
    ],
)
def test_port(
    server: Answering, served: CommandLine, wanted: str, status: int, out: str, err: str
) -> None:
    inspected(server, NetworkSettings={"Ports": PORTS})
    assert served(f"port c1 {wanted}") == (status, out, err)


def test_port_of_a_stopped_one(server: Answering, served: CommandLine) -> None:
    inspected(server, NetworkSettings={"Ports": None})
    assert served("port c1") == (0, "", "")
