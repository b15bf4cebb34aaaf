"""Signals that this process gets and a container is meant to: their way through the API."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType

from cnm.cli import terminal
from cnm.cli.client import Client, segment
from cnm.cli.errors import CommandError

# Not SIGWINCH, although Docker does: a window's size is no message to a process without
# a terminal, and web servers stop on it.
_KEPT = (
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGURG,
    signal.SIGWINCH,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
)


class Handled:
    """Has ``handler`` called for some signals while it is entered.

    Called from wherever the program is, so that a blocked output does not hold a signal up.
    """

    def __init__(self, numbers: Iterable[int], handler: Callable[[int], None]) -> None:
        self._numbers = tuple(numbers)
        self._handler = handler
        self._before: dict[int, terminal.Handler] = {}

    def __enter__(self) -> Handled:
        for number in self._numbers:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._handler(number)


def to_container(client: Client, identifier: str, wanted: bool = True) -> Handled:
    """Passes signals on to a container; one that it cannot take is lost, as in Docker."""
    path = f"/containers/{segment(identifier, 'container')}/kill"

    def forward(number: int) -> None:
        try:
            client.post(path, signal=_name(number))
        except CommandError:
            pass

    return Handled(signal.valid_signals() - set(_KEPT) if wanted else (), forward)


def _name(number: int) -> str:
    """TERM, or a number for those without a name."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def window(client: Client, path: str, wanted: bool) -> Handled:
    """Gives a container's terminal (``path`` of its resize) the size of ours on each change."""

    def forward(number: int) -> None:
        resize(client, path)

    return Handled((signal.SIGWINCH,) if wanted else (), forward)


def resize(client: Client, path: str, more: int = 0) -> None:
    """Sets the size now, ``more`` rows and columns larger.

    A process that has ended meanwhile has no size; that is not worth a message.
    """
    rows, columns = terminal.size()
    if rows and columns:
        try:
            client.post(path, h=str(rows + more), w=str(columns + more))
        except CommandError:
            pass
