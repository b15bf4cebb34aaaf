"""Entries of connection tracking: listed and removed, over ctnetlink.

Numbers are those of linux/netfilter/nfnetlink_conntrack.h; values travel in network byte order.
The kernel filters a list by protocol where it can (CTA_FILTER, Linux 5.8); an older one sends
everything, and what does not match is left out here.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from cnm.errors import KernelError
from cnm.runtime.kernel.rtsocket import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    attributes,
    split_messages,
)
from cnm.types import IPAddress

log = logging.getLogger(__name__)

_NETLINK_NETFILTER = 12
_GET, _DELETE = (1 << 8) | 1, (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TUPLE_ORIGINAL, _TUPLE_REPLY, _STATUS, _FILTER = 1, 2, 3, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUMBER, _PROTO_SOURCE, _PROTO_DESTINATION = 1, 2, 3
_FILTER_ORIGINAL, _FILTER_REPLY = 1, 2
_BY_PROTOCOL = 1 << 3  # CTA_FILTER_FLAG(CTA_FILTER_F_CTA_PROTO_NUM)
_NESTED = 0x8000
_DST_NAT = 1 << 5  # IPS_DST_NAT
_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct(">BBH")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE_BYTES = 1 << 16
_TIMEOUT_S = 20
_DUMP_ATTEMPTS = 3

PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_NAMES = {number: name for name, number in PROTOCOLS.items()}
_FAMILIES = {0: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}
_COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"  # of the namespace of who opens it
_FEW = 2000

Kind = tuple[str, int]  # protocol and IP version


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection as its first packet was, and where answers come from."""

    protocol: str
    source: IPAddress
    source_port: int
    destination: IPAddress
    destination_port: int
    answered_by: IPAddress
    answered_from: int
    translated: bool  # its destination was changed
    original: bytes = b""  # the tuple as the kernel wrote it

    @property
    def kind(self) -> Kind:
        return self.protocol, self.source.version

    def __str__(self) -> str:
        return (
            f"{self.protocol} {self.source}:{self.source_port} -> "
            f"{self.destination}:{self.destination_port}"
        )


def flows(kinds: Collection[Kind]) -> list[Flow]:
    """All of these protocols and families, in the namespace of the calling thread.

    Each list is a walk through the kernel's whole table, 40 ms for 262,144 buckets, whatever is
    found: so one for all where entries are few, and none where there are none.

    :raises KernelError: no right to ask. A kernel without connection tracking has none.
    """
    wanted = [kind for kind in dict.fromkeys(kinds) if kind[0] in PROTOCOLS]
    entries = _count()
    if not entries or not wanted:
        return []
    if len(wanted) > 1 and entries <= _FEW:
        return [flow for flow in _listed(None) if flow.kind in wanted]
    return [flow for kind in wanted for flow in _listed(kind)]


def remove(kinds: Collection[Kind], chosen: Callable[[Flow], bool]) -> list[Flow]:
    """Forget those that are chosen; the next packet of each begins anew. Which they were.

    :raises KernelError:
    """
    found = [flow for flow in flows(kinds) if chosen(flow)]
    if found:
        what = f"removing {len(found)} connections"
        log.debug("kernel: %s", what)
        with _opened(what) as link:
            for flow in found:
                _delete(link, flow, what)
    return found


def _count() -> int:
    try:
        with open(_COUNT, encoding="ascii") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0


def _listed(kind: Kind | None) -> list[Flow]:
    """Of one protocol and family; or all there are."""
    what = f"listing {kind[0] if kind else 'all'} connections"
    for _ in range(_DUMP_ATTEMPTS):
        try:
            return list(_dumped(kind, what))
        except KernelError as error:
            if error.errno != errno.EINTR:
                raise
    raise KernelError(errno.EINTR, what, "the list kept changing while it was read")


def _dumped(kind: Kind | None, what: str) -> Iterator[Flow]:
    body, version = b"", 0
    if kind is not None:
        number, version = PROTOCOLS[kind[0]], kind[1]
        tuple_ = _nest(_TUPLE_PROTO, _attribute(_PROTO_NUMBER, bytes([number])))
        filtered = _attribute(_FILTER_ORIGINAL, struct.pack("=I", _BY_PROTOCOL))
        filtered += _attribute(_FILTER_REPLY, struct.pack("=I", 0))
        body = _nest(_TUPLE_ORIGINAL, tuple_) + _nest(_FILTER, filtered)
    try:
        with _opened(what) as link:
            link.send(_message(_GET, NLM_F_REQUEST | NLM_F_DUMP, version, body))
            for answer, flags, content in _answers(link):
                if flags & NLM_F_DUMP_INTR:
                    raise KernelError(errno.EINTR, what)
                if answer == _NLMSG_DONE:
                    return
                if answer == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", content)
                    raise KernelError(-code, what)
                flow = _flow(content[_GENERIC.size :])
                if flow is not None and kind in (None, flow.kind):
                    yield flow
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, what) from error


def _delete(link: socket.socket, flow: Flow, what: str) -> None:
    body = _nest(_TUPLE_ORIGINAL, flow.original)
    try:
        link.send(_message(_DELETE, NLM_F_REQUEST | NLM_F_ACK, flow.kind[1], body))
        for kind, _, content in _answers(link):
            if kind == _NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", content)
                if code and -code != errno.ENOENT:  # it has just ended
                    raise KernelError(-code, what)
                return
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, what) from error


def _flow(body: memoryview) -> Flow | None:
    found = dict(attributes(body))
    original, reply = found.get(_TUPLE_ORIGINAL), found.get(_TUPLE_REPLY)
    if original is None or reply is None:
        return None
    first, back = _tuple(original), _tuple(reply)
    if first is None or back is None or first[0] not in _NAMES:
        return None
    number, source, source_port, destination, destination_port = first
    status = int.from_bytes(found.get(_STATUS, b""), "big")
    return Flow(
        _NAMES[number],
        source,
        source_port,
        destination,
        destination_port,
        back[1],
        back[2],
        bool(status & _DST_NAT),
        bytes(original),
    )


def _tuple(body: memoryview) -> tuple[int, IPAddress, int, IPAddress, int] | None:
    parts = dict(attributes(body))
    if _TUPLE_IP not in parts or _TUPLE_PROTO not in parts:
        return None
    addresses = sorted(attributes(parts[_TUPLE_IP]), key=lambda item: item[0])
    proto = {kind: bytes(value) for kind, value in attributes(parts[_TUPLE_PROTO])}
    if len(addresses) != 2 or _PROTO_SOURCE not in proto:
        return None
    source, destination = (_address(bytes(value)) for _, value in addresses)  # source first
    return (
        proto[_PROTO_NUMBER][0],
        source,
        int.from_bytes(proto[_PROTO_SOURCE], "big"),
        destination,
        int.from_bytes(proto[_PROTO_DESTINATION], "big"),
    )


def _address(raw: bytes) -> IPAddress:
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)


def _opened(what: str) -> socket.socket:
    try:
        link = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
        )
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, what) from error
    link.settimeout(_TIMEOUT_S)
    return link


def _answers(link: socket.socket) -> Iterator[tuple[int, int, memoryview]]:
    while True:
        for kind, flags, _, body in split_messages(memoryview(link.recv(_RECEIVE_BYTES))):
            yield kind, flags, body


def _message(kind: int, flags: int, version: int, body: bytes) -> bytes:
    content = _GENERIC.pack(_FAMILIES[version], 0, 0) + body
    return _HEADER.pack(_HEADER.size + len(content), kind, flags, 1, 0) + content


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _nest(kind: int, body: bytes) -> bytes:
    return _attribute(kind | _NESTED, body)
