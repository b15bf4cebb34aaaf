"""A terminal for tests: commands run on its inner side, tests type and read on the outer one."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from typing import Any

_PATIENCE_S = 30.0
_MAIN = "import sys; from cnm.cli.main import main; sys.exit(main())"


class Terminal:
    """A pseudo-terminal, 80 columns and 24 rows, and a command on it."""

    def __init__(self) -> None:
        self._outer, self._inner = pty.openpty()
        self.resize(24, 80)
        self.settings = self.look()
        self.process: subprocess.Popen[bytes] | None = None
        self.shown = b""

    def begin(self, host: str, *words: str) -> None:
        """Starts ``cnm …``; the terminal is its own. No signal is ignored, whoever started us."""
        self.process = subprocess.Popen(
            ["env", "--default-signal", sys.executable, "-c", _MAIN, "-H", host, *words],
            stdin=self._inner,
            stdout=self._inner,
            stderr=self._inner,
            start_new_session=True,
        )

    def type(self, keys: bytes) -> None:
        """Types."""
        os.write(self._outer, keys)

    def resize(self, rows: int, columns: int) -> None:
        """Changes the size of the window."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._outer, termios.TIOCSWINSZ, size)

    def look(self) -> list[Any]:
        """The settings of the terminal."""
        return termios.tcgetattr(self._inner)

    def read_until(self, wanted: bytes) -> None:
        """Reads what is shown until it has ``wanted``."""
        deadline = time.monotonic() + _PATIENCE_S
        while wanted not in self.shown:
            assert time.monotonic() < deadline, f"{wanted!r} is not in {self.shown!r}"
            if select.select([self._outer], [], [], 0.1)[0]:
                self.shown += os.read(self._outer, 65536)

    def end(self) -> int:
        """The command's status, once all that it showed is read."""
        assert self.process
        status = self.process.wait(_PATIENCE_S)
        while select.select([self._outer], [], [], 0)[0]:
            self.shown += os.read(self._outer, 65536)
        return status

    def close(self) -> None:
        """Ends the command and the terminal."""
        if self.process:
            self.process.kill()
            self.process.wait()
        os.close(self._outer)
        os.close(self._inner)
