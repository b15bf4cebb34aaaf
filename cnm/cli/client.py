"""The daemon's socket: requests in, decoded JSON out, failures as Docker words them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from cnm.cli.errors import CommandError, ConnectionFailed, DaemonError
from cnm.cli.wire import Garbled, Response, quote, request

DEFAULT_HOST = "unix:///run/cnm/cnm.sock"
# Docker's API is asked at one version, the newest that all of the commands' answers have.
_VERSION = "/v1.51"
# Beyond this a socket's path does not fit into sockaddr_un (108 bytes, one for the NUL).
_PATH_LIMIT = 107


class Client:
    """Speaks to the daemon at ``host`` (``unix://PATH``). Connects for each request.

    :raises CommandError: from the constructor, for any other kind of address.
    """

    __slots__ = ("_host", "_path")

    def __init__(self, host: str) -> None:
        self._host = host
        self._path = socket_path(host)

    def get(self, path: str, **query: str | None) -> object:
        """The decoded answer of GET. Query values that are None are left out."""
        return self._call("GET", path, None, query)

    def post(self, path: str, body: object = None, **query: str | None) -> object:
        """The decoded answer of POST, whose body is ``body`` as JSON."""
        return self._call("POST", path, body, query)

    def delete(self, path: str) -> object:
        """The decoded answer of DELETE."""
        return self._call("DELETE", path, None, {})

    def lines(self, path: str, **query: str | None) -> Iterator[object]:
        """The decoded documents of a stream, as they come, until the daemon ends it."""
        response = self._send("GET", path, None, query)
        try:
            rest = b""
            for piece in response.pieces():
                *whole, rest = (rest + piece).split(b"\n")
                yield from (json.loads(line) for line in whole if line.strip())
        except (Garbled, ConnectionError, ValueError) as error:
            raise self._lost(error) from None
        finally:
            response.close()

    def _call(
        self, method: str, path: str, body: object, query: Mapping[str, str | None]
    ) -> object:
        response = self._send(method, path, body, query)
        try:
            content = response.body()
            return json.loads(content) if content.strip() else None
        except (Garbled, ConnectionError, ValueError) as error:
            raise self._lost(error) from None
        finally:
            response.close()

    def _send(
        self, method: str, path: str, body: object, query: Mapping[str, str | None]
    ) -> Response:
        content = None if body is None else json.dumps(body).encode()
        try:
            response = request(self._path, method, target(path, query), content)
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

    def _lost(self, error: Exception) -> CommandError:
        return CommandError(f"error during connect: {self._host}: {error}")

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


def target(path: str, query: Mapping[str, str | None]) -> str:
    """The request target; Docker's paths get the API's version, ``/cnm/…`` does not."""
    pairs = [f"{key}={quote(value)}" for key, value in sorted(query.items()) if value is not None]
    prefix = "" if path.startswith("/cnm/") else _VERSION
    return prefix + path + ("?" + "&".join(pairs) if pairs else "")


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
