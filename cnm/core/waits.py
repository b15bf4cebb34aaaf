"""Who waits for the end of a container: called back, so that no thread is held meanwhile."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

from cnm.types import SandboxID

Ended = Callable[[int], None]  # given the exit code of the run that ended


class Waits:
    """Those who wait, by container."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[SandboxID, dict[int, tuple[bool, Ended]]] = {}

    def add(self, container_id: SandboxID, ended: Ended, *, removal: bool) -> Callable[[], None]:
        """Call ``ended`` once: at the next exit, or (``removal``) when the container is removed.

        Returns what ends the wait without a call.
        """
        number = next(self._numbers)
        with self._mutex:
            self._waiting.setdefault(container_id, {})[number] = (removal, ended)

        def cancel() -> None:
            with self._mutex:
                waiting = self._waiting.get(container_id, {})
                waiting.pop(number, None)
                if not waiting:
                    self._waiting.pop(container_id, None)

        return cancel

    def exited(self, container_id: SandboxID, exit_code: int) -> None:
        """A run has ended."""
        self._call(container_id, exit_code, removed=False)

    def removed(self, container_id: SandboxID, exit_code: int) -> None:
        """The container is gone; whoever waited for an exit that never came is told, too."""
        self._call(container_id, exit_code, removed=True)

    def _call(self, container_id: SandboxID, exit_code: int, *, removed: bool) -> None:
        with self._mutex:
            waiting = self._waiting.pop(container_id, {})
            staying = {} if removed else {key: item for key, item in waiting.items() if item[0]}
            if staying:
                self._waiting[container_id] = staying
        for number, (_, ended) in waiting.items():
            if number not in staying:
                ended(exit_code)
