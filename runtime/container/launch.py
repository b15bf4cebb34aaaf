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

import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cnm.runtime.container import (
    accounts,
    confine,
    mounts,
    rootfs,
    standard,
    syscalls,
    usernamespace,
)
from cnm.runtime.container.cgroup import ControlGroups
from cnm.runtime.container.confine import Refused
from cnm.runtime.container.plan import Confinement, ContainerPlan, ExecPlan, environment
from cnm.runtime.container.usernamespace import Users
from cnm.runtime.kernel import packets
from cnm.runtimeapi import Bind, ContainerSpec, ProcessSpec

_NAMESPACES = (
    syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWPID
)
STOPPED = "cannot exec in a stopped container"  # runc's words
_SPARE = 100  # descriptors are first moved out of the way, to here


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
        syscalls.reset_signals()  # Python ignores some, who started us others
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


def container(
    plan: ContainerPlan, directory: str, pipes: standard.Pipes, groups: ControlGroups
) -> Child:
    """Launch a container's first process. ``directory`` is its own under the exec root."""

    def entry(channel: socket.socket, _kept: Sequence[int]) -> None:
        spec = plan.spec
        _prepare_entry(spec.oom_score_adj)
        groups.create(spec.id, spec.limits, all_devices=spec.security.privileged)
        users = _join_network(spec)
        users.unshare(syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC)
        syscalls.unshare(syscalls.CLONE_NEWPID)  # holds for children only
        _write_sysctls(plan.sysctls, users)
        streams = standard.open_pipes(pipes, spec.process)
        pid = _fork_first(
            channel, lambda: _first_of_container(plan, users, directory, channel, streams, groups)
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


def _join_network(spec: ContainerSpec) -> Users:
    """Enter the network namespace; whose users the container has may depend on it."""
    if not spec.network_namespace:
        return usernamespace.users_of(spec.ids, -1)
    descriptor = os.open(spec.network_namespace, os.O_RDONLY | os.O_CLOEXEC)
    syscalls.setns(descriptor, syscalls.CLONE_NEWNET)
    users = usernamespace.users_of(spec.ids, descriptor)
    os.close(descriptor)
    return users


def _write_sysctls(values: Mapping[str, str], users: Users) -> None:
    """``/proc/sys`` shows the writer's own namespaces: this process has just entered them.

    Those of an IPC namespace are writable for its root alone, from Linux 5.19 on.
    """
    for name, value in values.items():
        path = "/proc/sys/" + name.replace(".", "/")
        try:
            try:
                _write(path, value)
            except PermissionError:
                with users.as_root():
                    _write(path, value)
        except OSError as error:
            step = "open" if error.filename else "write"
            reason = os.strerror(error.errno or 0).lower()
            raise Refused(f"{step} {path}: {reason}") from error  # runc's words


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(value)


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
    users: Users,
    directory: str,
    channel: socket.socket,
    streams: tuple[int, int, int] | None,
    groups: ControlGroups,
) -> None:
    spec = plan.spec
    mountpoint = os.path.join(directory, "rootfs")
    os.makedirs(mountpoint, exist_ok=True)
    privileged = spec.security.privileged
    _new_session()
    syscalls.unshare(syscalls.CLONE_NEWNS)  # not before: pivot_root moves all who share it
    init = [Bind(plan.init_path, rootfs.INIT_DESTINATION, read_only=True)] if spec.init else []
    binds = mounts.take([*init, *spec.binds], users)
    rootfs.detach_host()
    nodes = rootfs.host_nodes() if privileged else []
    users.act_for_root()
    rootfs.enter(spec.root, mountpoint, users)
    rootfs.mount_system(spec.shm_size_bytes, users, privileged=privileged)
    rootfs.add_host_nodes(nodes)
    null = rootfs.open_null()
    rootfs.mask(spec.hidden_paths, null)
    rootfs.link_mounts()
    _name_host(spec.hostname, spec.domainname)
    standard.install(spec.process, streams, channel, console=True)
    _wait_for_go(channel)
    syscalls.unshare(syscalls.CLONE_NEWCGROUP)  # shows the groups joined by now, and no others
    rootfs.mount_groups(groups.found, read_only=not privileged)
    mounts.place(binds, spec.tmpfs)
    _make_directory(spec.process.working_directory)
    if not privileged:
        rootfs.mask(rootfs.masked(), null)
        rootfs.make_read_only(rootfs.READ_ONLY)
    if spec.root.read_only:
        rootfs.make_root_read_only()
    confine.limit_resources(spec.resource_limits)
    wrapper = (rootfs.INIT_DESTINATION, "--") if spec.init else ()
    _become_command(
        spec.process, plan.confinement, users, spec.hostname, channel, wrapper, own_mounts=True
    )


def _new_session() -> None:
    """Of processes, and of keys: those of whoever started the daemon are not the container's."""
    os.setsid()
    with contextlib.suppress(OSError):  # a kernel without keys, or a quota of them: nothing is lost
        syscalls.join_new_keyring()


def _wait_for_go(channel: socket.socket) -> None:
    """Until the supervisor has the pid on disk and the groups are joined.

    :raises EOFError: it has died: so shall we.
    """
    packets.send(channel, {"waiting": True})
    packets.receive(channel)


def _make_directory(path: str) -> None:
    """Where the command starts; made if it is missing, as Docker does."""
    try:
        os.makedirs(path, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise Refused(f"cannot mkdir: {path} is not a directory", plain=True) from error


def _name_host(hostname: str, domainname: str) -> None:
    if hostname:
        socket.sethostname(hostname)
    if domainname:
        syscalls.set_domain_name(domainname)


def execution(
    plan: ExecPlan,
    held: ContainerSpec,
    init: int,
    pipes: standard.Pipes,
    groups: ControlGroups,
) -> Child:
    """Launch a further command in the container ``held``; ``init``: its first process's pidfd."""

    def entry(channel: socket.socket, kept: Sequence[int]) -> None:
        spec = plan.spec
        _prepare_entry(held.oom_score_adj)
        streams = standard.open_pipes(pipes, spec.process)
        _join(kept[0], syscalls.CLONE_NEWPID)  # holds for children only
        pid = _fork_first(channel, lambda: _first_of_exec(plan, held, kept[0], channel, streams))
        _join_groups(channel, groups, spec.container_id, pid)

    return spawn(entry, [init])


def _join(init: int, kinds: int) -> None:
    try:
        syscalls.setns(init, kinds)
    except ProcessLookupError:
        raise Refused(STOPPED) from None


def _first_of_exec(
    plan: ExecPlan,
    held: ContainerSpec,
    init: int,
    channel: socket.socket,
    streams: tuple[int, int, int] | None,
) -> None:
    _new_session()
    rest = _NAMESPACES & ~syscalls.CLONE_NEWPID
    _join(init, rest | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWCGROUP)
    users = Users(held.ids, init)
    users.act_for_root()
    standard.install(plan.spec.process, streams, channel, console=False)
    _wait_for_go(channel)
    _become_command(
        plan.spec.process, plan.confinement, users, held.hostname, channel, (), own_mounts=False
    )


def _become_command(
    process: ProcessSpec,
    confinement: Confinement,
    users: Users,
    hostname: str,
    channel: socket.socket,
    wrapper: tuple[str, ...],
    *,
    own_mounts: bool,
) -> None:
    try:
        passwd, group = accounts.read("/etc/passwd"), accounts.read("/etc/group")
        account = accounts.resolve(process.user, process.groups, passwd, group)
    except accounts.UnknownUser as error:
        raise Refused(str(error), plain=True) from error
    variables = environment(process.environment, hostname, tty=process.tty)
    variables.setdefault("HOME", account.home)
    for descriptor in (0, 1, 2):
        standard.hand_over(descriptor, users.user(account.uid))
    users.enter(own_mounts=own_mounts)
    confine.become(account, confinement, process.working_directory)
    arguments = (*wrapper, *process.arguments)
    path = confine.find_executable(arguments[0], variables)
    packets.send(channel, {"ready": True})
    confine.execute(path, arguments, variables)
