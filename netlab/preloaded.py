"""Our own daemon's program, imported once by the spawner and forked for each host.

A daemon's start takes 1.3 s of a processor, and all but 0.2 of them import the program: a lab of
twenty hosts would wait for that twenty times. A fork has it all, and shares its memory with the
others. It is the same program from its first line on, under its own name in the list of
processes; nothing of the spawner's is open in it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NoReturn

from cnm.netlab import syscalls

PROGRAM = "cnm"
_FIRST_DESCRIPTOR = 3  # after the standard ones


def load() -> None:
    """Import the program. By name: labs know no more of a daemon than how it is started."""
    import_module("cnm.daemon.preload").preload()


def become(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Go on as ``command``, a command line of :data:`PROGRAM`, as after an exec of it."""
    os.closerange(_FIRST_DESCRIPTOR, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = command
    with contextlib.suppress(OSError):  # it only shows
        syscalls.show_command_line(command)
    os._exit(_status_of_main())


def _status_of_main() -> int:
    status = 1
    try:
        status = import_module("cnm.cli.main").main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status
