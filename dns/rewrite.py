"""Port 53 of 127.0.0.11 inside a sandbox, without anybody listening there. Pure.

Four rules before connection tracking: what the container sends to port 53 of that address
goes to the sockets that we bound to ports of the kernel's choice, and what these answer seems
to come from port 53. So the container's own server can have ``0.0.0.0:53``, and no tracked
connection is spent on a query (204-252,000 q/s; DNAT 181-199,000).
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

from cnm.runtime.kernel import nfwire
from cnm.runtime.kernel.nfwire import WireRule, WireTable

RESOLVER = ipaddress.IPv4Address("127.0.0.11")  # Docker's
TABLE = "cnm-dns"

_PORT = 53
_SOURCE_ADDRESS, _DESTINATION_ADDRESS = 12, 16  # of the IPv4 header
_SOURCE_PORT, _DESTINATION_PORT = 0, 2  # of UDP's and TCP's header


class _Transport(NamedTuple):
    name: str
    number: int
    checksum_at: int


_UDP, _TCP = _Transport("udp", 17, 6), _Transport("tcp", 6, 16)


def table(udp_port: int, tcp_port: int) -> WireTable:
    """The table for sockets that are bound to these ports."""
    rules = (
        _query(_UDP, udp_port),
        _query(_TCP, tcp_port),
        _answer(_UDP, udp_port),
        _answer(_TCP, tcp_port),
    )
    return WireTable(nfwire.IPV4, TABLE, "rewrite", nfwire.OUTPUT, nfwire.RAW, rules)


def _query(transport: _Transport, port: int) -> WireRule:
    return WireRule(
        (
            *nfwire.network_field_is(_DESTINATION_ADDRESS, RESOLVER.packed),
            *nfwire.protocol_is(transport.number),
            *nfwire.transport_field_is(_DESTINATION_PORT, _packed(_PORT)),
            *nfwire.untracked(),
            *nfwire.set_transport_field(
                _DESTINATION_PORT, _packed(port), checksum_at=transport.checksum_at
            ),
        ),
        f"{transport.name} queries to the resolver at {port}",
    )


def _answer(transport: _Transport, port: int) -> WireRule:
    return WireRule(
        (
            *nfwire.network_field_is(_SOURCE_ADDRESS, RESOLVER.packed),
            *nfwire.protocol_is(transport.number),
            *nfwire.transport_field_is(_SOURCE_PORT, _packed(port)),
            *nfwire.untracked(),
            *nfwire.set_transport_field(
                _SOURCE_PORT, _packed(_PORT), checksum_at=transport.checksum_at
            ),
        ),
        f"{transport.name} answers of the resolver at {port}",
    )


def _packed(port: int) -> bytes:
    return struct.pack(">H", port)
