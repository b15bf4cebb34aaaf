"""Marks: how we tell what is ours in the kernel from what is not.

Every link that we make carries an interface alias: ``cnm:network:<id>`` or
``cnm:endpoint:<id>`` in the daemon's own namespace, ``cnm:inside:<id>`` on the end that
lies in a container. The last has a word of its own so that a daemon which itself runs
in an adopted namespace does not take that end for one of its own.
"""

from __future__ import annotations

import re

from cnm.runtime.kernel.netlink import Link, Netlink
from cnm.types import EndpointID, NetworkID

NETWORK = "network"
ENDPOINT = "endpoint"
INSIDE = "inside"

_MARK = re.compile(r"cnm:(network|endpoint|inside):([0-9a-f]{64})")


def network_mark(network_id: NetworkID) -> str:
    """Alias of a network's own link, such as its bridge."""
    return f"cnm:{NETWORK}:{network_id}"


def endpoint_mark(endpoint_id: EndpointID) -> str:
    """Alias of an endpoint's link on the host's side."""
    return f"cnm:{ENDPOINT}:{endpoint_id}"


def inside_mark(endpoint_id: EndpointID) -> str:
    """Alias of an endpoint's link inside a container."""
    return f"cnm:{INSIDE}:{endpoint_id}"


def parse(alias: str) -> tuple[str, str] | None:
    """(``network``, ``endpoint`` or ``inside``; id), or ``None``: not a mark of ours."""
    found = _MARK.fullmatch(alias)
    return (found[1], found[2]) if found else None


def owned_links(netlink: Netlink) -> list[tuple[Link, str, str]]:
    """Links that carry a mark of ours, each with the mark's kind and id."""
    marked = ((link, parse(link.alias)) for link in netlink.links())
    return [(link, *mark) for link, mark in marked if mark is not None]
