"""MAC addresses of endpoints, for the drivers whose links have one of their own."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from cnm.errors import InvalidParameter
from cnm.types import EndpointID, EndpointInterface

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def parse_mac(text: str) -> str:
    """A MAC address that a port may have: six bytes, not a group's, not all zero.

    :raises InvalidParameter: it is none.
    """
    mac = text.lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise InvalidParameter(f'invalid MAC address "{text}"')
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise InvalidParameter(f'invalid MAC address "{text}": not an address of one interface')
    return mac


def complete(endpoint_id: EndpointID, interface: EndpointInterface) -> EndpointInterface:
    """The interface with a MAC address: the given one, or Docker's, ``02:42:<IPv4 address>``.

    Without an IPv4 address four bytes are drawn from the IPv6 address, or the endpoint's
    id: the same address keeps its MAC, and neighbours what they know.

    :raises InvalidParameter: the given one is none.
    """
    if interface.mac:
        return replace(interface, mac=parse_mac(interface.mac))
    if interface.address is not None:
        last = interface.address.ip.packed
    else:
        seed = interface.address_ipv6.ip.packed if interface.address_ipv6 else endpoint_id.encode()
        last = hashlib.blake2s(seed, digest_size=4).digest()
    return replace(interface, mac=f"02:42:{last.hex(':')}")
