"""A place of a lab that runs, to look out of: what probes need of a host or container."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from cnm.netlab.model import Place
from cnm.types import IPInterface


class Ended(NamedTuple):
    """A command that ended; ``output`` is what it said on both channels."""

    status: int
    output: str


class Vantage(Protocol):
    """A host, or a container on it.

    Everything raises ``LabError`` when the place is gone.
    """

    @property
    def netns(self) -> str:
        """Path of its network namespace."""

    def addresses(self) -> Sequence[IPInterface]:
        """Its global addresses, as the kernel has them, loopback left out."""

    def text(self, path: str) -> str:
        """A file as it is seen there; empty when there is none."""

    def run(self, command: Sequence[str], timeout_s: float) -> Ended:
        """A command there, with all that the place has of its own."""


Finder = Callable[[Place], Vantage]
