"""The last steps before a command runs: who it is, what it may do, where it stands.

Order matters. The bounding set can only be cut, and a filter only be loaded, by one who
still has capabilities; the user is changed before the working directory is entered, so that
the directory's rights count; the executable is looked for as that user.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Mapping, Sequence

from cnm.runtime.container import syscalls
from cnm.runtime.container.accounts import Account
from cnm.runtime.container.plan import Confinement
from cnm.runtimeapi import ResourceLimit

NOT_FOUND, NOT_RUNNABLE, NOT_STARTED = 127, 126, 128  # Docker's exit codes

_HIGHEST_CAPABILITY = 63


class Refused(Exception):
    """A start that failed, in Docker's words, with its exit code.

    ``plain``: the words stand for themselves; others are put into a sentence of the runtime's.
    """

    def __init__(self, text: str, code: int = NOT_STARTED, *, plain: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.plain = plain


def become(account: Account, confinement: Confinement, working_directory: str) -> None:
    """Give up what the command shall not have, for good. A user namespace is entered by now."""
    _cut_bounding_set(confinement.capabilities)
    if confinement.program and not confinement.no_new_privileges:
        syscalls.load_seccomp(confinement.program)
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    _enter_directory(working_directory)
    syscalls.set_capabilities(_permitted(confinement.capabilities))
    if confinement.no_new_privileges:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        if confinement.program:
            syscalls.load_seccomp(confinement.program)


def _cut_bounding_set(kept: int) -> None:
    for number in range(_HIGHEST_CAPABILITY + 1):
        try:
            present = syscalls.prctl(syscalls.PR_CAPBSET_READ, number)
        except OSError:
            break  # past the kernel's last one
        if present and not kept >> number & 1:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)


def _permitted(wanted: int) -> int:
    """What is wanted of what there is: nobody can give more than they have."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    return wanted & int(lines["CapPrm"], 16)


def _enter_directory(path: str) -> None:
    try:
        os.chdir(path)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        text = f'chdir to cwd ("{path}") set in config.json failed: {reason}'  # runc's words
        raise Refused(text, NOT_RUNNABLE) from error


def limit_resources(limits: Sequence[ResourceLimit]) -> None:
    """``--ulimit``, by Docker's names."""
    for limit in limits:
        number = getattr(resource, f"RLIMIT_{limit.name.upper()}", None)
        if number is None:
            raise Refused(f"invalid ulimit type: {limit.name}")
        try:
            resource.setrlimit(number, (limit.soft, limit.hard))
        except (OSError, ValueError) as error:
            raise Refused(f"error setting rlimit {limit.name}: {error}") from error


def find_executable(name: str, environment: Mapping[str, str]) -> str:
    """Where a command is, by the rules and in the words of Go's ``exec.LookPath``."""
    if "/" in name:
        problem = _why_not(name)
        if problem is None:
            return name
        missing = problem in (errno.ENOENT, errno.ENOTDIR)
        detail = f"stat {name}: {_text(problem)}" if missing else _text(problem)
        raise Refused(f'exec: "{name}": {detail}', NOT_FOUND if missing else NOT_RUNNABLE)
    for directory in environment.get("PATH", "").split(":"):
        path = os.path.join(directory or ".", name)
        if name and _why_not(path) is None:
            return path
    raise Refused(f'exec: "{name}": executable file not found in $PATH', NOT_FOUND)


def _why_not(path: str) -> int | None:
    """The errno that speaks against running it, or None."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return error.errno or errno.EIO
    if stat.S_ISDIR(mode):
        return errno.EISDIR
    runnable = os.access(path, os.X_OK, effective_ids=True) and mode & 0o111
    return None if runnable else errno.EACCES


def _text(number: int) -> str:
    return os.strerror(number).lower()


def execute(path: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """execve(2); returns only by raising :class:`Refused`."""
    try:
        os.execve(path, list(arguments), dict(environment))
    except OSError as error:
        number = error.errno or errno.EIO
        code = NOT_FOUND if number == errno.ENOENT else NOT_RUNNABLE
        raise Refused(f"exec {path}: {_text(number)}", code) from error
    except ValueError as error:
        raise Refused(f"exec {path}: {error}", NOT_RUNNABLE) from error
