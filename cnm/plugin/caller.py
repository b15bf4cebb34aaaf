"""One call of somebody else's plugin: found, asked, answered, or a clear error in time.

A plugin that is being restarted is waited for, ``return_s`` at most; one that accepts
and does not answer costs ``deadline_s``. Each of them once: from then on, until it answers
again, it is given none and ``impatient_s``, for a tear-down has many calls.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from cnm.engine.wire import Wire
from cnm.errors import CNMError, InvalidParameter, NotFound, NotImplementedByDriver, Unavailable
from cnm.plugin import finding
from cnm.plugin.finding import Address, Trust
from cnm.plugin.values import Document
from cnm.plugin.wire import CONTENT_TYPE, Activated, fault

_PAUSE_S = 0.1
_ANSWER_MAX = 1 << 20  # bytes
_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
_OF_OPENSSL = re.compile(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$")
_AWAY = (errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET, errno.EPIPE)

A = TypeVar("A", bound=Wire)


@dataclass(frozen=True, slots=True)
class Patience:
    """With a plugin that does not answer."""

    deadline_s: float = 20.0  # a plugin may ask a controller elsewhere
    impatient_s: float = 2.0
    return_s: float = 4.0  # how long a plugin may be away: a restart of one takes about 1 s


class Caller:
    """One plugin by name, for calls from any thread. ``find``: its address now, by its name."""

    def __init__(
        self,
        name: str,
        find: Callable[[str], Address | None] = finding.find,
        patience: Patience = Patience(),
    ) -> None:
        self.name = name
        self._find = find
        self._patience = patience
        self._implements: frozenset[str] = frozenset()
        self._deadline_s = patience.deadline_s
        self._return_s = patience.return_s

    def __str__(self) -> str:
        return f'plugin "{self.name}"'

    def activate(self, kind: str) -> None:
        """Ask once in this life what it can do.

        :raises NotFound: with Docker's text: there is no such plugin.
        :raises Unavailable: it does not answer.
        :raises CNMError: it is no plugin of this kind.
        """
        if kind in self._implements:
            return
        if self._find(self.name) is None:
            raise NotFound(f"{self} not found")
        answer = self._exchange("Plugin.Activate", None, Activated)
        if kind not in answer.implements:
            raise CNMError(f"{self} does not implement the requested interface: {kind}")
        self._implements |= frozenset(answer.implements)

    def call(self, kind: str, method: str, body: Document | None, answer: type[A]) -> A:
        """:raises CNMError: what the plugin says, as Docker shows it.

        :raises NotImplementedByDriver: it has no such call.
        :raises Unavailable: it does not answer; and as :meth:`activate`.
        """
        self.activate(kind)
        return self._exchange(f"{kind}.{method}", body, answer)

    def _exchange(self, method: str, body: Document | None, answer: type[A]) -> A:
        status, text = self._ask(method, body)
        try:
            document: Any = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        said = document if isinstance(document, dict) else {}
        if status != 200:
            why = (
                said.get("Err") or text.decode(errors="replace").strip()[:500] or f"status {status}"
            )
            kind = NotImplementedByDriver if status == 404 else CNMError
            raise kind(f"{method}: {_line(why)}")
        wrong = said.get("Err") or said.get("Error")
        if wrong:
            raise CNMError(f"remote: {_line(wrong)}")
        if document is not None and not isinstance(document, dict):
            raise CNMError(f"{self}: {method}: its answer is no JSON object")
        if document is None and text.strip() != b"null":
            raise CNMError(f"{self}: {method}: its answer is no JSON")
        try:
            return answer.model_validate(said)
        except ValidationError as error:
            raise CNMError(f"{self}: {method}: its answer: {fault(error)}") from None

    def _ask(self, method: str, body: Document | None) -> tuple[int, bytes]:
        """Once more while nobody is there; calls can be repeated, by the protocol."""
        end = time.monotonic() + self._return_s
        while True:
            address = self._find(self.name)
            try:
                if address is None:
                    raise FileNotFoundError(errno.ENOENT, "there is no such plugin any more")
                return self._ask_once(address, method, body)
            except OSError as error:
                if error.errno in _AWAY and time.monotonic() < end:
                    time.sleep(_PAUSE_S)
                    continue
                self._return_s = 0.0  # the next call need not wait for it as well
                where = f" at {address}" if address is not None else ""
                raise Unavailable(
                    f"{self}{where} does not answer {method}: {_reason(error)}"
                ) from error

    def _ask_once(self, address: Address, method: str, body: Document | None) -> tuple[int, bytes]:
        content = b"" if body is None else json.dumps(body).encode()
        try:
            trust = None if address.trust is None else _context(address.trust)
        except InvalidParameter as error:
            raise CNMError(f"{self}: {error}") from error
        connection = _Connection(address, trust, self._deadline_s)
        late = threading.Event()

        def give_up() -> None:
            late.set()
            connection.cut()

        timer = threading.Timer(self._deadline_s, give_up)
        timer.daemon = True
        timer.start()
        try:
            headers = {"Accept": CONTENT_TYPE, "Content-Length": str(len(content))}
            connection.request("POST", f"/{method}", content, headers)
            response = connection.getresponse()
            text = response.read(_ANSWER_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                waited = self._deadline_s
                self._deadline_s = self._patience.impatient_s
                raise TimeoutError(errno.ETIMEDOUT, f"no answer in {waited:g} seconds") from error
            if isinstance(error, OSError):
                raise
            reason = str(error) or type(error).__name__
            raise OSError(errno.EPROTO, f"it speaks no HTTP ({_line(reason)})") from error
        finally:
            timer.cancel()
            connection.close()
        if late.is_set():
            self._deadline_s = self._patience.impatient_s
            raise TimeoutError(errno.ETIMEDOUT, "its answer did not end in time")
        if len(text) > _ANSWER_MAX:
            raise OSError(errno.EMSGSIZE, f"its answer is longer than {_ANSWER_MAX} bytes")
        self._deadline_s = self._patience.deadline_s
        self._return_s = self._patience.return_s
        return response.status, text


class _Connection(http.client.HTTPConnection):
    """To a plugin, whatever its address."""

    def __init__(self, address: Address, trust: ssl.SSLContext | None, timeout_s: float) -> None:
        super().__init__(address.host or "plugin.moby.localhost", address.port or None, timeout_s)
        self._address = address
        self._trust = trust

    def connect(self) -> None:
        """:raises OSError: nobody is there, or we would talk to ourselves."""
        if not self._address.path:
            super().connect()
            if self._trust is not None:
                # shaken hands with in a second step: cut() can end that too
                self.sock = wrapped = self._trust.wrap_socket(
                    self.sock, server_hostname=self._address.host, do_handshake_on_connect=False
                )
                wrapped.do_handshake()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._address.path)
        credentials = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        if _UCRED.unpack(credentials)[0] == os.getpid():
            raise OSError(errno.ELOOP, "it is this daemon's own: name its driver without cnm-")

    def cut(self) -> None:
        """From another thread: whoever waits for it wakes up."""
        sock = self.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _context(trust: Trust) -> ssl.SSLContext:
    """:raises InvalidParameter: one of its files cannot be used."""
    what = f"CAFile {trust.ca}"
    try:
        context = ssl.create_default_context(cafile=trust.ca or None)
        if trust.insecure or not trust.ca:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if trust.certificate:
            what = f"CertFile {trust.certificate}, KeyFile {trust.key}"
            context.load_cert_chain(trust.certificate, trust.key or None)
    except OSError as error:  # also what OpenSSL says of their contents
        missing = isinstance(error, FileNotFoundError | PermissionError)
        reason = error.strerror if missing else "it is no PEM file of this kind"
        raise InvalidParameter(f"TLSConfig: {what}: {reason}") from error
    return context


def _reason(error: OSError) -> str:
    """What is wrong, in words: OpenSSL puts its own places around them."""
    if isinstance(error, ssl.SSLError):
        found = _OF_OPENSSL.sub("", str(error.args[-1]))
        return f"TLS: {found}"
    return error.strerror or str(error)


def _line(text: object) -> str:
    return " ".join(str(text).split())
