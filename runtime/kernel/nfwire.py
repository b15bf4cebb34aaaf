"""A few nf_tables messages, packed by hand: for a small table in a namespace just made.

libnftables takes 0.9 ms to load four rules there, most of it for finding out that there is
nothing yet; this takes 0.15, and an attach takes 3 in all. Everything else goes through
:mod:`cnm.runtime.kernel.nft`, and tests read with nft what is written here.

Numbers are those of linux/netfilter/nf_tables.h; values travel in network byte order.
A socket of this family must not be closed in a hurry: after something was deleted, its close
waits 13 ms for RCU.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnm.errors import KernelError
from cnm.runtime.kernel.rtsocket import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    attributes,
    split_messages,
)

log = logging.getLogger(__name__)

INET, IPV4 = 1, 2  # families of tables: NFPROTO_INET, NFPROTO_IPV4
OUTPUT = 3  # NF_INET_LOCAL_OUT
RAW = -300  # NF_IP_PRI_RAW: before connection tracking
_ACCEPT = 1  # NF_ACCEPT

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _GET_TABLE, _DELETE_TABLE = _SUBSYSTEM, _SUBSYSTEM | 1, _SUBSYSTEM | 2
_NEW_CHAIN, _NEW_RULE, _GET_RULE = _SUBSYSTEM | 3, _SUBSYSTEM | 6, _SUBSYSTEM | 7
_NLM_F_APPEND = 0x800
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NESTED = 0x8000  # NLA_F_NESTED
_TYPE_MASK = 0x3FFF
_NETWORK, _TRANSPORT = 1, 2  # NFT_PAYLOAD_*_HEADER
_REGISTER = 1  # NFT_REG_1
_META_L4PROTO = 16
_CHECKSUM_INET = 1
_RULE_USERDATA = 7
_USERDATA_COMMENT = 0  # NFTNL_UDATA_RULE_COMMENT, what nft shows
_LONGEST_COMMENT = 126
_RECEIVE_BYTES = 1 << 16
_TIMEOUT_S = 20

_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct(">BBH")  # nfgenmsg: family, version, resource
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class WireRule:
    """Expressions, as the functions below make them, and the comment that nft shows."""

    expressions: tuple[bytes, ...]
    comment: str = ""


@dataclass(frozen=True, slots=True)
class WireTable:
    """A table of one base chain."""

    family: int
    name: str
    chain: str
    hook: int
    priority: int
    rules: tuple[WireRule, ...]


# expressions


def network_field_is(offset: int, value: bytes) -> tuple[bytes, ...]:
    """Bytes of the network header are these."""
    return _load(_NETWORK, offset, len(value)), _equals(value)


def transport_field_is(offset: int, value: bytes) -> tuple[bytes, ...]:
    """Bytes of the transport header are these; to be asked after :func:`protocol_is`."""
    return _load(_TRANSPORT, offset, len(value)), _equals(value)


def protocol_is(number: int) -> tuple[bytes, ...]:
    """The transport protocol."""
    key = _number(1, _REGISTER) + _number(2, _META_L4PROTO)
    return _expression("meta", key), _equals(bytes([number]))


def untracked() -> tuple[bytes, ...]:
    """Connection tracking does not see the packet."""
    return (_expression("notrack", b""),)


def set_transport_field(offset: int, value: bytes, *, checksum_at: int) -> tuple[bytes, ...]:
    """Write bytes of the transport header; its checksum is adapted."""
    write = (
        _number(5, _REGISTER)
        + _number(2, _TRANSPORT)
        + _number(3, offset)
        + _number(4, len(value))
        + _number(6, _CHECKSUM_INET)
        + _number(7, checksum_at)
    )
    immediate = _number(1, _REGISTER) + nest(2, attribute(1, value))
    return _expression("immediate", immediate), _expression("payload", write)


def _load(base: int, offset: int, length: int) -> bytes:
    place = _number(2, base) + _number(3, offset) + _number(4, length)
    return _expression("payload", _number(1, _REGISTER) + place)


def _equals(value: bytes) -> bytes:
    return _expression("cmp", _number(1, _REGISTER) + _number(2, 0) + nest(3, attribute(1, value)))


def _expression(name: str, data: bytes) -> bytes:
    return nest(1, text(1, name) + nest(2, data))


# transactions, in the namespace of the calling thread


def add(table: WireTable) -> None:
    """Make a table that is not there. :raises KernelError: EEXIST: it is there."""
    first, *rest = _added(table)
    _commit([_with_flags(first, NLM_F_EXCL), *rest], f"adding nft table {table.name}")


def replace(table: WireTable) -> None:
    """Make the table be exactly this, in one transaction. :raises KernelError:"""
    _commit([*_deleted(table.family, table.name), *_added(table)], f"nft table {table.name}")


def delete(family: int, name: str) -> None:
    """Remove a table. Gone is success. :raises KernelError:"""
    _commit(_deleted(family, name), f"deleting nft table {name}")


def exists(family: int, name: str) -> bool:
    """Whether there is such a table. :raises KernelError:"""
    return bool(_ask(message(_GET_TABLE, NLM_F_REQUEST, family, text(1, name)), "nft table"))


def comments(table: WireTable) -> list[str]:
    """The comments of the rules that its chain has; empty if there is no such chain.

    :raises KernelError: this kernel has no nftables, …
    """
    body = text(1, table.name) + text(2, table.chain)
    request = message(_GET_RULE, NLM_F_REQUEST | NLM_F_DUMP, table.family, body)
    return [_comment(rule[_GENERIC.size :]) for rule in _ask(request, "listing nft rules")]


def _ask(request: bytes, what: str) -> list[memoryview]:
    """Bodies of the messages that answer a request, none if there is no such thing."""
    several = bool(_HEADER.unpack_from(request)[2] & NLM_F_DUMP)
    found: list[memoryview] = []
    try:
        with opened() as link:
            link.send(request)
            for kind, _, content in _answers(link):
                if kind == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", content)
                    raise OSError(-code, what)
                if kind != _NLMSG_DONE:
                    found.append(content)
                if kind == _NLMSG_DONE or not several:
                    break
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise KernelError(error.errno or errno.EIO, what) from error
    return found


def _added(table: WireTable) -> list[bytes]:
    create = NLM_F_REQUEST | NLM_F_CREATE
    hook = _number(1, table.hook) + attribute(2, struct.pack(">i", table.priority))
    chain = text(1, table.name) + text(3, table.chain) + nest(4, hook)
    chain += _number(5, _ACCEPT) + text(7, "filter")
    messages = [
        message(_NEW_TABLE, create, table.family, text(1, table.name)),
        message(_NEW_CHAIN, create, table.family, chain),
    ]
    for rule in table.rules:
        body = text(1, table.name) + text(2, table.chain) + nest(4, b"".join(rule.expressions))
        if rule.comment:
            body += attribute(_RULE_USERDATA, _userdata(rule.comment))
        messages.append(message(_NEW_RULE, create | _NLM_F_APPEND, table.family, body))
    return messages


def _deleted(family: int, name: str) -> list[bytes]:
    body = text(1, name)  # made first, so that there is one to delete
    return [
        message(_NEW_TABLE, NLM_F_REQUEST | NLM_F_CREATE, family, body),
        message(_DELETE_TABLE, NLM_F_REQUEST, family, body),
    ]


def _commit(messages: Sequence[bytes], what: str) -> None:
    log.debug("kernel: %s", what)
    try:
        with opened() as link:
            commit_by(link, messages, what)
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, what) from error


def commit_by(link: socket.socket, messages: Sequence[bytes], what: str) -> None:
    """One transaction. :raises OSError: it is refused; more may come that is about it."""
    marker = _GENERIC.pack(0, 0, _SUBSYSTEM >> 8)
    batch = [_raw(_BATCH_BEGIN, NLM_F_REQUEST, marker), *messages]
    last = len(batch)  # every refusal is told, success only of the last one
    batch[-1] = _with_flags(batch[-1], NLM_F_ACK)
    batch.append(_raw(_BATCH_END, NLM_F_REQUEST, marker))
    numbered = [_with_sequence(message, number) for number, message in enumerate(batch, 1)]
    link.send(b"".join(numbered))
    for kind, sequence, content in _answers(link):
        if kind != _NLMSG_ERROR:
            continue
        (code,) = struct.unpack_from("=i", content)
        if code:
            raise OSError(-code, what)
        if sequence == last:
            return


def opened() -> socket.socket:
    """To be asked by :func:`commit_by`, in the namespace of the calling thread."""
    link = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
    )
    link.settimeout(_TIMEOUT_S)
    return link


def _answers(link: socket.socket) -> Iterator[tuple[int, int, memoryview]]:
    """Until the caller has heard enough, or nothing comes any more (a time-out: OSError)."""
    while True:
        for kind, _, sequence, body in split_messages(memoryview(link.recv(_RECEIVE_BYTES))):
            yield kind, sequence, body


def _comment(rule: memoryview) -> str:
    for kind, value in attributes(rule):
        if kind & _TYPE_MASK == _RULE_USERDATA:
            data = bytes(value)
            if len(data) > 2 and data[0] == _USERDATA_COMMENT:
                return data[2 : 2 + data[1]].rstrip(b"\0").decode(errors="replace")
    return ""


# packing


def _raw(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def message(kind: int, flags: int, family: int, body: bytes) -> bytes:
    """``kind``: of nf_tables' own."""
    return _raw(kind, flags, _GENERIC.pack(family, 0, 0) + body)


def _with_flags(message: bytes, more: int) -> bytes:
    length, kind, flags, sequence, port = _HEADER.unpack_from(message)
    return _HEADER.pack(length, kind, flags | more, sequence, port) + message[_HEADER.size :]


def _with_sequence(message: bytes, number: int) -> bytes:
    length, kind, flags, _, port = _HEADER.unpack_from(message)
    return _HEADER.pack(length, kind, flags, number, port) + message[_HEADER.size :]


def attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute."""
    padding = -len(value) % 4
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(padding)


def nest(kind: int, body: bytes) -> bytes:
    """One made of others."""
    return attribute(kind | _NESTED, body)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def text(kind: int, value: str) -> bytes:
    """A name."""
    return attribute(kind, value.encode() + b"\0")


def _userdata(comment: str) -> bytes:
    text = comment.encode()[:_LONGEST_COMMENT] + b"\0"
    return bytes([_USERDATA_COMMENT, len(text)]) + text
