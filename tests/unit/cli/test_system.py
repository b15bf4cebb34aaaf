"""``cnm version|info|events`` and ``net doctor``."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from unit.cli.answering import Answering
from unit.cli.conftest import CommandLine

import cnm as package
from cnm.cli.errors import CommandError
from cnm.cli.events import line, timestamp

VERSION = {"Version": "9.9", "ApiVersion": "1.51", "MinAPIVersion": "1.24", "Os": "linux"}


def test_version(server: Answering, served: CommandLine) -> None:
    server.answer("GET", "/version", VERSION)
    status, out, err = served("version")
    assert (status, err) == (0, "")
    client, daemon = out.split("\n\n")
    assert package.__version__ in client
    assert daemon.startswith("Server:\n Version:             9.9\n API version:         1.51\n")
    assert served("version --format '{{.Server.Version}}'").out == "9.9\n"
    assert json.loads(served("version -f json").out)["Server"] == VERSION


def test_version_without_daemon(cnm: CommandLine) -> None:
    status, out, err = cnm("version")
    assert status == 1
    assert out.startswith("Client:\n Version:")
    assert "Server" not in out
    assert err.startswith("Cannot connect to the cnm daemon")


def test_info(server: Answering, served: CommandLine) -> None:
    document = {
        "ID": "x",
        "Containers": 2,
        "Plugins": {"Network": ["bridge", "null"]},
        "Debug": False,
        "OperatingSystem": "",
    }
    server.answer("GET", "/info", document)
    shown = "ID: x\nContainers: 2\nNetwork Drivers: bridge null\nDebug Mode: false\n"
    assert served("info") == (0, shown, "")
    assert served("info -f '{{.Plugins.Network}}'").out == "[bridge null]\n"
    assert 'map has no entry for key "Nope"' in served("info -f '{{.Nope}}'").err


@pytest.mark.parametrize(("status", "exit_status"), [("ok", 0), ("warning", 0), ("failed", 1)])
def test_doctor(server: Answering, served: CommandLine, status: str, exit_status: int) -> None:
    checks = [
        {"Name": "kernel", "Status": "ok", "Detail": "bridge,\tveth"},
        {"Name": "routes", "Status": status, "Detail": ""},
    ]
    server.answer("GET", "/cnm/v1/doctor", {"Checks": checks, "Repairs": ["link br0"]})
    shown = (
        "CHECK     STATUS    DETAIL\n"
        "kernel    ok        bridge, veth\n"
        f"routes    {status:<10}\n"
        "repaired: link br0\n"
    )
    assert served("net doctor") == (exit_status, shown, "")


EVENT = {
    "Type": "network",
    "Action": "create",
    "Actor": {"ID": "abc", "Attributes": {"type": "bridge", "name": "n"}},
    "scope": "local",
    "time": 1700000000,
    "timeNano": 1700000000000000042,
}


def test_events(server: Answering, served: CommandLine) -> None:
    body = (json.dumps(EVENT) + "\n").encode() * 2
    server.raw("GET", "/events", b"HTTP/1.1 200 OK\r\n\r\n" + body)
    assert served("events --since 5 --until 6.5 -f type=network").out == f"{line(EVENT)}\n" * 2
    assert server.requests[0].target == (
        "/v1.51/events?filters=%7B%22type%22%3A%7B%22network%22%3Atrue%7D%7D&since=5&until=6.5"
    )
    form = "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.ID}} {{.Scope}} {{.TimeNano}}"
    assert served(f"events --format '{form}'").out == (
        "create n abc local 1700000000000000042\n" * 2
    )
    assert json.loads(served("events --format json").out.splitlines()[0]) == EVENT


def test_event_line() -> None:
    shown = line(EVENT)
    assert shown.endswith(" network create abc (name=n, type=bridge)")
    clock = shown.split(" ")[0]
    assert ".000000042" in clock
    assert datetime.fromisoformat(clock).timestamp() == 1700000000
    assert line({"Type": "x", "Action": "y", "time": 1}).endswith(" x y None")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("1700000000", "1700000000"),
        ("1700000000.5", "1700000000.5"),
        ("10m", "400.000000000"),
        ("1.5s", "998.500000000"),
        ("0h2m3s500ms", "876.500000000"),
        ("1970-01-01T00:00:10Z", "10.000000000"),
        ("1970-01-01T01:00:10.25+01:00", "10.250000000"),
    ],
)
def test_times(text: str, seconds: str | None) -> None:
    assert timestamp(text, 1000.0) == seconds


def test_local_day() -> None:
    assert timestamp("2024-01-02", 0) == f"{datetime(2024, 1, 2).timestamp():.9f}"


@pytest.mark.parametrize("text", ["bad", "10 m", "m", "2024-13-01", "-5"])
def test_no_time(text: str) -> None:
    with pytest.raises(CommandError, match="failed to parse value as time or duration"):
        timestamp(text, 0)
