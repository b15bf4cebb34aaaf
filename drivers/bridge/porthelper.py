"""The daemon's side of the port helper: what is held, the process found again or started anew.

All that the process holds is known here too: whenever it ends, the next one is started at once
and told all of it. A daemon that starts finds the process and asks what it holds.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from cnm.drivers.bridge import portholder, portprotocol
from cnm.drivers.bridge.portprotocol import Holding, Key, Wanted, read_target
from cnm.errors import CNMError, InvalidParameter, KernelError, PortTaken, Unavailable
from cnm.runtime.kernel import packets, resident
from cnm.runtime.kernel.readable import is_readable
from cnm.runtime.kernel.service import failure

log = logging.getLogger(__name__)

T = TypeVar("T")

_ATTEMPTS = 3
_ANSWERS_WITHIN_S = 10.0
_ENDS_WITHIN_S = 5.0
_AGAIN_AFTER_S = 1.0  # one that ends at once is not started a thousand times a second
_PEER = struct.Struct("=iII")  # ucred: pid, uid, gid
_NOBODY = (FileNotFoundError, ConnectionRefusedError)


class _Lost(Unavailable):
    """The process has ended, or does not answer."""


class PortHelper:
    """One helper, for one exec root. Thread-safe; one thread of its own once there is one.

    ``Ruleset`` apart, the one place of the driver with a lock of its own: all networks share
    the process, which answers one question at a time.
    """

    def __init__(self, exec_root: str) -> None:
        self._place = portprotocol.place(exec_root)
        self._mutex = threading.RLock()
        self._held: dict[Key, Holding] = {}
        self._by_owner: dict[str, set[Key]] = {}
        self._link: socket.socket | None = None
        self._watch: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._looked = False

    def close(self) -> None:
        """The daemon stops; the helper goes on. Again is fine."""
        self._closing.set()
        with self._mutex:
            thread, self._thread = self._thread, None
            if self._watch is not None:
                with contextlib.suppress(OSError):
                    self._watch.shutdown(socket.SHUT_RDWR)
            self._hang_up()
        if thread is not None:
            thread.join()

    def hold(self, owner: str, wishes: Sequence[Wanted]) -> list[int]:
        """Hold all of these for an owner, or none; the port of each. Held by it already is fine.

        :raises PortTaken: naming the holder. :raises InvalidParameter: not an address of the host.
        :raises Unavailable: the helper does not start.
        """
        with self.holding(owner, wishes) as answer:
            return answer()

    @contextlib.contextmanager
    def holding(self, owner: str, wishes: Sequence[Wanted]) -> Iterator[Callable[[], list[int]]]:
        """As :meth:`hold`, while the block does something else until it needs the answer.

        It must be short: others wait. If it raises before, nothing is held.
        """
        if not wishes:
            yield lambda: []
            return
        request = {"ask": "hold", "owner": owner, "ports": [wish.document() for wish in wishes]}
        with self._mutex:
            ask = self._begin(request)
            before = set(self._by_owner.get(owner, ()))
            awaited = True

            def answer() -> list[int]:
                nonlocal awaited
                awaited = False
                told = ask()
                if "taken" in told:
                    raise self._refusal(told["taken"], told["errno"], told["owner"])
                ports: list[int] = told["ports"]
                self._know_all(owner, wishes, ports)
                return ports

            try:
                yield answer
            finally:
                if awaited:
                    with contextlib.suppress(CNMError):
                        answer()
                        self._give_back(owner, set(self._by_owner.get(owner, ())) - before)

    def _know_all(self, owner: str, wishes: Sequence[Wanted], ports: Sequence[int]) -> None:
        for wish, port in zip(wishes, ports, strict=True):
            for address, target in wish.addresses:
                self._know((wish.protocol, address, port, owner, target))

    def release(self, owner: str, keys: Iterable[Key]) -> None:
        """Give ports back. What is not held by this owner is left."""
        with self._mutex:
            self._look()
            self._give_back(owner, keys)

    def held_by(self, owner: str) -> list[Key]:
        """What one endpoint holds."""
        with self._mutex:
            self._look()
            return list(self._by_owner.get(owner, ()))

    def holds(self, owner: str, keys: Iterable[Key]) -> bool:
        """Whether all of these are held for one endpoint."""
        with self._mutex:
            self._look()
            return all(key in self._held and self._held[key][3] == owner for key in keys)

    def holdings(self) -> Mapping[Key, Holding]:
        """All that is held. A helper that an earlier daemon left is asked."""
        with self._mutex:
            self._look()
            return dict(self._held)

    def _refusal(self, key: Sequence[Any], number: int, owner: str) -> CNMError:
        """Docker's words, and who has the port."""
        protocol, address, port = key
        where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        if number == errno.EADDRINUSE:
            text = f"Bind for {where} failed: port is already allocated"
            if not port:
                return PortTaken(f"Bind for {where} failed: all ports are allocated")
            if owner:
                return PortTaken(text, owner)
            program = portholder.holder(protocol, address, port)
            return PortTaken(f"{text} (held by {program})" if program else text)
        reason = os.strerror(number).lower()
        text = f"failed to bind host port {where}/{protocol}: {reason}"
        if number == errno.EADDRNOTAVAIL:
            return InvalidParameter(text)
        return KernelError(number, f"failed to bind host port {where}/{protocol}", reason)

    # all below with the mutex held

    def _give_back(self, owner: str, keys: Iterable[Key]) -> None:
        mine = [key for key in keys if key in self._held and self._held[key][3] == owner]
        for key in mine:
            self._forget(key)
        if mine:
            self._begin({"ask": "release", "owner": owner, "ports": mine})()

    def _begin(self, request: packets.Message) -> Callable[[], Any]:
        """Ask; what is returned waits for the answer. A helper that is lost is asked again."""
        link = self._sent(request)

        def answer() -> Any:
            nonlocal link
            for attempt in itertools.count():
                try:
                    return _answer(link)
                except _Lost as error:
                    self._is_lost(error, attempt)
                link = self._sent(request)

        return answer

    def _sent(self, request: packets.Message) -> socket.socket:
        for attempt in itertools.count():
            try:
                link = self._connected()
                _send(link, request)
            except _Lost as error:
                self._is_lost(error, attempt)
            else:
                return link
        raise AssertionError("counting has no end")

    def _is_lost(self, error: _Lost, attempt: int = 0) -> None:
        """Hang up, or a late answer would be taken for the next one's.

        :raises _Lost: it was the last attempt.
        """
        log.warning("%s", error)
        self._hang_up()
        if attempt == _ATTEMPTS:
            raise error

    def _look(self) -> None:
        """Learn what a helper holds that an earlier daemon left; none running is fine."""
        for _ in range(_ATTEMPTS):
            if self._link is not None or self._looked:
                return
            try:
                self._adopt(resident.connect(self._place))
            except _NOBODY:
                self._looked = True  # whoever starts one later is this daemon
            except _Lost as error:
                log.warning("%s", error)
                self._hang_up()
                if self._held:
                    self._connected()  # its heir holds what it held

    def _connected(self) -> socket.socket:
        if self._link is None:
            self._adopt(resident.connect_or_start(self._place, portprotocol.MODULE))
        assert self._link is not None
        return self._link

    def _adopt(self, link: socket.socket) -> None:
        """Speak by this connection from now on; the process then holds all that is known here."""
        link.settimeout(_ANSWERS_WITHIN_S)
        first = not self._looked
        try:
            if _ask(link, "hello") != portprotocol.greeting():
                log.info("a port helper of another version is replaced")
                if first:
                    self._learn(link)
                _end(link)
                link = resident.connect_or_start(self._place, portprotocol.MODULE)
                link.settimeout(_ANSWERS_WITHIN_S)
            elif first:
                self._learn(link)
        except BaseException:
            link.close()
            raise
        self._looked = True
        self._link = link
        self._tell_again()
        self._watch_it()

    def _learn(self, link: socket.socket) -> None:
        """What the process says that it holds."""
        for protocol, address, port, owner, target in _ask(link, "holdings"):
            self._know((protocol, address, port, owner, read_target(target)))

    def _know(self, holding: Holding) -> None:
        self._held[holding[:3]] = holding
        self._by_owner.setdefault(holding[3], set()).add(holding[:3])

    def _forget(self, key: Key) -> None:
        owner = self._held.pop(key)[3]
        self._by_owner[owner].discard(key)
        if not self._by_owner[owner]:
            del self._by_owner[owner]

    def _tell_again(self) -> None:
        """Each by itself: what somebody else took meanwhile is his, and the rest stays ours."""
        assert self._link is not None
        for key, (protocol, address, port, owner, target) in list(self._held.items()):
            wish = Wanted(protocol, ((address, target),), port, port).document()
            told = {"owner": owner, "ports": [wish]}
            answer = _ask(self._link, "hold", told)
            if "taken" in answer:
                self._forget(key)
                log.error("%s", self._refusal(key, answer["errno"], answer["owner"]))

    def _hang_up(self) -> None:
        for link in (self._link, self._watch):
            if link is not None:
                link.close()
        self._link = self._watch = None

    # watching

    def _watch_it(self) -> None:
        if self._closing.is_set():
            return
        try:
            self._watch = resident.connect(self._place)
            packets.send(self._watch, {"ask": "watch"})
        except OSError as error:
            raise _Lost(f"the port helper: {error}") from error
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="ports", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        """Whenever the process ends, have the next one hold what it held."""
        while not self._closing.is_set():
            with self._mutex:
                watch = self._watch
            if watch is None or not _answers_on(watch):
                if self._closing.is_set() or not self._revive():
                    return

    def _revive(self) -> bool:
        """Whether there is another process to be watched."""
        with self._mutex:
            if self._closing.is_set():
                return False
            self._hang_up()
            if not self._held:
                self._thread = None
                return False
            log.warning("the port helper has ended; another one is started")
            try:
                self._connected()
            except Exception as error:
                log.error("the port helper: %s", error)
        self._closing.wait(_AGAIN_AFTER_S)
        return True


def _ask(link: socket.socket, request: str, arguments: Mapping[str, object] | None = None) -> Any:
    _send(link, {"ask": request, **(arguments or {})})
    return _answer(link)


def _send(link: socket.socket, request: packets.Message) -> None:
    try:
        packets.send(link, request)
    except (OSError, ValueError) as error:
        raise _Lost(f"the port helper: {error}") from error


def _answer(link: socket.socket) -> Any:
    try:
        message, descriptors = packets.receive(link)
    except (OSError, EOFError, ValueError) as error:
        raise _Lost(f"the port helper: {error}") from error
    packets.close_all(descriptors)
    if "done" not in message:
        raise failure(message, "the port helper refused")
    return message["done"]


def _answers_on(watch: socket.socket) -> bool:
    """Wait for what a process says; ``False``: its end."""
    try:
        _, descriptors = packets.receive(watch)
    except (OSError, EOFError, ValueError):
        return False
    packets.close_all(descriptors)
    return True


def _end(link: socket.socket) -> None:
    """Kill the process at the other end, and wait until it has gone."""
    pid, _, _ = _PEER.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    link.close()
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        is_readable(process, _ENDS_WITHIN_S)
    except ProcessLookupError:
        pass
    finally:
        os.close(process)
