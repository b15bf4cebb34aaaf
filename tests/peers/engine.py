"""An engine's side of the plugin protocols: what dockerd sends, byte for byte, without dockerd.

Headers and bodies are those that were recorded, so that what newer engines do can be
replayed. The engine's own work, moving the link, is done with ``ip``.
"""

from __future__ import annotations

import http.client
import json
import secrets
from pathlib import Path
from typing import Any, NamedTuple

from livedaemon import run
from peers.api import UnixConnection

Document = dict[str, Any]

ACCEPT = "application/vnd.docker.plugins.v1.2+json"


class Said(NamedTuple):
    """A plugin's answer."""

    status: int
    document: Any


class Engine:
    """Calls of one plugin's socket, on one connection that is kept."""

    def __init__(self, socket: Path, kind: str, host: str = "plugin.moby.localhost") -> None:
        self._socket = socket
        self.kind = kind
        self._host = host
        self._connection: UnixConnection | None = None

    def raw(self, path: str, content: bytes, method: str = "POST") -> Said:
        """Whatever bytes; a lost connection is made anew, as engines do."""
        try:
            return self._exchange(path, content, method)
        except (OSError, http.client.HTTPException):
            self.close()
            return self._exchange(path, content, method)

    def _exchange(self, path: str, content: bytes, method: str) -> Said:
        if self._connection is None:
            self._connection = UnixConnection(self._socket)
        connection = self._connection
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", self._host)
        connection.putheader("User-Agent", "Go-http-client/1.1")
        connection.putheader("Content-Length", str(len(content)))
        connection.putheader("Accept", ACCEPT)
        connection.endheaders(content)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.getheader("Content-Type") == ACCEPT
        return Said(answer.status, json.loads(text))

    def say(self, method: str, body: Document | None = None) -> Said:
        """A call by its name."""
        content = b"" if body is None else json.dumps(body).encode()
        return self.raw(f"/{method if '.' in method else f'{self.kind}.{method}'}", content)

    def call(self, method: str, body: Document | None = None) -> Document:
        """A call that has to succeed."""
        said = self.say(method, body)
        assert said.status == 200, said
        assert "Err" not in said.document
        answer: Document = said.document
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def identity() -> str:
    """Of a network or an endpoint."""
    return secrets.token_hex(32)


def create_network(
    network_id: str, pool: str, gateway: str = "", more: Document | None = None
) -> Document:
    """As 28.0 and newer send it."""
    data = {"AddressSpace": "LocalDefault", "Pool": pool}
    if gateway:
        data["Gateway"] = gateway
    options: Document = {
        "com.docker.network.enable_ipv4": True,
        "com.docker.network.enable_ipv6": False,
        "com.docker.network.generic": {},
        **(more or {}),
    }
    return {"NetworkID": network_id, "Options": options, "IPv4Data": [data], "IPv6Data": []}


def create_endpoint(
    network_id: str, endpoint_id: str, address: str, more: Document | None = None
) -> Document:
    """With the ports' keys, as it is recorded."""
    return {
        "NetworkID": network_id,
        "EndpointID": endpoint_id,
        "Interface": {"Address": address, "AddressIPv6": "", "MacAddress": ""},
        "Options": {
            "com.docker.network.endpoint.exposedports": [{"Proto": 6, "Port": 70}],
            "com.docker.network.portmap": [],
            **(more or {}),
        },
    }


def move_in(host: str, source: str, netns: str, name: str, address: str) -> None:
    """What an engine does between Join and ProgramExternalConnectivity."""
    run("ip", "-n", host, "link", "set", source, "netns", netns, "name", name)
    run("ip", "-n", netns, "address", "add", address, "dev", name)
    run("ip", "-n", netns, "link", "set", name, "up")


def take_out(host: str, source: str, netns: str, name: str) -> None:
    """What an engine does between Leave and DeleteEndpoint."""
    run("ip", "-n", netns, "link", "set", name, "down")
    run("ip", "-n", netns, "link", "set", name, "netns", host, "name", source)
