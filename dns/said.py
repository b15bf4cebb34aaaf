"""What is said to the resolver in one message, whose answer is waited for later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnm.dns.process import Lost, Post, Process


class Saying:
    """Several requests to one process. The caller holds what keeps its users apart.

    ``lost`` is told of a process that has ended or does not answer. Each request brings a call
    that says it again, alone: to the process that there is then.
    """

    def __init__(self, process: Process | None, lost: Callable[[Lost, Process], None]) -> None:
        self._process = process
        self._lost = lost
        self._requests: list[dict[str, object]] = []
        self._again: list[Callable[[], object]] = []
        self._post: Post | None = None

    def add(self, request: str, arguments: dict[str, Any], again: Callable[[], object]) -> bool:
        """Put a request to the others; False: there is no process to say it to."""
        if self._process is None:
            return False
        self._requests.append({"ask": request, **arguments})
        self._again.append(again)
        return True

    def send(self) -> None:
        """Say it. Nothing is raised: what was not heard is said again by :meth:`settle`."""
        if self._process is None or not self._requests:
            return
        try:
            self._post = self._process.post(self._requests)
        except Lost as error:
            self._lost(error, self._process)

    def settle(self) -> None:
        """Wait for the answer. If one was refused, or the process lost, all is said again.

        :raises Unavailable: :raises CNMError: as each of them alone would.
        """
        if not self._heard():
            for say in self._again:
                say()

    def _heard(self) -> bool:
        if not self._requests:
            return True
        if self._process is None or self._post is None:
            return False
        try:
            return self._process.wait(self._post)
        except Lost as error:
            self._lost(error, self._process)
            return False
