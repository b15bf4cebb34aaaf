"""What happens between the supervisor's fork and the command: the children's side.

The supervisor forks the *entry* process, which makes the control groups and the namespaces;
it forks the *first* process, pid 1 in them, puts it into the groups, and ends. The first
process builds the root meanwhile, waits until the supervisor has written its pid to disk
(``go``), and becomes the command. A supervisor that dies before that takes both along:
their channel breaks. No exec of another Python lies on the way: that alone costs 15 ms.

Messages to the supervisor: ``pid`` and ``joined`` from the entry process; ``terminal`` with a
descriptor, ``waiting`` (for go) and ``ready`` (before execve) from the first; ``error``, with
Docker's exit code, from either. The end of the channel after ``ready`` and without an error:
the command runs.

The supervisor is not dumpable (prctl), nor are these children until they exec: processes of
the container cannot look into them although they share its namespaces.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cnm.runtime.container import confine, mounts, rootfs, syscalls, users
from cnm.runtime.container.cgroup import ControlGroups
from cnm.runtime.container.confine import Refused
from cnm.runtime.container.plan import Confinement, ContainerPlan, ExecPlan, environment
from cnm.runtime.kernel import packets
from cnm.runtimeapi import Bind, ProcessSpec

_NAMESPACES = (
    syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWPID
)
_TIOCSPTLCK, _TIOCGPTN = 0x40045431, 0x80045430  # unlock; the slave's number
_TIOCGPTPEER = 0x5441  # asm-generic/ioctls.h: the slave of a master, without following a path
_SPARE = 100  # descriptors are first moved out of the way, to here


@dataclass(frozen=True, slots=True)
class Pipes:
    """Paths of the FIFOs of a process without a terminal; stdin empty: /dev/null."""

    stdin: str
    stdout: str
    stderr: str


def spawn(run: Callable[[socket.socket, Sequence[int]], None], kept: Sequence[int] = ()) -> Child:
    """Fork; in the child call ``run`` with its channel and the descriptors of ``kept``.

    The child keeps those only (renumbered), and standard ones. It never returns.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return Child(pid, ours)
    try:
        numbers = _keep_only([theirs.fileno(), *kept])
        _run_guarded(run, socket.socket(fileno=numbers[0]), numbers[1:])
    finally:
        os._exit(confine.NOT_STARTED)


@dataclass(frozen=True, slots=True)
class Child:
    """The supervisor's side of a launch."""

    pid: int
    channel: socket.socket


def _keep_only(descriptors: Sequence[int]) -> list[int]:
    spare = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _SPARE) for number in descriptors]
    kept = [os.dup2(number, 3 + index, inheritable=False) for index, number in enumerate(spare)]
    syscalls.close_from(3 + len(kept))
    return kept


def _run_guarded(
    run: Callable[[socket.socket, Sequence[int]], None],
    channel: socket.socket,
    kept: Sequence[int],
) -> None:
    """Report whatever goes wrong, then end."""
    try:
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # Python ignores two of them, we the others
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        run(channel, kept)
    except BaseException as error:
        refused = error if isinstance(error, Refused) else Refused(_text(error))
        message = {"error": str(refused), "code": refused.code, "plain": refused.plain}
        packets.send(channel, message)


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return str(error) or type(error).__name__


def container(plan: ContainerPlan, directory: str, pipes: Pipes, groups: ControlGroups) -> Child:
    """Launch a container's first process. ``directory`` is its own under the exec root."""

    def entry(channel: socket.socket, _kept: Sequence[int]) -> None:
        spec = plan.spec
        _prepare_entry(spec.oom_score_adj)
        groups.create(spec.id, spec.limits, all_devices=spec.security.privileged)
        if spec.network_namespace:
            _join_network(spec.network_namespace)
        syscalls.unshare(_NAMESPACES & ~syscalls.CLONE_NEWNS)
        _write_sysctls(plan.sysctls)
        streams = _open_pipes(pipes, spec.process)
        pid = _fork_first(
            channel, lambda: _first_of_container(plan, directory, channel, streams, groups)
        )
        _join_groups(channel, groups, spec.id, pid)

    return spawn(entry)


def _prepare_entry(oom_score_adj: int) -> None:
    os.umask(0o022)
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(oom_score_adj))
    except PermissionError:
        return  # without CAP_SYS_RESOURCE a score cannot be lowered; it is a wish


def _join_network(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    syscalls.setns(descriptor, syscalls.CLONE_NEWNET)
    os.close(descriptor)


def _write_sysctls(values: Mapping[str, str]) -> None:
    """``/proc/sys`` shows the writer's own namespaces: this process has just entered them."""
    for name, value in values.items():
        path = "/proc/sys/" + name.replace(".", "/")
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(value)
        except OSError as error:
            raise Refused(
                f"write sysctl key {name}: open {path}: {os.strerror(error.errno or 0).lower()}"
            ) from error


def _open_pipes(pipes: Pipes, process: ProcessSpec) -> tuple[int, int, int] | None:
    """Standard streams, opened to be read and written.

    A FIFO that its own writer can also read never breaks: the process does not get SIGPIPE
    while there is no supervisor, and the next one opens the FIFO again.
    """
    if process.tty:
        return None
    # not waiting for a writer: the input may have come, and ended, before us
    stdin = os.open(pipes.stdin or "/dev/null", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(stdin, True)
    stdout = os.open(pipes.stdout, os.O_RDWR | os.O_CLOEXEC)
    stderr = os.open(pipes.stderr, os.O_RDWR | os.O_CLOEXEC)
    return stdin, stdout, stderr


def _fork_first(channel: socket.socket, run: Callable[[], None]) -> int:
    """Fork into the new pid namespace and tell the supervisor the pid."""
    pid = os.fork()
    if pid == 0:
        run()
        os._exit(confine.NOT_STARTED)
    packets.send(channel, {"pid": pid})
    return pid


def _join_groups(
    channel: socket.socket, groups: ControlGroups, container_id: str, pid: int
) -> None:
    """Put the first process into its control groups, while it builds its root.

    The kernel takes 10 to 15 ms for the first group (it waits for RCU): too long to wait for
    before the fork. Nothing but our own code runs outside: ``go`` comes after this.
    """
    groups.join(container_id, pid)
    packets.send(channel, {"joined": True})
    os._exit(0)


def _first_of_container(
    plan: ContainerPlan,
    directory: str,
    channel: socket.socket,
    streams: tuple[int, int, int] | None,
    groups: ControlGroups,
) -> None:
    spec = plan.spec
    privileged = spec.security.privileged
    os.setsid()
    syscalls.unshare(syscalls.CLONE_NEWNS)  # not before: pivot_root moves all who share it
    init = [Bind(plan.init_path, rootfs.INIT_DESTINATION, read_only=True)] if spec.init else []
    binds = mounts.take([*init, *spec.binds])
    rootfs.detach_host()
    nodes = rootfs.host_nodes() if privileged else []
    rootfs.enter(spec.root, os.path.join(directory, "rootfs"))
    rootfs.mount_system(spec.shm_size_bytes, privileged=privileged)
    rootfs.add_host_nodes(nodes)
    null = rootfs.open_null()
    rootfs.mask(spec.hidden_paths, null)
    _name_host(spec.hostname, spec.domainname)
    _terminal_or_streams(spec.process, streams, channel, console=True)
    _wait_for_go(channel)
    syscalls.unshare(syscalls.CLONE_NEWCGROUP)  # shows the groups joined by now, and no others
    rootfs.mount_groups(groups.found, read_only=not privileged)
    mounts.place(binds, spec.tmpfs)
    os.makedirs(spec.process.working_directory, exist_ok=True)
    if not privileged:
        rootfs.mask(rootfs.MASKED, null)
        rootfs.make_read_only(rootfs.READ_ONLY)
    if spec.root.read_only:
        rootfs.make_root_read_only()
    confine.limit_resources(spec.resource_limits)
    wrapper = (rootfs.INIT_DESTINATION, "--") if spec.init else ()
    _become_command(spec.process, plan.confinement, spec.hostname, channel, wrapper)


def _wait_for_go(channel: socket.socket) -> None:
    """Until the supervisor has the pid on disk and the groups are joined.

    :raises EOFError: it has died: so shall we.
    """
    packets.send(channel, {"waiting": True})
    packets.receive(channel)


def _name_host(hostname: str, domainname: str) -> None:
    if hostname:
        socket.sethostname(hostname)
    if domainname:
        syscalls.set_domain_name(domainname)


def execution(
    plan: ExecPlan,
    hostname: str,
    oom_score_adj: int,
    init: int,
    pipes: Pipes,
    groups: ControlGroups,
) -> Child:
    """Launch a further command in a container. ``init`` is a pidfd of its first process."""

    def entry(channel: socket.socket, kept: Sequence[int]) -> None:
        spec = plan.spec
        _prepare_entry(oom_score_adj)
        streams = _open_pipes(pipes, spec.process)
        syscalls.setns(kept[0], syscalls.CLONE_NEWPID)  # holds for children only
        pid = _fork_first(
            channel, lambda: _first_of_exec(plan, hostname, kept[0], channel, streams)
        )
        _join_groups(channel, groups, spec.container_id, pid)

    return spawn(entry, [init])


def _first_of_exec(
    plan: ExecPlan,
    hostname: str,
    init: int,
    channel: socket.socket,
    streams: tuple[int, int, int] | None,
) -> None:
    os.setsid()
    rest = _NAMESPACES & ~syscalls.CLONE_NEWPID
    syscalls.setns(init, rest | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWCGROUP)
    os.close(init)
    _terminal_or_streams(plan.spec.process, streams, channel, console=False)
    _wait_for_go(channel)
    _become_command(plan.spec.process, plan.confinement, hostname, channel, ())


def _terminal_or_streams(
    process: ProcessSpec,
    streams: tuple[int, int, int] | None,
    channel: socket.socket,
    *,
    console: bool,
) -> None:
    """Make descriptors 0 to 2 what the command shall find there."""
    if streams is None:
        slave = _open_terminal(process, channel, console=console)
        streams = (slave, slave, slave)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number, inheritable=True)
    for descriptor in set(streams):
        os.close(descriptor)
    if process.tty:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _open_terminal(process: ProcessSpec, channel: socket.socket, *, console: bool) -> int:
    """A terminal of the container's own; its master goes to the supervisor.

    In an exec the container may have prepared ``/dev``: what is opened must be a ptmx, and
    the slave is asked of the master, not looked up.
    """
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    info = os.fstat(master)
    if not stat.S_ISCHR(info.st_mode) or info.st_rdev != os.makedev(5, 2):
        raise Refused("/dev/pts/ptmx is no terminal multiplexer")
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    if process.rows or process.columns:
        size = struct.pack("HHHH", process.rows, process.columns, 0, 0)
        fcntl.ioctl(master, termios.TIOCSWINSZ, size)
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if console:
        number = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, b"\0\0\0\0"))[0]
        os.close(os.open("/dev/console", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o620))
        syscalls.mount(f"/dev/pts/{number}", "/dev/console", "", syscalls.MS_BIND)
    packets.send(channel, {"terminal": True}, [master])
    os.close(master)
    return int(slave)


def _become_command(
    process: ProcessSpec,
    confinement: Confinement,
    hostname: str,
    channel: socket.socket,
    wrapper: tuple[str, ...],
) -> None:
    try:
        account = users.resolve(
            process.user, process.groups, users.read("/etc/passwd"), users.read("/etc/group")
        )
    except users.UnknownUser as error:
        raise Refused(str(error), plain=True) from error
    variables = environment(process.environment, hostname, tty=process.tty)
    variables.setdefault("HOME", account.home)
    for descriptor in (0, 1, 2):
        _hand_over(descriptor, account.uid)
    confine.become(account, confinement, process.working_directory)
    arguments = (*wrapper, *process.arguments)
    path = confine.find_executable(arguments[0], variables)
    packets.send(channel, {"ready": True})
    confine.execute(path, arguments, variables)


def _hand_over(descriptor: int, uid: int) -> None:
    """The user may open its streams by name (``/dev/stdout``), as with Docker."""
    info = os.fstat(descriptor)
    if info.st_uid != uid and info.st_rdev != os.makedev(1, 3):  # not the host's /dev/null
        os.fchown(descriptor, uid, -1)
