"""The client against a real server: framing, addresses, failures."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.cli.answering import Answering

from cnm.cli.client import Client, segment, target
from cnm.cli.errors import CommandError, ConnectionFailed, DaemonError

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("raw", "document"),
    [
        pytest.param(OK + b'Content-Length: 7\r\n\r\n{"a":1}', {"a": 1}, id="length"),
        pytest.param(OK + b'\r\n{"a":1}', {"a": 1}, id="to the end"),
        pytest.param(OK + b"transfer-encoding: CHUNKED\r\n\r\n"
                     b'3;x=y\r\n{"a\r\n4\r\n":1}\r\n0\r\nT: x\r\n\r\n', {"a": 1}, id="chunks"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\n1", 1,
                     id="after 100"),
        pytest.param(b"HTTP/1.0 204 No Content\r\n\r\n", None, id="no content"),
        pytest.param(OK + b"Content-Length: 0\r\n\r\n", None, id="empty"),
    ],
)  # fmt: skip
def test_reads_answers(server: Answering, raw: bytes, document: object) -> None:
    server.raw("GET", "/x", raw)
    assert Client(server.host).get("/x") == document


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        pytest.param(b"SSH-2.0\r\n\r\n", "not an HTTP answer", id="other protocol"),
        pytest.param(b"\r\n", "the connection ended", id="nothing"),
        pytest.param(OK + b"Content-Length: 9\r\n\r\n1", "ended early", id="short"),
        pytest.param(OK + b"Content-Length: x\r\n\r\n1", "bad Content-Length 'x'", id="length"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", "ended early", id="chunk"),
        pytest.param(OK + b"X: " + b"y" * 70000, "a header is too long", id="endless header"),
        pytest.param(OK + b"\r\n{", "Expecting", id="not JSON"),
    ],
)
def test_refuses_garbage(server: Answering, raw: bytes, problem: str) -> None:
    server.raw("GET", "/x", raw)
    with pytest.raises(CommandError, match=problem) as refused:
        Client(server.host).get("/x")
    assert str(refused.value).startswith(f"error during connect: {server.host}: ")


def test_sends_what_it_is_told(server: Answering) -> None:
    server.answer("POST", "/networks/create", {"Id": "1"}, 201)
    server.answer("POST", "/cnm/v1/adopt", {"Id": "2"}, 201)
    server.answer("DELETE", "/networks/a%20b%2Fc", status=204)
    client = Client(server.host)
    assert client.post("/networks/create", {"Name": "é"}, verbose=None, a="b c") == {"Id": "1"}
    assert client.post("/cnm/v1/adopt") == {"Id": "2"}
    assert client.delete(f"/networks/{segment('a b/c', 'network')}") is None
    assert server.requests == [
        ("POST", "/v1.51/networks/create?a=b%20c", {"Name": "é"}),
        ("POST", "/cnm/v1/adopt", None),
        ("DELETE", "/v1.51/networks/a%20b%2Fc", None),
    ]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"message":"network x not found\\n"}', "network x not found"),
        (b"plain words", "plain words"),
        (b'["odd"]', '["odd"]'),
        (b"", "HTTP status 404"),
    ],
)
def test_daemon_errors(server: Answering, raw: bytes, message: str) -> None:
    server.raw("GET", "/x", b"HTTP/1.1 404 Not Found\r\n\r\n" + raw)
    with pytest.raises(DaemonError) as refused:
        Client(server.host).get("/x")
    assert str(refused.value) == f"Error response from daemon: {message}"
    assert refused.value.code == 404


def test_streams_documents_as_they_come(server: Answering) -> None:
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    server.raw("GET", "/events", head + b'8\r\n{"a":1}\n\r\n3\r\n{"b\r\n5\r\n":2}\n\r\n0\r\n\r\n')
    assert list(Client(server.host).lines("/events")) == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("kind", ["missing", "not a socket", "nobody listens"])
def test_no_daemon(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "not a socket":
        path.touch()
    if kind == "nobody listens":
        with socket.socket(socket.AF_UNIX) as unserved:
            unserved.bind(str(path))
    with pytest.raises(ConnectionFailed) as refused:
        Client(f"unix://{path}").get("/x")
    assert str(refused.value) == (
        f"Cannot connect to the cnm daemon at unix://{path}. Is the cnm daemon running?\n"
        "start it with: cnm daemon   (or: systemctl start cnm)"
    )


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """File permissions count for this thread."""
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_permission_denied(server: Answering, request: pytest.FixtureRequest) -> None:
    os.chmod(server.host.removeprefix("unix://"), 0o600)
    request.getfixturevalue("unprivileged")
    with pytest.raises(ConnectionFailed, match="permission denied while trying to connect"):
        Client(server.host).get("/x")


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("tcp://localhost:2375", "only unix://PATH is supported"),
        ("/run/cnm/cnm.sock", "only unix://PATH is supported"),
        ("unix://cnm.sock", "the path of the socket must be absolute"),
        ("unix:///" + "x" * 107, "a socket's path has 107 bytes at most"),
    ],
)
def test_addresses_that_cannot_be_used(host: str, problem: str) -> None:
    with pytest.raises(CommandError) as refused:
        Client(host)
    assert str(refused.value) == f'cannot use host "{host}": {problem}'


def test_targets() -> None:
    assert (
        target("/networks", {"b": "é&", "a": "1", "c": None}) == "/v1.51/networks?a=1&b=%C3%A9%26"
    )
    assert segment("..", "network") == "%2E%2E"
    with pytest.raises(CommandError, match="invalid network name or ID: value is empty"):
        segment(" ", "network")
