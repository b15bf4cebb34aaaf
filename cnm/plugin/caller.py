"""One call of somebody else's plugin: found, asked, answered, or a clear error in time.

A plugin that is being restarted is waited for, :data:`RETURN_S` at most; one that accepts
and does not answer costs :data:`DEADLINE_S`. Each of them once: from then on, until it answers
again, it is given none and :data:`IMPATIENT_S`, for a tear-down has many calls.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import socket
import ssl
import struct
import threading
import time
from typing import Any, TypeVar

from pydantic import ValidationError

from cnm.engine.wire import Wire
from cnm.errors import CNMError, NotFound, NotImplementedByDriver, Unavailable
from cnm.plugin import finding
from cnm.plugin.finding import Address
from cnm.plugin.values import Document
from cnm.plugin.wire import CONTENT_TYPE, Activated, fault

DEADLINE_S = 20.0  # a plugin may ask a controller elsewhere
IMPATIENT_S = 2.0
RETURN_S = 4.0  # how long a plugin may be away: a restart of one takes about 1 s
_PAUSE_S = 0.1
_ANSWER_MAX = 1 << 20  # bytes
_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
_AWAY = (errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET, errno.EPIPE)

A = TypeVar("A", bound=Wire)


class Caller:
    """One plugin by name, for calls from any thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._implements: frozenset[str] = frozenset()
        self._deadline_s = DEADLINE_S
        self._return_s = RETURN_S

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
        if finding.find(self.name) is None:
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
            address = finding.find(self.name)
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
                reason = error.strerror or str(error)
                raise Unavailable(f"{self}{where} does not answer {method}: {reason}") from error

    def _ask_once(self, address: Address, method: str, body: Document | None) -> tuple[int, bytes]:
        content = b"" if body is None else json.dumps(body).encode()
        connection = _Connection(address, self._deadline_s)
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
                self._deadline_s = IMPATIENT_S
                raise TimeoutError(errno.ETIMEDOUT, f"no answer in {waited:.0f} seconds") from error
            if isinstance(error, OSError):
                raise
            reason = str(error) or type(error).__name__
            raise OSError(errno.EPROTO, f"it speaks no HTTP ({_line(reason)})") from error
        finally:
            timer.cancel()
            connection.close()
        if late.is_set():
            self._deadline_s = IMPATIENT_S
            raise TimeoutError(errno.ETIMEDOUT, "its answer did not end in time")
        if len(text) > _ANSWER_MAX:
            raise OSError(errno.EMSGSIZE, f"its answer is longer than {_ANSWER_MAX} bytes")
        self._deadline_s, self._return_s = DEADLINE_S, RETURN_S
        return response.status, text


class _Connection(http.client.HTTPConnection):
    """To a plugin, whatever its address."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        super().__init__(address.host or "plugin.moby.localhost", address.port or None, timeout_s)
        self._address = address

    def connect(self) -> None:
        """:raises OSError: nobody is there, or we would talk to ourselves."""
        if not self._address.path:
            super().connect()
            if self._address.trust is not None:
                self.sock = _trusted(self._address).wrap_socket(
                    self.sock, server_hostname=self._address.host
                )
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


def _trusted(address: Address) -> ssl.SSLContext:
    trust = address.trust
    assert trust is not None
    context = ssl.create_default_context(cafile=trust.ca or None)
    if trust.insecure or not trust.ca:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if trust.certificate:
        context.load_cert_chain(trust.certificate, trust.key or None)
    return context


def _line(text: object) -> str:
    return " ".join(str(text).split())
