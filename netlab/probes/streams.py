"""Connections: reach, HTTP, throughput. Sockets are made in the namespaces, used from here."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from urllib.parse import SplitResult, urlsplit

from cnm.netlab.errors import LabError
from cnm.netlab.model import Http, Throughput, Transport
from cnm.netlab.probes.outcome import Outcome
from cnm.netlab.vantage import Vantage
from cnm.runtime.kernel.netns import NetNS
from cnm.types import IPAddress

_TIMEOUT_S = 2.0
_CHUNK = 256 * 1024
_MEGABIT = 1_000_000
_LONGEST_BODY = 1 << 20


def reach(source: Vantage, address: IPAddress, port: int, transport: Transport) -> Outcome:
    """A TCP connection that is accepted, or a UDP datagram that is answered."""
    where = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    with NetNS(source.netns) as namespace:
        kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
        with namespace.run(lambda: socket.socket(_family(address), kind)) as link:
            link.settimeout(_TIMEOUT_S)
            try:
                link.connect((str(address), port))
                if transport == "udp":
                    link.send(b"netlab\n")
                    link.recv(2048)
            except OSError as error:
                return Outcome(False, f"{where}: {error.strerror or error}")
    return Outcome(True, f"{where}: {'connected' if transport == 'tcp' else 'answered'}")


def get(source: Vantage, probe: Http, address: IPAddress) -> Outcome:
    """An HTTP GET; a certificate is not checked: labs have no authority."""
    url = urlsplit(probe.url)
    try:
        with NetNS(source.netns) as namespace:
            status, body = namespace.run(lambda: _exchange(url, address))
    except (OSError, http.client.HTTPException) as error:
        return Outcome(False, str(error) or type(error).__name__)
    if status != probe.status:
        return Outcome(False, f"status {status}")
    if probe.contains is not None and probe.contains not in body:
        return Outcome(False, f"status {status}, body {body[:60]!r}")
    return Outcome(True, f"status {status}, {len(body)} characters")


def _exchange(url: SplitResult, address: IPAddress) -> tuple[int, str]:
    secure = url.scheme == "https"
    port = url.port or (443 if secure else 80)
    with socket.create_connection((str(address), port), _TIMEOUT_S) as plain:
        link = _any_certificate(plain, url.hostname or "") if secure else plain
        connection = http.client.HTTPConnection(url.netloc.rpartition("@")[2])
        connection.sock = link
        connection.request("GET", url._replace(scheme="", netloc="").geturl() or "/")
        answer = connection.getresponse()
        return answer.status, answer.read(_LONGEST_BODY).decode(errors="replace")


def _any_certificate(link: socket.socket, name: str) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(link, server_hostname=name)


def throughput(source: Vantage, target: Vantage, probe: Throughput, address: IPAddress) -> Outcome:
    """One TCP stream for so many seconds, counted where it arrives."""
    with NetNS(target.netns) as there, NetNS(source.netns) as here:
        with there.run(
            lambda: socket.create_server((str(address), 0), family=_family(address))
        ) as server:
            server.settimeout(_TIMEOUT_S)
            receiver = _Receiver(server)
            with here.run(lambda: socket.socket(_family(address), socket.SOCK_STREAM)) as link:
                link.settimeout(_TIMEOUT_S)
                try:
                    link.connect(server.getsockname()[:2])
                    receiver.start()
                    _send(link, probe.seconds)
                except OSError as error:
                    return Outcome(False, f"{address}: {error.strerror or error}")
            receiver.join()
    rate = receiver.rate_bit_s
    enough = probe.at_least_bit_s is None or rate >= probe.at_least_bit_s
    little = probe.at_most_bit_s is None or rate <= probe.at_most_bit_s
    return Outcome(enough and little, f"{rate / _MEGABIT:,.1f} Mbit/s")


def _send(link: socket.socket, seconds: float) -> None:
    """Until the time is up; a wire that takes nothing for a while is not an error."""
    chunk = bytes(_CHUNK)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            link.send(chunk)
        except TimeoutError:
            continue


class _Receiver(threading.Thread):
    """Accepts one stream and counts it."""

    def __init__(self, server: socket.socket) -> None:
        super().__init__(name="throughput", daemon=True)
        self._server = server
        self.rate_bit_s = 0.0

    def run(self) -> None:
        try:
            link, _ = self._server.accept()
        except TimeoutError:
            return
        buffer = bytearray(_CHUNK)
        taken, started, last = 0, time.monotonic(), time.monotonic()
        with link:
            link.settimeout(_TIMEOUT_S)
            try:
                while size := link.recv_into(buffer):
                    taken += size
                    last = time.monotonic()
            except OSError:
                pass  # what has arrived counts
        self.rate_bit_s = taken * 8 / max(last - started, 0.001)


def host_of(url: str) -> IPAddress | str:
    """The host of a URL: an address, or a name to be resolved.

    :raises LabError: it has none.
    """
    host = urlsplit(url).hostname
    if not host:
        raise LabError(f'"{url}" names no host')
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return host


def _family(address: IPAddress) -> socket.AddressFamily:
    return socket.AF_INET6 if address.version == 6 else socket.AF_INET
