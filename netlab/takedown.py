"""Takes a lab down by its marks: needs nothing but its name, and nothing that ``up`` remembered.

Killing the first process of a host ends every process on it, and with the last of them go its
mounts and its namespaces; what is left are names in ``/run/netns``, empty control groups
and the lab's own folder. So nothing has to be asked of a daemon, and nothing is done twice.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import time
from collections.abc import Callable, Iterable

from cnm.errors import CNMError, KernelError, TeardownError
from cnm.netlab import groups, marks, spawner
from cnm.netlab.errors import LabError
from cnm.netlab.progress import Progress
from cnm.netlab.state import State
from cnm.runtime.kernel.netns import NetNS

_LOOK_EVERY_MS = 500
_END_WITHIN_S = 30.0  # processes in the kernel's arms (a write to a slow disk) delay the end


def down(lab: str, progress: Progress) -> bool:
    """Remove all that carries the lab's mark; whether there was anything.

    :raises LabBusy: somebody else works on it.
    :raises TeardownError: what could not be removed; the rest is gone.
    """
    with State(lab).locked():
        return _take_down(lab, progress)


def _take_down(lab: str, progress: Progress) -> bool:
    holders = marks.holders(lab)
    pins = list(marks.pins(lab))
    state = State(lab)
    if not (holders or pins or state.folder.exists() or lab in groups.labs()):
        return False
    failures: list[Exception] = []

    def step(work: Callable[[], object]) -> None:
        try:
            work()
        except (OSError, CNMError) as error:
            failures.append(error)

    progress.begin("hosts", len(holders))
    step(lambda: end([holder.pid for holder in holders], progress.advance))
    progress.begin("namespaces", len(pins))
    for host, path in pins:
        if is_ours(lab, host, str(path)):
            step(functools.partial(spawner.unpin, str(path)))
        progress.advance()
    step(lambda: groups.remove(lab))
    step(state.remove)
    progress.end()
    if failures:
        raise TeardownError(f"lab {lab} is not wholly down", failures)
    return True


def end(pids: Iterable[int], ended: Callable[[], None]) -> None:
    """Kill the first processes of hosts, and wait until the kernel has ended all in them.

    :raises LabError: some live on.
    """
    descriptors = {}
    spaces = set()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            spaces.add(os.readlink(f"/proc/{pid}/ns/pid"))
            descriptors[os.pidfd_open(pid)] = pid
    try:
        for descriptor in descriptors:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        _wait(set(descriptors), spaces, ended)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _wait(left: set[int], spaces: set[str], ended: Callable[[], None]) -> None:
    deadline = time.monotonic() + _END_WITHIN_S
    poll = select.poll()
    for descriptor in left:
        poll.register(descriptor, select.POLLIN)
    while left:
        found = poll.poll(_LOOK_EVERY_MS)
        for descriptor, _ in found:
            poll.unregister(descriptor)
            left.discard(descriptor)
            ended()
        if not found and not _living(spaces):
            return
        if time.monotonic() > deadline:
            pids = ", ".join(map(str, _living(spaces)))
            raise LabError(f"processes do not end in spite of SIGKILL: {pids}")


def _living(spaces: set[str]) -> list[int]:
    """Processes in these process namespaces, but for their first and those that have ended.

    A host's first process stays for as long as somebody outside does not wait for a child
    that ended there; it has let go of everything else by then.
    """
    found = []
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{entry}/ns/pid") not in spaces:
                continue
            with open(f"/proc/{entry}/status", encoding="utf-8", errors="replace") as file:
                fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
            if fields["State"][0] not in "ZX" and fields["NSpid"].split()[-1] != "1":
                found.append(int(entry))
    return found


def is_ours(lab: str, host: str, path: str) -> bool:
    """Whether what lies at a pin's path is the lab's: a namespace with its mark, or no namespace.

    A file that is no namespace was left by an ``up`` that was killed before it mounted one.
    """
    if os.path.getsize(path) == 0 and not os.path.ismount(path):
        return True
    return has_mark(lab, host, path)


def has_mark(lab: str, host: str, path: str) -> bool:
    """Whether a network namespace lies there, and its loopback carries the host's mark."""
    try:
        with NetNS(path) as space:
            loopback = space.netlink().link("lo")
    except KernelError:
        return False
    return loopback is not None and loopback.alias == marks.host_mark(lab, host)
