"""Calls of somebody else's plugin: those that hang, in every way, and those over TLS.

Real sockets of this test's on the loopback interface, certificates by ``openssl``.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peers.keys import make_keys, server_context

from cnm.errors import CNMError, Unavailable
from cnm.plugin.caller import Caller, Patience
from cnm.plugin.finding import Address, Trust
from cnm.plugin.wire import NETWORK, Empty

PATIENCE = Patience(deadline_s=0.5, impatient_s=0.1, return_s=0.2)
AT_LAST_S = 30.0  # far beyond any deadline here, on a busy machine too

_BODY = b'{"Implements": ["NetworkDriver"]}'
ACTIVATED = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


class Peer:
    """Somebody who listens, and does with each connection what the test says."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept)
        self.end = threading.Event()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Peer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self.end.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self._serve(connection)


@contextlib.contextmanager
def calling(
    serve: Callable[[Peer, socket.socket], None], trust: Trust | None = None, host: str = ""
) -> Iterator[Caller]:
    """A caller of a peer that does so with each connection."""

    def one(connection: socket.socket) -> None:
        serve(peer, connection)

    with Peer(one) as peer:
        address = Address(host=host or "127.0.0.1", port=peer.port, trust=trust)
        yield Caller("third", lambda _name: address, PATIENCE)


# those that hang


def silent(peer: Peer, connection: socket.socket) -> None:
    """Takes everything and says nothing, until the caller goes."""
    while connection.recv(4096):
        pass


def half(peer: Peer, connection: socket.socket) -> None:
    """Promises more than it says."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    silent(peer, connection)


def trickling(peer: Peer, connection: socket.socket) -> None:
    """A byte now and then: no wait of its own is ever too long."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not peer.end.wait(0.02):
        connection.sendall(b" ")


def trickling_head(peer: Peer, connection: socket.socket) -> None:
    """The same, with the answer's head."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not peer.end.wait(0.02):
        connection.sendall(b"x")


@pytest.mark.parametrize("serve", [silent, half, trickling, trickling_head])
def test_each_kind_of_hanging_costs_its_deadline_and_then_less(
    serve: Callable[[Peer, socket.socket], None],
) -> None:
    with calling(serve) as caller:
        begun = time.monotonic()
        with pytest.raises(Unavailable) as found:
            caller.activate(NETWORK)
        text = str(found.value)
        assert text.startswith('plugin "third" at tcp://127.0.0.1:')
        assert text.endswith(
            (
                "does not answer Plugin.Activate: no answer in 0.5 seconds",
                "does not answer Plugin.Activate: its answer did not end in time",
            )
        )
        with pytest.raises(Unavailable):
            caller.activate(NETWORK)
        assert time.monotonic() - begun < AT_LAST_S


def test_one_that_answers_again_is_given_its_time_again() -> None:
    answers: list[Callable[[Peer, socket.socket], None]] = [silent, answering, silent]
    with calling(lambda peer, connection: answers.pop(0)(peer, connection)) as caller:
        with pytest.raises(Unavailable, match=r"no answer in 0\.5 seconds"):
            caller.activate(NETWORK)
        caller.activate(NETWORK)
        with pytest.raises(Unavailable, match=r"no answer in 0\.5 seconds"):
            caller.call(NETWORK, "Join", {}, Empty)


def answering(peer: Peer, connection: socket.socket) -> None:
    """As it should."""
    connection.recv(4096)
    connection.sendall(ACTIVATED)


# TLS


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See ``peers.keys``."""
    return make_keys(tmp_path_factory.mktemp("keys"))


def secured(keys: Path, *, client: bool = False) -> Callable[[Peer, socket.socket], None]:
    """A server with TLS; ``client``: it wants the client's certificate."""
    context = server_context(keys, client=client)

    def serve(peer: Peer, connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            answering(peer, wrapped)

    return serve


def trust(keys: Path, ca: str = "", client: str = "", *, insecure: bool = False) -> Trust:
    certificate, key = (str(keys / f"{client}.{end}") if client else "" for end in ("pem", "key"))
    return Trust(str(keys / f"{ca}.pem") if ca else "", certificate, key, insecure)


def test_a_server_that_is_trusted(keys: Path) -> None:
    with calling(secured(keys), trust(keys, "ca"), "localhost") as caller:
        caller.activate(NETWORK)


def test_a_client_that_shows_itself(keys: Path) -> None:
    with calling(secured(keys, client=True), trust(keys, "ca", "client"), "localhost") as caller:
        caller.activate(NETWORK)
    with calling(secured(keys, client=True), trust(keys, "ca"), "localhost") as caller:
        with pytest.raises(Unavailable, match="does not answer"):
            caller.activate(NETWORK)


@pytest.mark.parametrize("ca", ["", "other"])
def test_what_is_not_to_be_verified(keys: Path, ca: str) -> None:
    """As Docker's: asked for, or without an authority."""
    with calling(secured(keys), trust(keys, ca, insecure=bool(ca)), "localhost") as caller:
        caller.activate(NETWORK)


@pytest.mark.parametrize(
    ("ca", "host", "reason"),
    [
        ("other", "localhost", "certificate verify failed: "),
        ("ca", "127.0.0.1", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
    ],
)
def test_a_server_that_is_not_trusted(keys: Path, ca: str, host: str, reason: str) -> None:
    with calling(secured(keys), trust(keys, ca), host) as caller:
        with pytest.raises(Unavailable) as found:
            caller.activate(NETWORK)
    text = str(found.value)
    assert f"at tcp://{host}:" in text
    assert "does not answer Plugin.Activate: TLS: " in text
    assert reason in text
    assert "_ssl.c" not in text


def test_one_that_speaks_no_tls(keys: Path) -> None:
    for serve in (answering, silent):
        with calling(serve, trust(keys, "ca"), "localhost") as caller:
            with pytest.raises(Unavailable, match=r"TLS: |no answer in 0\.5 seconds"):
                caller.activate(NETWORK)


def test_files_that_are_not_there_or_nonsense(keys: Path) -> None:
    (keys / "bad.pem").write_text("nonsense")
    for wrong, reason in (
        (Trust(str(keys / "gone.pem")), "CAFile .*/gone.pem: No such file or directory"),
        (Trust(str(keys / "bad.pem")), "CAFile .*/bad.pem: it is no PEM file of this kind"),
        (
            Trust(str(keys / "ca.pem"), str(keys / "client.pem"), str(keys / "ca.key")),
            "CertFile .*/client.pem, KeyFile .*/ca.key: it is no PEM file of this kind",
        ),
    ):
        with calling(answering, wrong, "localhost") as caller:
            with pytest.raises(CNMError, match=f'plugin "third": TLSConfig: {reason}'):
                caller.activate(NETWORK)
