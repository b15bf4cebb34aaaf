"""The user's terminal: its size, its raw mode, and giving it back as it was."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Callable
from types import FrameType, TracebackType

from cnm.cli.errors import CommandError

STDIN = 0
STDOUT = 1
_KILLED = 128
# Places in what tcgetattr gives.
_INPUT, _OUTPUT, _CONTROL, _LOCAL, _CHARACTERS = 0, 1, 2, 3, 6
# These would end the program and leave the terminal raw.
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

Handler = Callable[[int, FrameType | None], object] | int | None


def is_terminal(descriptor: int) -> bool:
    """Whether a descriptor is a terminal; False if it is closed."""
    return os.isatty(descriptor)


def size() -> tuple[int, int]:
    """Rows and columns of standard output; zeros if it is no terminal."""
    try:
        found = os.get_terminal_size(STDOUT)
    except OSError:
        return 0, 0
    return found.lines, found.columns


def check_input(attached: bool, tty: bool) -> None:
    """Refuses to feed a container's terminal from what is none.

    :raises CommandError: with Docker's words.
    """
    if attached and tty and not is_terminal(STDIN):
        raise CommandError("the input device is not a TTY")


class Raw:
    """Passes each key on untouched, as cfmakeraw(3) has it, while it is entered.

    ``wanted`` False, or no terminal: nothing is changed. The terminal is restored on
    each way out; SIGTERM, SIGHUP and SIGQUIT, unless somebody handles them already, become
    one.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted and is_terminal(STDIN) and not os.environ.get("NORAW")
        self._handlers: dict[int, Handler] = {}

    def __enter__(self) -> Raw:
        if self._wanted:
            self._before = termios.tcgetattr(STDIN)
            for number in _ENDING:
                if signal.getsignal(number) == signal.SIG_DFL:
                    self._handlers[number] = signal.signal(number, _end)
            _make_raw()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._wanted:
            try:
                termios.tcsetattr(STDIN, termios.TCSANOW, self._before)
            except termios.error:
                pass  # the terminal has gone, and with it what would be restored
            for number, handler in self._handlers.items():
                signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    raise CommandError("", _KILLED + number)


def _make_raw() -> None:
    settings = termios.tcgetattr(STDIN)
    settings[_INPUT] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    settings[_OUTPUT] &= ~termios.OPOST
    settings[_CONTROL] = settings[_CONTROL] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    settings[_LOCAL] &= ~(
        termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN
    )
    settings[_CHARACTERS][termios.VMIN] = 1
    settings[_CHARACTERS][termios.VTIME] = 0
    termios.tcsetattr(STDIN, termios.TCSANOW, settings)
