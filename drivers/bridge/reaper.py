"""Deletes links, those of several callers at once in one kernel operation.

Each delete waits for RCU, 12 ms and more, whether of one link or of thirty. So the
first caller deletes at once, and what comes while he waits is deleted together next:
group commit, as databases write their logs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from cnm.errors import KernelError


class _Group:
    """Links that go together."""

    def __init__(self) -> None:
        self.indexes: list[int] = []
        self.done = False
        self.failed = False


class Reaper:
    """One for a driver. Its condition guards the queue, and is not held while the kernel works."""

    def __init__(self, delete_links: Callable[[Sequence[int]], None]) -> None:
        self._delete_links = delete_links
        self._changed = threading.Condition()
        self._busy = False
        self._waiting = _Group()

    def delete(self, index: int) -> None:
        """Delete a link by its index and wait until it is gone. Already gone is success.

        :raises KernelError: the kernel refused.
        """
        group = self._queue(index)
        if group.failed:  # one of the group was refused: each caller learns his own fate
            self._delete_links([index])

    def _queue(self, index: int) -> _Group:
        """Wait until a group with this link was deleted, by this caller or another."""
        with self._changed:
            group = self._waiting
            group.indexes.append(index)
            while self._busy and not group.done:
                self._changed.wait()
            if group.done:
                return group
            self._busy = True  # whoever of a group wakes first deletes it
            self._waiting = _Group()
        self._delete(group)
        return group

    def _delete(self, group: _Group) -> None:
        failed = True
        try:
            self._delete_links(group.indexes)
            failed = False
        except KernelError:
            if len(group.indexes) == 1:
                raise
        finally:
            with self._changed:
                group.done, group.failed = True, failed
                self._busy = False
                self._changed.notify_all()
