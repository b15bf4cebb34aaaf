"""What daemon and resolver say to one another: JSON objects, by :mod:`cnm.runtime.kernel.packets`.

A client sends ``{"ask": NAME, …}`` and gets ``{"done": …}`` or ``{"failed": …}``. All requests
set a state ("this is the view of that sandbox"), none changes one by steps, so that each may
be repeated. Both sides make digests of what they hold; comparing these is how a message that was
lost is found. ``hello``, ``take`` and ``retire`` never change their form: by them a newer daemon
takes the sockets from an older resolver.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Any

import cnm
from cnm.discovery import NamedEndpoint, NameLink, NetworkNames, SandboxView
from cnm.ids import EndpointID, NetworkID
from cnm.runtime.kernel.resident import Place

try:
    from _blake2 import blake2b  # what hashlib hands out, without half a megabyte of OpenSSL
except ImportError:
    from hashlib import blake2b

MODULE = "cnm.dns.server"
PROTOCOL = 2  # one more with each change of what is said; others are replaced
TOGETHER = "together"  # asks for several that are short, by their own requests
HOST = ""  # the id under which the listener for the host is held
TAKEN_AT_ONCE = 8  # sandboxes: two descriptors each, and a message carries 16

Document = dict[str, Any]


def place(exec_root: str) -> Place:
    """Where the resolver of a daemon is found."""
    return Place(exec_root, "dns")


def greeting() -> Document:
    """What the resolver says of itself."""
    return {"protocol": PROTOCOL, "version": cnm.__version__}


def endpoint_document(endpoint: NamedEndpoint) -> Document:
    return {
        "id": endpoint.endpoint_id,
        "names": list(endpoint.names),
        "addresses": [str(address) for address in endpoint.addresses],
    }


def read_endpoint(document: Mapping[str, Any]) -> NamedEndpoint:
    return NamedEndpoint(
        EndpointID(document["id"]),
        tuple(document["names"]),
        tuple(ipaddress.ip_address(text) for text in document["addresses"]),
    )


def names_document(names: NetworkNames) -> Document:
    return {
        "id": names.network_id,
        "name": names.name,
        "endpoints": [endpoint_document(endpoint) for endpoint in names.endpoints],
    }


def read_names(document: Mapping[str, Any]) -> NetworkNames:
    return NetworkNames(
        NetworkID(document["id"]),
        document["name"],
        tuple(read_endpoint(item) for item in document["endpoints"]),
    )


def view_document(view: SandboxView) -> Document:
    return {
        "networks": list(view.networks),
        "links": [[link.alias, link.network_id, link.name] for link in view.links],
        "servers": [str(address) for address in view.servers],
        "forward": view.forward,
    }


def read_view(document: Mapping[str, Any]) -> SandboxView:
    return SandboxView(
        tuple(NetworkID(item) for item in document["networks"]),
        tuple(
            NameLink(alias, NetworkID(network), name) for alias, network, name in document["links"]
        ),
        tuple(ipaddress.ip_address(text) for text in document["servers"]),
        document["forward"],
    )


# digests


def endpoint_digest(endpoint: NamedEndpoint) -> int:
    """64 bits of what is known of an endpoint."""
    return _digest(endpoint_document(endpoint))


def names_digest(name: str, endpoints: Iterable[int]) -> str:
    """Of a network: its name and the digests of its endpoints, in whatever order."""
    found = _digest(name)
    for digest in endpoints:
        found ^= digest
    return f"{found:016x}"


def view_digest(view: SandboxView) -> str:
    """Of a sandbox's view."""
    return f"{_digest(view_document(view)):016x}"


def _digest(value: object) -> int:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
