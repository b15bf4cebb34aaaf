"""``cnm stop|restart|kill|rm|wait|rename``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

from cnm.cli.client import Client, segment
from cnm.cli.command import Call, Command, Flag
from cnm.cli.errors import CommandError, ConnectionFailed, DaemonError
from cnm.cli.waiting import Waiting

_NOT_FOUND = 404
_AT_ONCE = 50  # as Docker's command


def stop(call: Call) -> int:
    """Stops containers, all at once; prints the names of the stopped."""
    return _each(call, lambda client, path: client.post(f"{path}/stop", **_ending(call)))


def restart(call: Call) -> int:
    """Stops containers and starts them again; prints their names."""
    return _each(call, lambda client, path: client.post(f"{path}/restart", **_ending(call)))


def kill(call: Call) -> int:
    """Sends a signal to containers; prints their names."""
    signal = call.string("signal") or None
    return _each(call, lambda client, path: client.post(f"{path}/kill", signal=signal))


def rm(call: Call) -> int:
    """Removes containers; prints the names of the removed."""

    def remove(client: Client, path: str) -> None:
        client.delete(
            path,
            force="1" if call.switch("force") else None,
            link="1" if call.switch("link") else None,
            v="1" if call.switch("volumes") else None,
        )

    names = [name.strip("/") for name in call.arguments]
    if "" in names:
        raise CommandError("container name cannot be empty")
    return _each(call, remove, forgiven=call.switch("force"))


def _ending(call: Call) -> dict[str, str | None]:
    timeout = str(call.integer("timeout")) if call.given("timeout") else None
    return {"signal": call.string("signal") or None, "t": timeout}


def _each(call: Call, do: Callable[[Client, str], object], forgiven: bool = False) -> int:
    """Does it to each container, whatever becomes of the others.

    ``forgiven``: one that there is not is told, and no failure.
    """
    client = Client(call.host)

    def one(name: str) -> None:
        do(client, f"/containers/{segment(name.strip('/'), 'container')}")

    failures: list[str] = []
    for name, error in _together(call.arguments, one):
        if error is None:
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()
        elif isinstance(error, ConnectionFailed):
            raise error
        elif forgiven and isinstance(error, DaemonError) and error.code == _NOT_FOUND:
            sys.stderr.write(f"{error}\n")
        else:
            failures.append(str(error))
    if failures:
        raise CommandError("\n".join(failures))
    return 0


def _together(
    names: Sequence[str], do: Callable[[str], None]
) -> Iterator[tuple[str, CommandError | None]]:
    """Does it to all names at once; what became of each, in their order."""
    if len(names) == 1:
        yield names[0], _attempt(do, names[0])
        return
    from threading import Semaphore, Thread

    room = Semaphore(_AT_ONCE)
    results: dict[int, CommandError | None] = {}

    def work(place: int) -> None:
        with room:
            results[place] = _attempt(do, names[place])

    threads = [Thread(target=work, args=(place,), daemon=True) for place in range(len(names))]
    for thread in threads:
        thread.start()
    for place, thread in enumerate(threads):
        thread.join()
        yield names[place], results[place]


def _attempt(do: Callable[[str], None], name: str) -> CommandError | None:
    try:
        do(name)
    except CommandError as error:
        return error
    return None


def wait(call: Call) -> int:
    """Waits for containers to stop, one after the other; prints their exit statuses."""
    client = Client(call.host)
    failures: list[str] = []
    for name in call.arguments:
        try:
            code, _ = Waiting(client, name).result()
            sys.stdout.write(f"{code}\n")
            sys.stdout.flush()
        except ConnectionFailed:
            raise
        except CommandError as error:
            failures.append(str(error))
    if failures:
        raise CommandError("\n".join(failures))
    return 0


def rename(call: Call) -> int:
    """Gives a container another name."""
    old, new = (name.strip() for name in call.arguments)
    if not old or not new:
        raise CommandError("Error: Neither old nor new names may be empty")
    try:
        Client(call.host).post(f"/containers/{segment(old, 'container')}/rename", name=new)
    except DaemonError as error:
        problem = f"{error}\nError: failed to rename container named {old}"
        raise CommandError(problem) from None
    return 0


_ENDING = (
    Flag("signal", "string", "Signal to send", short="s"),
    Flag("time", "int", "", same_as="timeout"),
    Flag("timeout", "int", "Seconds to wait before it is killed, -1 for ever", short="t"),
)
_CONTAINERS = "CONTAINER [CONTAINER...]"

STOP = Command(
    stop,
    "Stop one or more running containers",
    usage=f"[OPTIONS] {_CONTAINERS}",
    flags=_ENDING,
    minimum=1,
    maximum=None,
    names=("containers",),
    examples=("stop c1", "stop -t 2 c1 c2"),
)
RESTART = Command(
    restart,
    "Restart one or more containers",
    usage=f"[OPTIONS] {_CONTAINERS}",
    flags=_ENDING,
    minimum=1,
    maximum=None,
    names=("containers",),
    examples=("restart c1",),
)
KILL = Command(
    kill,
    "Kill one or more running containers",
    usage=f"[OPTIONS] {_CONTAINERS}",
    flags=(Flag("signal", "string", "Signal to send, KILL if not given", short="s"),),
    minimum=1,
    maximum=None,
    names=("containers",),
    examples=("kill c1", "kill -s HUP c1"),
)
RM = Command(
    rm,
    "Remove one or more containers",
    usage=f"[OPTIONS] {_CONTAINERS}",
    flags=(
        Flag("force", "bool", "Kill what runs, and no error if there is none", short="f"),
        Flag("link", "bool", "Remove the link of this name, not the container", short="l"),
        Flag("volumes", "bool", "Its anonymous volumes too", short="v"),
    ),
    minimum=1,
    maximum=None,
    names=("containers",),
    examples=("rm c1", "rm -f c1 c2"),
)
WAIT = Command(
    wait,
    "Wait for containers to stop, then print their exit statuses",
    usage=_CONTAINERS,
    minimum=1,
    maximum=None,
    names=("containers",),
    examples=("wait c1",),
)
RENAME = Command(
    rename,
    "Rename a container",
    usage="CONTAINER NEW_NAME",
    minimum=2,
    maximum=2,
    names=("containers", ""),
    examples=("rename c1 web",),
)
