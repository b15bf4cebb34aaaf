"""A small process that forks hosts and daemons into being, for as long as an ``up`` takes.

Forking needs a process without threads, and whoever calls netlab's Python API may have some.
It keeps the lab's lock (a descriptor that it inherits) until all that it was asked to do has
happened, so that nobody works on a lab whose ``up`` was killed while a host of it is still
coming into being.

Requests and answers are JSON, one a datagram, on standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from cnm.netlab import groups, machine, marks, preloaded, syscalls

PACKET_BYTES = 1 << 20
_CREDENTIALS = struct.Struct("=iII")  # ucred: pid, uid, gid
_HOST = (
    syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWCGROUP
)
_ALL = _HOST | syscalls.CLONE_NEWNET


def main() -> int:
    """Serve until the other end is closed."""
    lock = int(sys.argv[1])
    os.set_inheritable(lock, False)  # no host or daemon keeps it
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever started us tells us to end, by closing
    channel = socket.socket(fileno=os.dup(0))
    while True:
        try:
            data = channel.recv(PACKET_BYTES)
        except ConnectionResetError:
            return 0
        if not data:
            return 0
        try:
            answer = _answer(json.loads(data))
        except Exception as error:
            answer = {"error": _text(error)}
        with contextlib.suppress(BrokenPipeError):  # killed meanwhile: what was asked is done
            channel.send(json.dumps(answer).encode())
        if "hosts" in answer and answer["daemons"]:
            with contextlib.suppress(Exception):  # told when a daemon is asked for
                preloaded.load()  # while links are made


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "hosts":
        made = make_hosts([machine.Plan(**plan) for plan in request["plans"]])
        return {"hosts": made, "daemons": request["daemons"]}
    return start_process(**request["process"])


# hosts


def make_hosts(plans: Sequence[machine.Plan]) -> list[dict[str, Any]]:
    """Make all of them beside one another; for each its ``pid``, or an ``error``."""
    begun = [_begin_host(plan) for plan in plans]
    return [_finish_host(plan, *parts) for plan, parts in zip(plans, begun, strict=True)]


def _begin_host(plan: machine.Plan) -> tuple[int, int, int]:
    """The helper's pid, and two pipes: the pid of the host's first process, and what failed.

    A process does not enter the process namespace that it makes, only its children do: the
    helper makes the namespaces, its child becomes the host's first process.
    """
    number, tell = os.pipe()
    errors, fail = os.pipe()

    def work() -> None:
        for _, group in plan.groups:
            groups.join(group)  # what we are in is the top of the new cgroup namespace
        syscalls.unshare(_ALL)
        child = _fork(lambda: machine.become(plan), fail)
        os.write(tell, str(child).encode())

    helper = _fork(work, fail)
    os.close(tell)
    os.close(fail)
    return helper, number, errors


def _finish_host(plan: machine.Plan, helper: int, number: int, errors: int) -> dict[str, Any]:
    first = _read_all(number)
    error = _read_all(errors)  # it ends when the host is there, or has failed
    os.waitpid(helper, 0)
    if error or not first:
        return {"error": error or "it was killed"}
    try:
        pin(plan.lab, plan.host, int(first))
    except OSError as failure:
        os.kill(int(first), signal.SIGKILL)
        return {"error": _text(failure)}
    return {"pid": int(first)}


def _read_all(pipe: int) -> str:
    with open(pipe, encoding="utf-8") as file:
        return file.read()


def pin(lab: str, host: str, pid: int) -> None:
    """Show the network namespace of a process to ip-netns(8), in the place of an older one."""
    path = marks.netns_path(lab, host)
    unpin(str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    syscalls.mount(f"/proc/{pid}/ns/net", str(path), flags=syscalls.MS_BIND)


def unpin(path: str) -> None:
    """Take a pin away. None is fine."""
    with contextlib.suppress(OSError):
        while True:
            syscalls.unmount(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


# processes on hosts


def start_process(
    host_pid: int,
    netns: str,
    command: Sequence[str],
    environment: dict[str, str],
    log: str,
    pid_file: str,
    groups_of_host: Sequence[str],
    ours: bool,
) -> dict[str, Any]:
    """Start a process that stays on a host; its ``pid`` as seen from here, or an ``error``.

    Its number and start time, as the host has them, go into ``pid_file`` before it runs.
    ``ours``: the command is of our own program, which then is forked instead of executed.

    It is forked three times: into the namespaces, away from whoever forked it, and out of the
    session. So the host's first process is its parent, and it is nobody's to wait for.
    """
    if ours:
        preloaded.load()
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    failure, write = os.pipe()

    def run() -> None:
        there.send(b"!")  # the kernel adds our pid, as the other end sees it
        _redirect(log)
        _write_pid(pid_file)
        os.chdir("/")
        for number in range(1, signal.NSIG):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        if ours:
            preloaded.become(command, environment)
        try:
            os.execvpe(command[0], list(command), environment)
        except OSError as error:  # it names the last place of the path that was looked at
            raise OSError(error.errno, error.strerror, command[0]) from None

    def leave() -> None:
        os.setsid()
        _fork(run, write)

    def enter() -> None:
        for group in groups_of_host:
            groups.join(group)
        enter_host(host_pid, netns)
        os.waitpid(_fork(leave, write), 0)

    helper = _fork(enter, write)
    there.close()
    os.close(write)
    try:
        error = _read_all(failure)  # it ends when the command runs, or has failed
        os.waitpid(helper, 0)
        if error:
            return {"error": error}
        return {"pid": _sender(here)}
    finally:
        here.close()


def enter_host(pid: int, netns: str) -> None:
    """Put the calling process into the namespaces of a host; its children into the host's pids."""
    network = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    process = os.pidfd_open(pid)
    try:
        syscalls.setns(network, syscalls.CLONE_NEWNET)
        syscalls.setns(process, _HOST)
    finally:
        os.close(network)
        os.close(process)


def _sender(channel: socket.socket) -> int:
    _, messages, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(_CREDENTIALS.size))
    return int(_CREDENTIALS.unpack(messages[0][2])[0])


def _redirect(log: str) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)


def _write_pid(path: str) -> None:
    with open("/proc/self/stat", encoding="ascii") as file:
        pid, _, rest = file.read().partition(" ")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{pid} {rest.rpartition(')')[2].split()[19]}")


def _fork(work: Callable[[], None], errors: int) -> int:
    """A child that does ``work`` and ends; what it raises goes into the pipe as text."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:
        os.write(errors, f"{_text(error)}".encode())
    finally:
        _end(status)


def _end(status: int) -> NoReturn:
    os._exit(status)


def _text(error: BaseException) -> str:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
