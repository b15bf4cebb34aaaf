"""All locks of the core, and their one order: sandbox, then network, then address space.

Locks are keyed by id and exist only while somebody holds or awaits them. A network's
lock is shared by those who attach to it or detach from it (so that a hundred
containers leave one network side by side) and exclusive for whoever creates,
deletes or repairs it. Nothing here is held while a client is waited for.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator

from cnm.types import NetworkID, SandboxID


class _SharedLock:
    """Many readers or one writer; a waiting writer goes before new readers."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._writing = False
        self._writers_waiting = 0

    def acquire(self, exclusive: bool) -> None:
        with self._condition:
            if not exclusive:
                while self._writing or self._writers_waiting:
                    self._condition.wait()
                self._readers += 1
                return
            self._writers_waiting += 1
            try:
                while self._writing or self._readers:
                    self._condition.wait()
            finally:
                self._writers_waiting -= 1
            self._writing = True

    def release(self, exclusive: bool) -> None:
        with self._condition:
            if exclusive:
                self._writing = False
            else:
                self._readers -= 1
            self._condition.notify_all()


class _Floor:
    """The locks of one kind, by key."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._locks: dict[str, tuple[_SharedLock, int]] = {}

    @contextlib.contextmanager
    def hold(self, key: str, *, exclusive: bool = True) -> Iterator[None]:
        with self._mutex:
            lock, users = self._locks.get(key) or (_SharedLock(), 0)
            self._locks[key] = (lock, users + 1)
        try:
            lock.acquire(exclusive)
            try:
                yield
            finally:
                lock.release(exclusive)
        finally:
            with self._mutex:
                lock, users = self._locks[key]
                if users == 1:
                    del self._locks[key]
                else:
                    self._locks[key] = (lock, users - 1)


class Locks:
    """One instance for one core. Take them in the order of the methods below."""

    def __init__(self) -> None:
        self._names = _Floor()
        self._sandboxes = _Floor()
        self._networks = _Floor()
        self._spaces = _Floor()

    def name(self, name: str) -> contextlib.AbstractContextManager[None]:
        """While a network or container of this name is being made."""
        return self._names.hold(name)

    def sandbox(self, sandbox_id: SandboxID) -> contextlib.AbstractContextManager[None]:
        """While a sandbox's interfaces change."""
        return self._sandboxes.hold(sandbox_id)

    def network(
        self, network_id: NetworkID, *, exclusive: bool = False
    ) -> contextlib.AbstractContextManager[None]:
        """Shared while endpoints come and go, exclusive while the network itself changes."""
        return self._networks.hold(network_id, exclusive=exclusive)

    @contextlib.contextmanager
    def networks(self, network_ids: Iterable[NetworkID]) -> Iterator[None]:
        """Shares of several networks' locks, in the order of their ids: no two wait in a circle."""
        with contextlib.ExitStack() as stack:
            for network_id in sorted(set(network_ids)):
                stack.enter_context(self._networks.hold(network_id, exclusive=False))
            yield

    def space(self, ipam_driver: str) -> contextlib.AbstractContextManager[None]:
        """While an IPAM driver is asked: it has no locks of its own."""
        return self._spaces.hold(ipam_driver)
