"""Run this interpreter from a read-only view of its own file.

A container can have its command be ``/proc/self/exe``: what then runs is the program that
was about to exec it, our interpreter, and through ``/proc/self/exe`` the container could
open the host's file for writing (CVE-2019-5736). So the supervisor executes itself once
more through a detached, read-only mount of the interpreter: its children's ``exe`` leads
there and can only be read.

``python -m`` this module is the supervisor, protected from the start: what a supervisor imports
is not imported twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cnm.runtime.container import syscalls

SUPERVISOR = "cnm.runtime.container.supervisor"
_MARK = "CNM_PROTECTED"


def run_protected(module: str, arguments: Sequence[str]) -> None:
    """Execute ``python -m module`` again, protected; returns if that has been done already."""
    if os.environ.pop(_MARK, "") == "1" and is_protected():
        return
    executable = os.path.realpath(sys.executable)
    view = syscalls.clone_mount(executable, recursive=False)
    syscalls.set_read_only(view)
    command = [sys.executable, "-P", "-m", module, *arguments]
    # The descriptor is close-on-exec: the program itself does not keep it.
    os.execve(f"/proc/self/fd/{view}", command, {**os.environ, _MARK: "1"})


def is_protected() -> bool:
    """Whether our own file could be written by who reaches it through ``/proc``."""
    return bool(os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY)


if __name__ == "__main__":
    run_protected(SUPERVISOR, sys.argv[1:])
