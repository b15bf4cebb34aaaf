"""Word of every change of the namespace's nftables rules that somebody else makes.

The kernel ends each transaction with its generation and the thread that made it (``nft monitor``
calls it a process; nf_tables_fill_gen_info puts task_pid_nr); iptables of the nft kind is told of
as well. Several changes in a row, as when a firewall is loaded again, are told once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable

from cnm.runtime.kernel import bpf
from cnm.runtime.kernel.rtsocket import attributes, split_messages

log = logging.getLogger(__name__)

_NETLINK_NETFILTER = 12
_GROUP = 1 << 6  # NFNLGRP_NFTABLES is the seventh
_NEW_GENERATION = (10 << 8) | 15  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN
# Of a hundred ports that are published there are a hundred messages before that one, in datagrams
# of their own: these do not even wake us.
_FILTER = (
    (bpf.LOAD_HALF, 0, 0, bpf.TYPE_AT),
    (bpf.JUMP_EQUAL, 0, 1, bpf.read_type(_NEW_GENERATION)),
    (bpf.RETURN, 0, 0, bpf.WHOLE),
    (bpf.RETURN, 0, 0, 0),
)
_NFTA_GEN_PROC_PID = 2
_GENMSG_BYTES = 4
_RECEIVE_BYTES = 1 << 16
_QUIET_S = 0.05  # a firewall that is loaded changes its rules in many transactions
_LATEST_S = 0.3  # and one that never rests is not waited for


class RulesMonitor:
    """One thread that listens in the namespace of the thread that makes it."""

    def __init__(self, changed: Callable[[], object]) -> None:
        self._changed = changed
        self._events = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
        )
        self._events.setblocking(False)
        bpf.attach(self._events, _FILTER)
        self._events.bind((0, _GROUP))
        self._wake_reading, self._wake_writing = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="rules", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread. Again is fine."""
        with contextlib.suppress(OSError):
            self._wake_writing.shutdown(socket.SHUT_WR)
        self._thread.join()
        for item in (self._wake_writing, self._wake_reading, self._events):
            item.close()

    def _run(self) -> None:
        first: float | None = None  # when the oldest change that is not told was seen
        while True:
            ready, _, _ = select.select(
                [self._events, self._wake_reading], [], [], None if first is None else _QUIET_S
            )
            if self._wake_reading in ready:
                return
            now = time.monotonic()
            if self._events in ready and self._by_others():
                first = first or now
            if first is not None and (not ready or now - first > _LATEST_S):
                first = None
                self._tell()

    def _by_others(self) -> bool:
        """Whether one datagram tells of a transaction that is not this process's own."""
        try:
            data = self._events.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            return error.errno == errno.ENOBUFS  # some were lost: anybody's
        for kind, _, _, body in split_messages(memoryview(data)):
            if kind == _NEW_GENERATION:
                told = dict(attributes(body[_GENMSG_BYTES:]))
                maker = told.get(_NFTA_GEN_PROC_PID)
                return maker is None or not _is_own(int.from_bytes(maker, "big"))
        return False

    def _tell(self) -> None:
        try:
            self._changed()
        except Exception as error:  # the next change is told all the same
            log.error("rules were changed: %s: %s", type(error).__name__, error)
            log.debug("rules were changed", exc_info=error)


def _is_own(thread: int) -> bool:
    """One that has ended is taken for somebody else's: a look too many."""
    return os.path.exists(f"/proc/self/task/{thread}")
