"""Elements of hash sets and maps, packed by hand: what publishing a port changes.

libnftables takes 16 µs for the text of an element and the kernel 3, and fifty ports are a
hundred elements. What cannot be packed here (intervals, names of interfaces, a batch that is
long) goes through libnftables; tests read with nft what is written here.

Numbers are those of linux/netfilter/nf_tables.h; parts of a key are padded to four bytes.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from cnm.errors import KernelError
from cnm.runtime.kernel import nfwire
from cnm.runtime.kernel.nfttext import Batch, Change, Map, Set
from cnm.runtime.kernel.rtsocket import NLM_F_CREATE, NLM_F_REQUEST

_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_NEW_ELEMENTS, _DELETE_ELEMENTS = _SUBSYSTEM | 12, _SUBSYSTEM | 14
_FAMILIES = {"inet": nfwire.INET, "ip": nfwire.IPV4}
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_TABLE, _SET, _ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_ELEMENT, _KEY, _DATA, _VALUE = 1, 1, 2, 1  # NFTA_LIST_ELEM, NFTA_SET_ELEM_*, NFTA_DATA_VALUE
_AT_ONCE = 500  # in a message: a list's length has sixteen bits, an element up to 68 bytes
_MOST = 1000  # in a transaction: all of it has to fit into a socket's buffer

_PACKERS: dict[str, Callable[[str], bytes]] = {
    "inet_proto": lambda text: bytes((_PROTOCOLS[text], 0, 0, 0)),
    "inet_service": lambda text: int(text).to_bytes(2, "big") + b"\0\0",
    "ipv4_addr": lambda text: socket.inet_pton(socket.AF_INET, text),
    "ipv6_addr": lambda text: socket.inet_pton(socket.AF_INET6, text),
}
_WIDTHS = {"inet_proto": 4, "inet_service": 4, "ipv4_addr": 4, "ipv6_addr": 16}
_DOT = " . "


def is_packable(kind: Set | Map) -> bool:
    """Whether elements of such a set or map can be packed here."""
    value = kind.value if isinstance(kind, Map) else ()
    return not kind.flags and all(_has_form(types) for types in (kind.key, value))


def _has_form(types: Sequence[str]) -> bool:
    """What stands alone is not padded: an address needs no padding, a port would."""
    known = all(name in _PACKERS for name in types)
    return known and (len(types) != 1 or types[0] in ("ipv4_addr", "ipv6_addr"))


def packed(batch: Batch) -> list[bytes] | None:
    """The messages of a batch; nothing if not all of it can be packed."""
    family = _FAMILIES.get(batch.family)
    if family is None or not 0 < len(batch.changes) <= _MOST:
        return None
    messages: list[bytes] = []
    for (add, name), run in groupby(batch.changes, lambda change: (change.add, change.name)):
        kind = batch.kinds.get(name)
        if kind is None or not is_packable(kind):
            return None
        changes, frame = list(run), _Frame(kind)
        try:
            comes = [frame.full(change) for change in changes]
            goes = [] if add else [frame.bare(change) for change in changes]
        except (ValueError, KeyError, OSError, OverflowError):  # what is wrong with it nft says
            return None
        # As a batch's text: added first even to be deleted, so that it may be missing.
        place = nfwire.text(_TABLE, batch.table) + nfwire.text(_SET, name)
        messages += _messages(_NEW_ELEMENTS, NLM_F_REQUEST | NLM_F_CREATE, family, place, comes)
        messages += _messages(_DELETE_ELEMENTS, NLM_F_REQUEST, family, place, goes)
    return messages


class Elements:
    """Commits packed batches, by one socket of the namespace of the thread that comes first.

    Closing such a socket after elements were deleted waits 13 ms for RCU.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._link: socket.socket | None = None

    def commit(self, messages: Sequence[bytes], what: str) -> None:
        """One transaction. :raises KernelError: nothing was changed."""
        with self._lock:
            try:
                if self._link is None:
                    self._link = nfwire.opened()
                nfwire.commit_by(self._link, messages, what)
            except BaseException as error:  # what comes late must not answer the next one
                self._close()
                if isinstance(error, OSError):
                    raise KernelError(error.errno or errno.EIO, what) from error
                raise

    def close(self) -> None:
        """Again is fine."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


class _Frame:
    """Elements of one set or map: what they have in common is made once."""

    def __init__(self, kind: Set | Map) -> None:
        self._key = kind.key
        self._value = kind.value if isinstance(kind, Map) else ()
        self._heads: dict[str, bytes] = {}  # all but the last part of a key
        self._values: dict[str, bytes] = {}
        self._last = _PACKERS[kind.key[-1]]
        nothing = bytes(sum(map(_WIDTHS.__getitem__, kind.key)))
        key = nfwire.nest(_KEY, nfwire.attribute(_VALUE, nothing))
        self._bare = nfwire.nest(_ELEMENT, key)[: -len(nothing)]
        values = bytes(sum(map(_WIDTHS.__getitem__, self._value)))
        data = nfwire.nest(_DATA, nfwire.attribute(_VALUE, values)) if values else b""
        self._full = nfwire.nest(_ELEMENT, key + data)[: len(self._bare)]
        self._between = data[: len(data) - len(values)]

    def key(self, text: str) -> bytes:
        before, _, last = text.rpartition(_DOT)
        head = self._heads.get(before)
        if head is None:
            head = self._heads[before] = _concatenated(self._key[:-1], before)
        return head + self._last(last)

    def value(self, text: str) -> bytes:
        found = self._values.get(text)
        if found is None:
            found = self._values[text] = _concatenated(self._value, text)
        return found

    def bare(self, change: Change) -> bytes:
        """An element that goes."""
        return self._bare + self.key(change.key)

    def full(self, change: Change) -> bytes:
        """An element that comes."""
        value = self.value(change.value or "")
        return self._full + self.key(change.key) + self._between + value


def _concatenated(types: Sequence[str], text: str) -> bytes:
    parts = zip(types, text.split(_DOT) if text else (), strict=True)
    return b"".join([_PACKERS[name](part) for name, part in parts])


def _messages(
    kind: int, flags: int, family: int, place: bytes, elements: Sequence[bytes]
) -> Iterator[bytes]:
    for first in range(0, len(elements), _AT_ONCE):
        some = nfwire.nest(_ELEMENTS, b"".join(elements[first : first + _AT_ONCE]))
        yield nfwire.message(kind, flags, family, place + some)
