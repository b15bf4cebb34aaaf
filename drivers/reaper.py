"""Deletes links without waiting for the kernel to tidy up, those of several callers together.

A delete returns after RCU, 12 ms and more, whether of one link or of thirty. So threads of
our own wait for it, and the caller goes on when the link is gone (:class:`Departures`): a veth
after 1 ms. What comes while all of them are busy is deleted together by the next that is
free: group commit, as databases write their logs. A link in another namespace goes alone, since
a message to the kernel is one namespace's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from queue import Empty
from typing import Protocol

from cnm.errors import KernelError
from cnm.handoff import Handoff


class LinkDeleter(Protocol):
    """Deletes links and returns when all is done; used by one thread at a time."""

    def delete_links(self, links: Sequence[int]) -> None:
        """Already gone is success. :raises KernelError: some may be left."""

    def close(self) -> None: ...


class Watch(Protocol):
    """Tells when a link is gone, as far as it knows."""

    def watching(self, index: int, gone: Callable[[], None]) -> AbstractContextManager[None]:
        """Within the block, ``gone`` is called, from any thread."""

    def close(self) -> None: ...


class _Ticket:
    """One caller's link: gone, or refused."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._ended = threading.Event()
        self._refusal: BaseException | None = None

    def gone(self) -> None:
        self._ended.set()

    def refused(self, error: BaseException) -> None:
        self._refusal = error
        self._ended.set()

    def wait(self) -> None:
        self._ended.wait()
        if self._refusal is not None:
            raise self._refusal


class Reaper:
    """One for a driver. As many deletions are under way at once as it has deleters.

    Each deleter has a thread from the start: with a pool that grows, how many threads a daemon
    has, and so whether it leaks any, depends on how busy the machine once was.
    """

    def __init__(self, deleters: Sequence[LinkDeleter], watch: Watch) -> None:
        self._watch = watch
        self._deleters = deleters
        self._waiting: Handoff[_Ticket | None] = Handoff()  # None: the end of a thread
        self._threads = [
            threading.Thread(target=self._work, args=(deleter,), name="reaper", daemon=True)
            for deleter in deleters
        ]
        self._elsewhere: set[threading.Thread] = set()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Wait for what is under way, close all sockets. Again is fine."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()
        for thread in list(self._elsewhere):
            thread.join()
        self._watch.close()
        for deleter in self._deleters:
            deleter.close()

    def delete(self, index: int) -> None:
        """Delete a link by its index and wait until it is gone. Already gone is success.

        :raises KernelError: the kernel refused.
        """
        ticket = _Ticket(index)
        with self._watch.watching(index, ticket.gone):
            self._waiting.put(ticket)
            ticket.wait()

    def delete_elsewhere(self, index: int, deleter: LinkDeleter, watch: Watch) -> None:
        """As ``delete``, in another namespace: both are of it, and closed when all is over.

        :raises KernelError: the kernel refused.
        """
        ticket = _Ticket(index)

        def work() -> None:
            _delete(deleter, [ticket])
            watch.close()
            deleter.close()
            self._elsewhere.discard(thread)

        thread = threading.Thread(target=work, name="reaper elsewhere", daemon=True)
        self._elsewhere.add(thread)
        with watch.watching(index, ticket.gone):
            thread.start()
            ticket.wait()

    def _work(self, deleter: LinkDeleter) -> None:
        while (ticket := self._waiting.get()) is not None:
            _delete(deleter, [ticket, *self._others_waiting()])

    def _others_waiting(self) -> Iterator[_Ticket]:
        """All that wait now, without an end that was told."""
        while True:
            try:
                ticket = self._waiting.get_nowait()
            except Empty:
                return
            if ticket is None:
                self._waiting.put(None)  # for the thread that is to end by it
                return
            yield ticket


def _delete(deleter: LinkDeleter, group: Sequence[_Ticket]) -> None:
    """If one of the group is refused, each caller learns his own fate."""
    try:
        deleter.delete_links([ticket.index for ticket in group])
    except KernelError as error:
        if len(group) == 1:
            group[0].refused(error)
            return
        for ticket in group:
            _delete(deleter, [ticket])
    except BaseException as error:  # of no kernel's: still nobody may wait for ever
        for ticket in group:
            ticket.refused(error)
    else:
        for ticket in group:
            ticket.gone()
