"""``cnm start|attach|exec``."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from cnm.cli.client import Client, segment
from cnm.cli.command import Call, Command, Flag
from cnm.cli.creationflags import DETACH_KEYS, ENVIRONMENT, PROCESS
from cnm.cli.errors import CommandError, ConnectionFailed
from cnm.cli.forwarding import resize, to_container, window
from cnm.cli.streams import Detached, Streams
from cnm.cli.terminal import STDIN, STDOUT, Raw, check_input, is_terminal, size
from cnm.cli.variables import environment
from cnm.cli.waiting import NEXT_EXIT, REMOVED, Waiting

_LOST = 255


class _Container:
    """What these commands need to know of a container."""

    def __init__(self, client: Client, reference: str) -> None:
        found = client.get(f"/containers/{segment(reference, 'container')}/json")
        document = found if isinstance(found, dict) else {}
        config, state = document.get("Config") or {}, document.get("State") or {}
        host = document.get("HostConfig") or {}
        self.id = str(document.get("Id") or reference)
        self.tty = bool(config.get("Tty"))
        self.open_stdin = bool(config.get("OpenStdin"))
        self.removed_at_end = bool(host.get("AutoRemove"))
        self._state: Mapping[str, object] = state

    def check_running(self) -> None:
        """Refuses to attach to what does not run.

        :raises CommandError: with Docker's words.
        """
        if not self._state.get("Running"):
            raise CommandError("You cannot attach to a stopped container, start it first")
        if self._state.get("Restarting"):
            raise CommandError(
                "You cannot attach to a restarting container, wait until it is running"
            )


def start(call: Call) -> int:
    """Starts containers; with ``--attach`` stays with the one."""
    if call.switch("attach") or call.switch("interactive"):
        return _start_attached(call)
    client = Client(call.host)
    failed: list[str] = []
    for name in call.arguments:
        try:
            client.post(f"/containers/{segment(name, 'container')}/start")
            sys.stdout.write(f"{name}\n")
        except ConnectionFailed:
            raise
        except CommandError as error:
            failed.append(name)
            sys.stdout.flush()
            sys.stderr.write(f"{error}\n")
    if failed:
        raise CommandError(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _start_attached(call: Call) -> int:
    if len(call.arguments) > 1:
        raise CommandError("you cannot start and attach multiple containers at once")
    client = Client(call.host)
    container = _Container(client, call.arguments[0])
    with to_container(client, container.id, not container.tty):
        try:
            return _follow(call, client, container)
        except Detached:
            return 0


def _follow(call: Call, client: Client, container: _Container) -> int:
    """Attaches, waits and starts, in this order."""
    stdin = call.switch("interactive") and container.open_stdin
    streams = _streams(call, client, container, container.id, stdin)
    path = f"/containers/{segment(container.id, 'container')}"
    try:
        condition = REMOVED if container.removed_at_end else NEXT_EXIT
        waiting = Waiting(client, container.id, condition)
        resizing = window(client, f"{path}/resize", container.tty and is_terminal(STDOUT))
        with Raw(stdin and container.tty), resizing:
            client.post(f"{path}/start")
            if container.tty:
                resize(client, f"{path}/resize")
            streams.run()
        return waiting.status()
    finally:
        streams.close()


def _streams(
    call: Call, client: Client, container: _Container, reference: str, stdin: bool
) -> Streams:
    taken = client.upgrade(
        f"/containers/{segment(reference, 'container')}/attach",
        stream="1",
        stdin="1" if stdin else None,
        stdout="1",
        stderr="1",
        detachKeys=call.string("detach-keys") or None,
    )
    return Streams(taken, stdin=stdin, tty=container.tty, keys=call.string("detach-keys"))


def attach(call: Call) -> int:
    """Attaches to a running container."""
    client = Client(call.host)
    name = call.arguments[0]
    waiting = Waiting(client, name)
    container = _Container(client, name)
    container.check_running()
    no_stdin = call.switch("no-stdin")
    check_input(not no_stdin, container.tty)
    proxied = call.switch("sig-proxy", True) and not container.tty
    with to_container(client, name, proxied):
        streams = _streams(call, client, container, name, container.open_stdin and not no_stdin)
        try:
            # It may have ended between the two; then nothing would ever come.
            _Container(client, name).check_running()
            _forward(client, container, name, streams, container.open_stdin and not no_stdin)
        finally:
            streams.close()
    code, problem = waiting.result()
    if problem:
        raise CommandError(problem)
    return code


def _forward(
    client: Client, container: _Container, name: str, streams: Streams, stdin: bool
) -> None:
    path = f"/containers/{segment(name, 'container')}/resize"
    shown = container.tty and is_terminal(STDOUT)
    with Raw(stdin and container.tty), window(client, path, shown):
        if shown:
            resize(client, path, more=1)  # a change of size makes programs draw anew
            resize(client, path)
        streams.run()


def execute(call: Call) -> int:
    """Runs a command in a running container; ends with its status."""
    body = execution(call)
    client = Client(call.host)
    name = call.arguments[0]
    path = f"/containers/{segment(name, 'container')}"
    # First of all: a name that there is not shall be the error, and no exec be left over.
    client.get(f"{path}/json")
    tty = call.switch("tty")
    if not call.switch("detach"):
        check_input(call.switch("interactive"), tty)
    answer = client.post(f"{path}/exec", body)
    identifier = segment(str(answer.get("Id", "")) if isinstance(answer, dict) else "", "exec")
    beginning: dict[str, object] = {"Detach": call.switch("detach"), "Tty": tty}
    if tty:
        beginning["ConsoleSize"] = list(size())
    if call.switch("detach"):
        client.post(f"/exec/{identifier}/start", beginning)
        return 0
    taken = client.upgrade(f"/exec/{identifier}/start", beginning)
    stdin = call.switch("interactive")
    streams = Streams(taken, stdin=stdin, tty=tty, keys=call.string("detach-keys"))
    resized = tty and is_terminal(STDIN)
    try:
        with Raw(stdin and tty), window(client, f"/exec/{identifier}/resize", resized):
            if resized:
                resize(client, f"/exec/{identifier}/resize")
            streams.run()
    finally:
        streams.close()
    return _exit_code(client, identifier)


def _exit_code(client: Client, identifier: str) -> int:
    try:
        found = client.get(f"/exec/{identifier}/json")
    except ConnectionFailed:
        return _LOST
    code = found.get("ExitCode") if isinstance(found, dict) else None
    return code if isinstance(code, int) else 0


def execution(call: Call) -> dict[str, object]:
    """The body of the request that makes an exec: what ``docker exec`` sends.

    :raises CommandError: for a file of variables that cannot be read.
    """
    attached = not call.switch("detach")
    body: dict[str, object] = {
        "User": call.string("user"),
        "Privileged": call.switch("privileged"),
        "Tty": call.switch("tty"),
        "AttachStdin": attached and call.switch("interactive"),
        "AttachStderr": attached,
        "AttachStdout": attached,
        "Detach": not attached,
        "DetachKeys": call.string("detach-keys"),
        "Env": environment(call),
        "WorkingDir": call.string("workdir"),
        "Cmd": list(call.arguments[1:]),
    }
    if call.switch("tty"):
        body["ConsoleSize"] = list(size())
    return body


START = Command(
    start,
    "Start one or more stopped containers",
    usage="[OPTIONS] CONTAINER [CONTAINER...]",
    flags=(
        Flag("attach", "bool", "Show its output and pass signals on", short="a"),
        DETACH_KEYS,
        Flag("interactive", "bool", "Pass standard input on", short="i"),
    ),
    minimum=1,
    maximum=None,
    names=("containers",),
    examples=("start c1 c2", "start -ai c1"),
)
ATTACH = Command(
    attach,
    "Attach standard input, output and error to a running container",
    usage="[OPTIONS] CONTAINER",
    flags=(
        DETACH_KEYS,
        Flag("no-stdin", "bool", "Do not pass standard input on"),
        Flag("sig-proxy", "bool", "Pass signals on to the process", default="true"),
    ),
    minimum=1,
    maximum=1,
    names=("containers",),
    examples=("attach c1", "attach --detach-keys ctrl-x c1"),
)
EXEC = Command(
    execute,
    "Run a command in a running container",
    usage="[OPTIONS] CONTAINER COMMAND [ARG...]",
    flags=(
        *ENVIRONMENT,
        *PROCESS,
        Flag("detach", "bool", "Leave it in the background", short="d"),
        DETACH_KEYS,
    ),
    minimum=2,
    maximum=None,
    names=("containers", ""),
    interspersed=False,
    examples=("exec c1 ip addr", "exec -it c1 sh"),
)
