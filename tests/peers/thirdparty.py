"""A network and IPAM plugin of somebody else, written from the protocol's text alone.

Veth pairs on a bridge of its own, addresses counted upwards. It keeps what it was told, says
afterwards what it was asked, and can be made to hang, to lie and to die.
"""

from __future__ import annotations

import http.server
import ipaddress
import json
import os
import socketserver
import ssl
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Document = dict[str, Any]

GATEWAY = "com.docker.network.gateway"


class ThirdParty:
    """One plugin at ``NAME.sock``, working in a network namespace; ``with`` serves it."""

    def __init__(self, folder: Path, name: str, netns: str) -> None:
        self.name = name
        self.socket = folder / f"{name}.sock"
        self.calls: list[str] = []
        self.lies: dict[str, object] = {}  # method -> what it answers instead of the truth
        self.hangs: set[str] = set()
        self.networks: dict[str, Document] = {}
        self.endpoints: dict[str, Document] = {}
        self.joined: set[str] = set()
        self.pools: dict[str, set[str]] = {}
        self.prefix = "third"
        self._netns = netns
        self._released = threading.Event()
        self._server: _UnixServer | _TlsServer | None = None

    def __enter__(self) -> Self:
        self.serve()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.die()

    def serve(self) -> None:
        """Listen, and show the socket."""
        self._serve_by(_UnixServer(str(self.socket), self))

    def serve_tls(self, context: ssl.SSLContext) -> int:
        """Listen on the loopback interface of the calling thread's namespace; the port."""
        server = _TlsServer(context, self)
        self._serve_by(server)
        return int(server.server_address[1])

    def _serve_by(self, server: _UnixServer | _TlsServer) -> None:
        self._released.clear()
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def die(self) -> None:
        """Gone, with its socket."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.socket.unlink(missing_ok=True)

    def holds(self) -> Document:
        """All that it believes there is."""
        return {
            "networks": set(self.networks),
            "endpoints": set(self.endpoints),
            "joined": self.joined,
            "pools": self.pools,
        }

    def answer(self, method: str, body: Document) -> tuple[int, bytes]:
        self.calls.append(method.partition(".")[2])
        if method in self.hangs:
            self._released.wait()
            return 500, b'{"Err": "I was stuck"}'
        lie = self.lies.get(method)
        if isinstance(lie, bytes):
            return 200, lie
        if isinstance(lie, tuple):
            return lie[0], json.dumps(lie[1]).encode()
        call = getattr(self, "_" + method.replace(".", "_"), None)
        if call is None:
            return 404, b'{"Err": "no such call"}'
        told = call(body)
        return 200, json.dumps(told if lie is None else lie).encode()

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", "-n", self._netns, *words], check=True, capture_output=True)

    def _Plugin_Activate(self, body: Document) -> Document:
        return {"Implements": ["NetworkDriver", "IpamDriver"]}

    def _NetworkDriver_GetCapabilities(self, body: Document) -> Document:
        return {"Scope": "local"}

    def _NetworkDriver_CreateNetwork(self, body: Document) -> Document:
        self.networks[body["NetworkID"]] = body
        bridge = _bridge(body["NetworkID"])
        self._ip("link", "add", bridge, "type", "bridge")
        for data in body["IPv4Data"]:
            self._ip("address", "add", data["Gateway"], "dev", bridge)
        self._ip("link", "set", bridge, "up")
        return {}

    def _NetworkDriver_DeleteNetwork(self, body: Document) -> Document:
        if self.networks.pop(body["NetworkID"], None):
            self._ip("link", "delete", _bridge(body["NetworkID"]))
        return {}

    def _NetworkDriver_CreateEndpoint(self, body: Document) -> Document:
        self.endpoints[body["EndpointID"]] = body
        return {"Interface": {"MacAddress": "02:33:44:" + _pairs(body["EndpointID"])}}

    def _NetworkDriver_Join(self, body: Document) -> Document:
        identity = body["EndpointID"]
        outside, inside = f"tp{identity[:7]}", f"tq{identity[:7]}"
        self._ip("link", "add", outside, "type", "veth", "peer", "name", inside)
        self._ip("link", "set", outside, "master", _bridge(body["NetworkID"]), "up")
        self.joined.add(identity)
        gateway = self.networks[body["NetworkID"]]["IPv4Data"][0]["Gateway"].partition("/")[0]
        return {
            "InterfaceName": {"SrcName": inside, "DstPrefix": self.prefix},
            "Gateway": gateway,
            "StaticRoutes": [{"Destination": "10.98.0.0/16", "RouteType": 0, "NextHop": gateway}],
        }

    def _NetworkDriver_Leave(self, body: Document) -> Document:
        self.joined.discard(body["EndpointID"])
        return {}

    def _NetworkDriver_DeleteEndpoint(self, body: Document) -> Document:
        identity = body["EndpointID"]
        if self.endpoints.pop(identity, None):
            subprocess.run(
                ["ip", "-n", self._netns, "link", "delete", f"tp{identity[:7]}"],
                check=False,
                capture_output=True,
            )
        return {}

    def _NetworkDriver_EndpointOperInfo(self, body: Document) -> Document:
        return {"Value": {}}

    def _IpamDriver_GetDefaultAddressSpaces(self, body: Document) -> Document:
        return {"LocalDefaultAddressSpace": "here", "GlobalDefaultAddressSpace": "there"}

    def _IpamDriver_RequestPool(self, body: Document) -> Document:
        pool = body["Pool"] or f"10.88.{len(self.pools)}.0/24"
        self.pools[f"{body['AddressSpace']}/{pool}"] = set()
        return {"PoolID": f"{body['AddressSpace']}/{pool}", "Pool": pool, "Data": {}}

    def _IpamDriver_ReleasePool(self, body: Document) -> Document:
        self.pools.pop(body["PoolID"], None)
        return {}

    def _IpamDriver_RequestAddress(self, body: Document) -> Document:
        pool = ipaddress.ip_network(body["PoolID"].partition("/")[2])
        taken = self.pools[body["PoolID"]]
        free = (str(host) for host in pool.hosts() if str(host) not in taken)
        address = body["Address"] or next(free)
        taken.add(address)
        return {"Address": f"{address}/{pool.prefixlen}", "Data": {}}

    def _IpamDriver_ReleaseAddress(self, body: Document) -> Document:
        self.pools.get(body["PoolID"], set()).discard(body["Address"])
        return {}


class _Threaded(socketserver.ThreadingMixIn):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that has lost patience is no error of the plugin's."""


class _UnixServer(_Threaded, socketserver.UnixStreamServer):
    def __init__(self, path: str, plugin: ThirdParty) -> None:
        self.plugin = plugin
        hidden = f"{path}.{os.getpid()}"
        super().__init__(hidden, _Handler)
        os.rename(hidden, path)


class _TlsServer(_Threaded, socketserver.TCPServer):
    def __init__(self, context: ssl.SSLContext, plugin: ThirdParty) -> None:
        self.plugin = plugin
        super().__init__(("127.0.0.1", 0), _Handler)
        self.socket = context.wrap_socket(self.socket, server_side=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _UnixServer | _TlsServer

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        status, text = self.server.plugin.answer(self.path.lstrip("/"), body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def address_string(self) -> str:
        return "engine"


def _bridge(network_id: str) -> str:
    return f"tpbr{network_id[:8]}"


def _pairs(identity: str) -> str:
    return ":".join(identity[at : at + 2] for at in (0, 2, 4))
