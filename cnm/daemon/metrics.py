"""``--metrics-addr``: metrics over plain HTTP, for a scraper that is trusted to come seldom."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cnm.engine.metrics import CONTENT_TYPE
from cnm.errors import Unavailable

_CLIENT_TIMEOUT_S = 10  # a scraper that sends or takes nothing for so long is let go


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


@contextlib.contextmanager
def served(address: tuple[str, int], render: Callable[[], str]) -> Iterator[None]:
    """Meanwhile ``GET /metrics`` is answered there.

    :raises Unavailable: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    kind = type("Metrics", (_Server,), {"address_family": family})
    try:
        server = kind(address, _handler(render))
    except OSError as error:
        raise Unavailable(f"metrics-addr {address[0]}:{address[1]}: {error.strerror}") from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _handler(render: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _CLIENT_TIMEOUT_S

        def do_GET(self) -> None:
            """One page."""
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404)
                return
            body = render().encode()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Scrapes are no news."""

    return Handler
