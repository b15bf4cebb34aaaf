"""What goes wrong in a lab.

::

    CNMError
    └── LabError               anything about a lab; one line a fault
        ├── LabFileError       mistakes in a lab file; carries them all, each with its place
        ├── LabBusy            another netlab works on this lab
        ├── LabNotFound        no lab of that name is up
        ├── VMError            the second kernel cannot be had, does not boot or has died
        └── HostCommandFailed  a command in a host ended with another status than 0
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from cnm.errors import CNMError


class LabError(CNMError):
    """A lab cannot be read, made, changed or taken down."""


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One fault of a lab file. ``key`` is its path in the document: ``hosts.n1.links[0].to``."""

    line: int
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" if self.key else self.text


class LabFileError(LabError):
    """A lab file with mistakes, in the order of their lines."""

    def __init__(self, path: str, mistakes: Sequence[Mistake]) -> None:
        self.path = path
        self.mistakes = tuple(sorted(set(mistakes)))
        super().__init__("\n".join(f"{path}:{each.line}: {each}" for each in self.mistakes))


class LabBusy(LabError):
    """Another process brings this lab up or down."""


class LabNotFound(LabError):
    """Nothing of that name is up."""


class VMError(LabError):
    """The VM lab does not work; the text says why."""


class HostCommandFailed(LabError):
    """A command in a host failed. ``returncode``, ``stdout`` and ``stderr`` are its own."""

    def __init__(
        self, host: str, command: Sequence[str], returncode: int, stdout: str, stderr: str
    ) -> None:
        said = (stderr.strip() or stdout.strip() or "no output").splitlines()[-1]
        super().__init__(f"{host}: {shlex.join(command)}: exit status {returncode}: {said}")
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr
