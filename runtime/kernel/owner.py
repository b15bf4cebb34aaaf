"""Our mark: how a link says that it is ours, and whose.

An interface alias (ip-link(8)) of the form ``cnm:<kind>:<64 hex digits>``. ``network``
and ``endpoint`` are on links in the daemon's own namespace; ``inside`` is on the
container's end of a pair, so that a daemon that runs inside an adopted namespace does
not take that link for an orphan of its own.
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
    """The alias of a network's device."""
    return f"cnm:{NETWORK}:{network_id}"


def endpoint_mark(endpoint_id: EndpointID) -> str:
    """The alias of the host's end of an endpoint's link."""
    return f"cnm:{ENDPOINT}:{endpoint_id}"


def inside_mark(endpoint_id: EndpointID) -> str:
    """The alias of the container's end of an endpoint's link."""
    return f"cnm:{INSIDE}:{endpoint_id}"


def inside_group(endpoint_id: EndpointID) -> int:
    """The group that a link of an endpoint is made with, where no alias can be given at once.

    Upper half of the numbers, which nobody picks by hand; the kernel keeps it through moves.
    """
    return 1 << 31 | int(endpoint_id[:8], 16) >> 1


def parse(alias: str) -> tuple[str, str] | None:
    """(kind, id) of a mark; ``None`` if the alias is not one of ours."""
    match = _MARK.fullmatch(alias)
    return (match[1], match[2]) if match else None


def owned_links(netlink: Netlink) -> list[tuple[Link, str, str]]:
    """Every link of a namespace that carries a network's or endpoint's mark: (link, kind, id)."""
    found = []
    for link in netlink.links():
        mark = parse(link.alias)
        if mark is not None and mark[0] != INSIDE:
            found.append((link, *mark))
    return found
