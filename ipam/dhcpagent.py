"""Runs DHCP clients: one thread for all of them, a socket a link, open while an answer is awaited.

Clients are pure (``dhcpclient``); here is the time, the sending and the hearing. Who is told of a
changed lease is told on a second thread: it may take locks of the core that somebody holds who
waits here for an address.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cnm.errors import CNMError, KernelError, Unavailable
from cnm.ipam import dhcpmessage
from cnm.ipam.dhcpclient import Client, Lease, Outgoing, State
from cnm.ipam.dhcpmessage import CLIENT_PORT, SERVER_PORT
from cnm.runtime.kernel.dhcpwire import Datagram, DhcpWire, Target

log = logging.getLogger(__name__)

TOLD_AGAIN_S = 30.0  # after a change that could not be carried out

Told = Callable[[str, Lease, bool], None]  # key, lease, whether it has expired


def now() -> float:
    """Seconds since the boot, sleep included: no step of the wall clock ends a lease."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class _Entry:
    """A client, and what is known of it outside."""

    client: Client
    link: str
    shares_mac: bool
    failure: CNMError | None = None
    known: tuple[Lease | None, bool] = (None, False)
    tell_s: float | None = None  # when its owner is to be told


class Agent:
    """Keys are the owner's. :meth:`close` ends the threads; leases stay."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._changed = threading.Condition()  # guards all that follows
        self._entries: dict[str, _Entry] = {}
        self._wires: dict[str, DhcpWire] = {}
        self._thread: threading.Thread | None = None
        self._teller = ThreadPoolExecutor(1, thread_name_prefix="leases")
        self._telling = False
        self._closed = False
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)

    def begin(self) -> None:
        """Tell changes from now on."""
        with self._changed:
            self._telling = True
            if self._entries:
                self._run_on()

    def acquire(
        self, key: str, client: Client, link: str, *, shares_mac: bool, timeout_s: float
    ) -> Lease:
        """A lease from a server on the wire; the client lives on, and renews it.

        :raises Unavailable: nobody answered in time, or no answer was good.
        :raises KernelError: the link is down or gone.
        """
        entry = _Entry(client, link, shares_mac)
        with self._changed:
            client.start(now())
            self._entries[key] = entry
            self._run_on()
            until = time.monotonic() + timeout_s
            while client.state is not State.BOUND and not self._is_hopeless(entry):
                if not self._changed.wait(until - time.monotonic()) and time.monotonic() >= until:
                    break
            if client.state is State.BOUND and client.lease is not None:
                entry.known = (client.lease, False)
                return client.lease
            del self._entries[key]
        if entry.failure is not None:
            raise entry.failure
        raise Unavailable(
            client.refused or f"no DHCP server answered on {link} within {timeout_s:g} s"
        )

    def _is_hopeless(self, entry: _Entry) -> bool:
        if self._closed and entry.failure is None:
            entry.failure = Unavailable("the daemon stops")
        return entry.failure is not None or bool(entry.client.refused)

    def resume(self, key: str, client: Client, link: str, *, shares_mac: bool) -> None:
        """Go on with a lease of an earlier daemon; its owner is told once what it is."""
        with self._changed:
            client.start(now())
            self._entries[key] = _Entry(client, link, shares_mac)

    def end(self, key: str, *, decline: bool = False) -> None:
        """Give a lease back. One that nobody has, or a link that is gone, is success."""
        with self._changed:
            entry = self._entries.pop(key, None)
            if entry is None:
                return
            message = entry.client.decline() if decline else entry.client.release()
            try:
                if message is not None:
                    self._send(entry, message)
            except KernelError as error:
                log.info("%s: the lease of %s ends by itself", error, entry.client.identity.mac)
            if self._thread is not None:
                self._run_on()
            else:
                self._close_idle()

    def close(self) -> None:
        """Wake who waits, end the threads, close every socket. Again, or at once twice, is fine."""
        with self._changed:
            begun, self._closed = self._closed, True
            self._changed.notify_all()
            if not begun:
                os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join()
        self._teller.shutdown(cancel_futures=True)
        with self._changed:
            if self._epoll.closed:
                return
            for wire in self._wires.values():
                wire.close()
            self._epoll.close()
            os.close(self._wake)

    # the thread

    def _run_on(self) -> None:
        """Have the thread look again; start it the first time."""
        if self._closed:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="dhcp", daemon=True)
            self._thread.start()
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while True:
            with self._changed:
                wait_s = self._wait_s()
            ready = {descriptor for descriptor, _ in self._epoll.poll(wait_s)}
            with self._changed:
                if self._closed:
                    return
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
                self._hear(ready)
                self._tick()
                self._close_idle()
                self._tell()
                self._changed.notify_all()

    def _wait_s(self) -> float | None:
        due = [entry.client.due_s for entry in self._entries.values()]
        if self._telling:
            due += [entry.tell_s for entry in self._entries.values()]
        times = [time_s for time_s in due if time_s is not None]
        return max(0.0, min(times) - now()) if times else None

    def _hear(self, ready: Iterable[int]) -> None:
        for wire in [item for item in self._wires.values() if item.fileno() in ready]:
            try:
                while (datagram := wire.receive()) is not None:
                    self._heard(wire, datagram)
            except KernelError as error:
                log.info("%s", error)
                self._close_wire(wire.link)

    def _heard(self, wire: DhcpWire, datagram: Datagram) -> None:
        message = dhcpmessage.decode(datagram.payload)
        if message is None:
            return
        for key, entry in self._entries.items():
            if entry.link == wire.link:
                outgoing = entry.client.heard(message, datagram.mac, now())
                self._send_all(key, entry, outgoing)

    def _tick(self) -> None:
        for key, entry in self._entries.items():
            self._send_all(key, entry, entry.client.tick(now()))

    def _send_all(self, key: str, entry: _Entry, messages: Iterable[Outgoing]) -> None:
        for outgoing in messages:
            log.debug("dhcp %s: %s on %s", key, outgoing.message.kind.name, entry.link)
            try:
                self._send(entry, outgoing)
            except KernelError as error:
                entry.failure = error

    def _send(self, entry: _Entry, outgoing: Outgoing) -> None:
        """:raises KernelError: the link is down or gone; the next attempt opens it anew."""
        wire = self._wires.get(entry.link)
        if wire is None:
            wire = DhcpWire(entry.link, CLIENT_PORT, SERVER_PORT)
            self._wires[entry.link] = wire
            self._epoll.register(wire.fileno(), select.EPOLLIN)
        lease = outgoing.to
        target = Target() if lease is None else Target(lease.server, lease.server_mac)
        mac = wire.mac if entry.shares_mac else entry.client.identity.mac
        payload = dhcpmessage.encode(outgoing.message)
        try:
            wire.send(payload, mac, outgoing.message.client, target)
        except KernelError:
            self._close_wire(entry.link)
            raise

    def _close_idle(self) -> None:
        busy = {
            entry.link for entry in self._entries.values() if entry.client.state is not State.BOUND
        }
        for link in self._wires.keys() - busy:
            self._close_wire(link)

    def _close_wire(self, link: str) -> None:
        wire = self._wires.pop(link)
        self._epoll.unregister(wire.fileno())
        wire.close()

    # telling

    def _tell(self) -> None:
        for key, entry in self._entries.items():
            current = (entry.client.lease, entry.client.expired)
            if current[0] is not None and current != entry.known:
                entry.known, entry.tell_s = current, now()
            due = entry.tell_s is not None and entry.tell_s <= now()
            if due and self._telling and current[0] is not None:
                entry.tell_s = None
                self._teller.submit(self._tell_one, key, current[0], current[1])

    def _tell_one(self, key: str, lease: Lease, expired: bool) -> None:
        try:
            self._told(key, lease, expired)
        except Exception as error:  # it is tried again: the address must not stay wrong
            log.error("lease of %s: %s", lease.address, error)
            with self._changed:
                if key in self._entries and not self._closed:
                    self._entries[key].tell_s = now() + TOLD_AGAIN_S
                    self._run_on()
