"""Undo: the inverse of each step done, run newest first if a later step fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType

from cnm.errors import TeardownError


class Undo:
    """A context manager that takes half-made work down again.

    Push the inverse on the line after each change. When the block ends with an
    exception the inverses run, newest first; what fails in them is attached to
    the exception with ``add_note``, and the exception goes on. When the block
    ends well nothing runs.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def push(self, step: Callable[..., object], *args: object) -> None:
        """Remember the inverse of a change that has just been made."""
        self._steps.append((step, args))

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            return
        for failure in self._failures():
            error.add_note(f"undo: {failure}")

    def run(self) -> None:
        """Take it down after all, though its block ended well: as a step of a larger one.

        :raises Exception: the first that failed; the others were tried.
        """
        failures = self._failures()
        if failures:
            raise failures[0]

    def _failures(self) -> list[Exception]:
        failures: list[Exception] = []
        while self._steps:
            step, args = self._steps.pop()
            try:
                step(*args)
            except Exception as failure:
                failures.append(failure)
        return failures


class Teardown:
    """Runs every step of a tear-down, whatever fails, and raises all failures together.

    ::

        teardown = Teardown("delete network blue")
        with teardown.step():
            driver.delete_network(network_id)
        with teardown.step():
            ipam.release_pool(pool_id)
        teardown.finish()
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._failures: list[Exception] = []

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """One step; an ``Exception`` in it is kept for :meth:`finish`."""
        try:
            yield
        except Exception as error:
            self._failures.append(error)

    @property
    def has_failed(self) -> bool:
        """Whether something has, so far."""
        return bool(self._failures)

    def finish(self) -> None:
        """:raises TeardownError: with all that failed, if anything did."""
        if self._failures:
            raise TeardownError(self._what, self._failures)
