"""``cnm run|create``."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

from cnm.cli.client import Client, segment
from cnm.cli.command import Call, Command, Flag
from cnm.cli.creation import Document, creation, warnings
from cnm.cli.creationflags import CREATION, DETACH_KEYS
from cnm.cli.errors import CommandError, DaemonError
from cnm.cli.forwarding import resize, to_container, window
from cnm.cli.streams import Detached, Streams
from cnm.cli.terminal import STDOUT, Raw, check_input, is_terminal
from cnm.cli.variables import unreadable
from cnm.cli.waiting import NEXT_EXIT, REMOVED, Waiting

_NOT_FOUND = 404
_FAILED = 125
_NOT_EXECUTABLE = 126
_NO_COMMAND = 127
# What runtimes say of a command, in their own words and in the kernel's.
_ABSENT = ("executable file not found", "no such file or directory")
_UNUSABLE = ("permission denied", "is a directory")
_NO_IMAGE = "No such image: "


def create(call: Call) -> int:
    """Makes a container and prints its id."""
    try:
        body = creation(call)
    except CommandError as error:
        raise _with_help(call, error, _FAILED) from None
    sys.stdout.write(f"{_create(call, body)}\n")
    return 0


def run(call: Call) -> int:
    """Makes a container, starts it, and stays with it unless ``--detach`` is given."""
    try:
        body = creation(call)
    except CommandError as error:
        raise _with_help(call, error, _FAILED) from None
    if call.switch("detach"):
        if call.given("attach"):
            raise CommandError("conflicting options: cannot specify both --attach and --detach")
    else:
        check_input(body["AttachStdin"] is True, body["Tty"] is True)
    try:
        identifier = _create(call, body)
    except CommandError as error:
        raise _with_help(call, error, _status(error)) from None
    client = Client(call.host)
    if body["AttachStdin"] or body["AttachStdout"] or body["AttachStderr"]:
        with to_container(client, identifier, call.switch("sig-proxy", True)):
            return _stay(call, client, identifier, body)
    sys.stdout.write(f"{identifier}\n")
    sys.stdout.flush()
    waiting = Waiting(client, identifier, _condition(call))
    try:
        _start(call, client, identifier, waiting)
    finally:
        waiting.close()
    return 0


def _condition(call: Call) -> str:
    return REMOVED if call.switch("rm") else NEXT_EXIT


def _stay(call: Call, client: Client, identifier: str, body: Document) -> int:
    """Attaches, waits and starts, in this order: nothing that happens is missed."""
    path = f"/containers/{segment(identifier, 'container')}"
    stdin, tty = body["AttachStdin"] is True, body["Tty"] is True
    keys = call.string("detach-keys")
    taken = client.upgrade(
        f"{path}/attach",
        stream="1",
        stdin="1" if stdin else None,
        stdout="1" if body["AttachStdout"] else None,
        stderr="1" if body["AttachStderr"] else None,
        detachKeys=keys or None,
    )
    streams = Streams(taken, stdin=stdin, tty=tty, keys=keys)
    try:
        waiting = Waiting(client, identifier, _condition(call))
        resizing = window(client, f"{path}/resize", tty and is_terminal(STDOUT))
        with Raw(stdin and tty), resizing:
            _start(call, client, identifier, waiting)
            if tty:
                resize(client, f"{path}/resize")
            streams.run()
        return waiting.status()
    except Detached:
        return 0
    finally:
        streams.close()


def _start(call: Call, client: Client, identifier: str, waiting: Waiting) -> None:
    try:
        client.post(f"/containers/{segment(identifier, 'container')}/start")
    except CommandError as error:
        if call.switch("rm") and isinstance(error, DaemonError):
            waiting.result()  # until it is removed
        raise _with_help(call, error, _status(error)) from None


def _with_help(call: Call, error: CommandError, status: int) -> CommandError:
    """An error of ``run`` as Docker's command words it."""
    program = call.path.partition(" ")[0]
    more = f"Run '{call.path} --help' for more information"
    return CommandError(f"{program}: {error}\n\n{more}", status)


def _status(error: CommandError) -> int:
    """125, or 126 and 127 where the daemon's words say that the command is to blame."""
    text = str(error).lower()
    if any(words in text for words in _ABSENT):
        return _NO_COMMAND
    return _NOT_EXECUTABLE if any(words in text for words in _UNUSABLE) else _FAILED


def _create(call: Call, body: Document) -> str:
    """Makes the container; its id.

    :raises CommandError: as the daemon words it; for a missing image, how to get it.
    """
    cidfile = _IdFile(call.string("cidfile"))
    try:
        answer = Client(call.host).post(
            "/containers/create", body, name=call.string("name") or None
        )
    except CommandError as error:
        cidfile.discard()
        raise _missing_image(error) from None
    found = answer if isinstance(answer, dict) else {}
    for warning in [*(found.get("Warnings") or ()), *warnings(body)]:
        sys.stderr.write(f"WARNING: {warning}\n")
    identifier = str(found.get("Id", ""))
    cidfile.write(identifier)
    return identifier


def _missing_image(error: CommandError) -> CommandError:
    text = str(error).removeprefix("Error response from daemon: ")
    absent = isinstance(error, DaemonError) and error.code == _NOT_FOUND
    if not absent or not text.startswith(_NO_IMAGE):
        return error
    from cnm.imageapi import missing_image

    return CommandError(missing_image(text.removeprefix(_NO_IMAGE)))


class _IdFile:
    """``--cidfile``: made before the container, so that none is made in vain."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: TextIOWrapper | None = None
        if not path:
            return
        try:
            self._file = open(path, "x", encoding="utf-8")
        except FileExistsError:
            raise CommandError(
                "container ID file found, make sure the other container isn't running "
                f"or delete {path}"
            ) from None
        except OSError as error:
            problem = unreadable(path, error)
            raise CommandError(f"failed to create the container ID file: {problem}") from None

    def write(self, identifier: str) -> None:
        """Writes the id."""
        if self._file:
            with self._file:
                self._file.write(identifier)

    def discard(self) -> None:
        """Removes the file again."""
        if self._file:
            self._file.close()
            os.unlink(self._path)


RUN = Command(
    run,
    "Create and run a new container from an image",
    usage="[OPTIONS] IMAGE [COMMAND] [ARG...]",
    flags=(
        *CREATION,
        Flag("detach", "bool", "Leave it in the background and print its id", short="d"),
        DETACH_KEYS,
        Flag("sig-proxy", "bool", "Pass signals on to the process", default="true"),
    ),
    minimum=1,
    maximum=None,
    names=("images", ""),
    interspersed=False,
    examples=(
        "run --rm host ip addr",
        "run -d --name web --network localnet -p 5005:80 busybox httpd -f -h /srv",
        "run -it --network name=office,ip=10.1.0.7,alias=db busybox sh",
    ),
)
CREATE = Command(
    create,
    "Create a new container",
    usage="[OPTIONS] IMAGE [COMMAND] [ARG...]",
    flags=CREATION,
    minimum=1,
    maximum=None,
    names=("images", ""),
    interspersed=False,
    examples=("create --name c1 --network localnet host sleep 1d",),
)
