"""What no honest client sends: answered with 400 and one line, and the daemon lives on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from livedaemon import LiveDaemon, UnixConnection

pytestmark = pytest.mark.kernel

_JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def no_surprise(live: LiveDaemon) -> Iterator[None]:
    """Nothing here is a surprise to the daemon."""
    before = len(live.log())
    yield
    assert "internal error" not in live.log()[before:]
    assert live.http("GET", "/_ping").status == 200


def refused(live: LiveDaemon, method: str, path: str, body: object = None) -> str:
    answer = live.http(method, path, body, _JSON)
    assert answer.status == 400, answer.document
    message: str = answer.document["message"]
    assert len(message) < 300
    return message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"Netns": "/x\0y"}, "invalid netns: it has control characters"),
        ({"Netns": "/" + "x" * 5000}, "invalid netns: longer than 4095 bytes"),
        (
            {"Netns": "proc/1/ns/net"},
            "invalid netns proc/1/ns/net: it must be an absolute path",
        ),
        ({"Netns": "\ud800"}, "invalid netns: it has control characters"),
        ({"Pid": -1}, "invalid pid: it must be between 1 and 4194304"),
        ({"Pid": 10**30}, "invalid pid: it must be between 1 and 4194304"),
    ],
)
def test_namespaces_that_cannot_be(live: LiveDaemon, body: dict[str, object], message: str) -> None:
    assert refused(live, "POST", "/cnm/v1/adopt", {"Name": "odd", **body}) == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[" * 20_000, "invalid JSON: it is nested too deeply"),
        (b"{" * 20_000, "invalid JSON: expecting property name enclosed in double quotes"),
        (b'{"Name":"x","n":' + b"9" * 5000 + b"}", "invalid JSON: Exceeds the limit"),
        (b'{"Name":"\xff\xfe"}', "invalid JSON: 'utf-8' codec can't decode byte 0xff"),
        (b'{"Name":"a\\u0000b"}', "invalid name: it has control characters"),
        (b'{"Name":"a","Options":{"k":"\\u0001"}}', "invalid network config:\ninvalid driver opt"),
    ],
    ids=["lists", "objects", "digits", "bytes", "name", "option"],
)
def test_bodies_that_cannot_be_read(live: LiveDaemon, body: bytes, message: str) -> None:
    assert refused(live, "POST", "/networks/create", body).startswith(message)


def test_a_version_of_many_digits(live: LiveDaemon) -> None:
    assert "is too new" in refused(live, "GET", f"/v{'9' * 5000}/info")


@pytest.mark.parametrize("filters", ["[" * 10_000, '{"name":{' + "9" * 5000 + ":true}}"])
def test_filters_that_cannot_be_read(live: LiveDaemon, filters: str) -> None:
    assert refused(live, "GET", f"/networks?filters={quote(filters)}") == "invalid filter"


def test_an_expression_cannot_stop_the_daemon(live: LiveDaemon) -> None:
    live.net("create", "a" * 32 + "!")
    filters = quote(json.dumps({"name": ["(a+)+$"]}))
    message = "invalid filter: name: pattern too complex"
    assert refused(live, "GET", f"/networks?filters={filters}") == message
    assert refused(live, "GET", f"/containers/json?filters={filters}") == message


def test_chunks_without_end(live: LiveDaemon) -> None:
    head = b"POST /networks/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    with contextlib.closing(UnixConnection(live.socket)) as connection:
        connection.connect()
        connection.sock.sendall(head + chunk * 5)
        answer = connection.sock.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"the body is too long: at most 4194304 bytes are read" in answer
