"""The daemon's socket: requests in, decoded JSON out, failures as Docker words them."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from cnm.cli.errors import CommandError, ConnectionFailed, ConnectionLost, DaemonError
from cnm.cli.wire import Garbled, Response, quote, request, upgrade, upload

Value = str | Sequence[str] | None

DEFAULT_HOST = "unix:///run/cnm/cnm.sock"
# Docker's API is asked at one version, the newest that all of the commands' answers have.
_VERSION = "/v1.51"
# Beyond this a socket's path does not fit into sockaddr_un (108 bytes, one for the NUL).
_PATH_LIMIT = 107
_SWITCHING = 101


class Client:
    """Speaks to the daemon at ``host`` (``unix://PATH``). Connects for each request.

    :raises CommandError: from the constructor, for any other kind of address.
    """

    __slots__ = ("_host", "_path")

    def __init__(self, host: str) -> None:
        self._host = host
        self._path = socket_path(host)

    def get(self, path: str, **query: Value) -> object:
        """The decoded answer of GET.

        Query values that are None are left out, those of a list stand side by side.
        """
        return self._call("GET", path, None, query)

    def post(self, path: str, body: object = None, **query: Value) -> object:
        """The decoded answer of POST, whose body is ``body`` as JSON."""
        return self._call("POST", path, body, query)

    def delete(self, path: str, **query: Value) -> object:
        """The decoded answer of DELETE."""
        return self._call("DELETE", path, None, query)

    def lines(self, path: str, **query: Value) -> Iterator[object]:
        """The decoded documents of a stream, as they come, until the daemon ends it."""
        return self._documents(self.open("GET", path, **query))

    def open(self, method: str, path: str, **query: Value) -> Response:
        """An answer whose body is yet to come. The caller closes it."""
        return self._send(lambda: request(self._path, method, target(path, query)))

    def pieces(self, response: Response) -> Iterator[bytes]:
        """The body of an answer as it comes; closes it at its end.

        :raises CommandError: when it breaks off.
        """
        try:
            yield from response.pieces()
        except (Garbled, ConnectionError) as error:
            raise self._lost(error) from None
        finally:
            response.close()

    def upload(
        self, path: str, kind: str, blocks: Iterable[bytes], **query: Value
    ) -> Iterator[object]:
        """POSTs a body of the Content-Type ``kind``; the decoded documents of the answer."""
        send = self._send(lambda: upload(self._path, target(path, query), kind, blocks))
        return self._documents(send)

    def upgrade(
        self, path: str, body: object = None, **query: Value
    ) -> tuple[socket.socket, bytes]:
        """POSTs and takes the connection over: a plain stream, and what has come on it already.

        :raises CommandError: when the daemon answers anything but 101.
        """
        content = None if body is None else json.dumps(body).encode()
        response = self._send(lambda: upgrade(self._path, target(path, query), content))
        if response.status == _SWITCHING:
            return response.take_over()
        response.close()
        raise CommandError(f"unable to upgrade to tcp, received {response.status}")

    def _documents(self, response: Response) -> Iterator[object]:
        try:
            rest = b""
            for piece in response.pieces():
                *whole, rest = (rest + piece).split(b"\n")
                yield from (json.loads(line) for line in whole if line.strip())
            if rest.strip():
                yield json.loads(rest)
        except (Garbled, ConnectionError, ValueError) as error:
            raise self._lost(error) from None
        finally:
            response.close()

    def _call(self, method: str, path: str, body: object, query: Mapping[str, Value]) -> object:
        content = None if body is None else json.dumps(body).encode()
        response = self._send(lambda: request(self._path, method, target(path, query), content))
        try:
            answer = response.body()
            return json.loads(answer) if answer.strip() else None
        except (Garbled, ConnectionError, ValueError) as error:
            raise self._lost(error) from None
        finally:
            response.close()

    def _send(self, ask: Callable[[], Response]) -> Response:
        try:
            response = ask()
        except Garbled as error:
            raise self._lost(error) from None
        except OSError as error:
            raise self._unreachable(error) from None
        if response.status < 400:
            return response
        try:
            raise DaemonError(_message(response.body(), response.status), response.status)
        except (Garbled, ConnectionError) as error:
            raise self._lost(error) from None
        finally:
            response.close()

    def _lost(self, error: Exception) -> ConnectionLost:
        return ConnectionLost(f"error during connect: {self._host}: {error}")

    def _unreachable(self, error: OSError) -> CommandError:
        if isinstance(error, PermissionError):
            return ConnectionFailed(
                "permission denied while trying to connect to the cnm daemon socket at "
                f"{self._host}: be root, or a member of the socket's group"
            )
        if isinstance(error, (FileNotFoundError, ConnectionRefusedError, NotADirectoryError)):
            return ConnectionFailed(
                f"Cannot connect to the cnm daemon at {self._host}. Is the cnm daemon running?\n"
                "start it with: cnm daemon   (or: systemctl start cnm)"
            )
        return self._lost(error)


def socket_path(host: str) -> str:
    """The path of ``unix://PATH``.

    :raises CommandError: for another scheme, a relative path, or one that is too long.
    """
    scheme, separator, path = host.partition("://")
    if not separator or scheme != "unix":
        raise CommandError(f'cannot use host "{host}": only unix://PATH is supported')
    if not path.startswith("/"):
        raise CommandError(f'cannot use host "{host}": the path of the socket must be absolute')
    if len(path.encode("utf-8", "surrogateescape")) > _PATH_LIMIT:
        raise CommandError(
            f'cannot use host "{host}": a socket\'s path has {_PATH_LIMIT} bytes at most'
        )
    return path


def target(path: str, query: Mapping[str, Value]) -> str:
    """The request target; Docker's paths get the API's version unless they name one."""
    pairs = [f"{key}={quote(item)}" for key in sorted(query) for item in _items(query[key])]
    prefix = "" if path.startswith(("/cnm/", "/v1.")) else _VERSION
    return prefix + path + ("?" + "&".join(pairs) if pairs else "")


def _items(value: Value) -> Sequence[str]:
    if isinstance(value, str):
        return (value,)
    return value or ()


def segment(reference: str, what: str) -> str:
    """A name or id as one segment of a path.

    :raises CommandError: for an empty one, which would address the collection.
    """
    if not reference.strip():
        raise CommandError(f"invalid {what} name or ID: value is empty")
    # A dot alone would be taken for "this directory" on the way.
    return quote(reference) if reference.strip(".") else reference.replace(".", "%2E")


def _message(content: bytes, status: int) -> str:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("message"), str):
        return str(document["message"]).rstrip("\n")
    return content.decode(errors="replace").strip() or f"HTTP status {status}"
