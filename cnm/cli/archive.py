"""``cnm import|load``: images from archives."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from io import FileIO

from cnm.cli.client import Client
from cnm.cli.command import Call, Command, Flag
from cnm.cli.errors import CommandError
from cnm.cli.terminal import STDIN, STDOUT, is_terminal
from cnm.cli.variables import unreadable

_BLOCK = 1 << 18
_STDIN = "-"


def import_(call: Call) -> int:
    """Makes an image of a root file system's tar; prints its id."""
    source, *names = call.arguments
    with _opened(source) as file:
        answers = Client(call.host).upload(
            "/images/create",
            "text/plain",  # Docker's; the daemon looks at the content
            _blocks(file),
            fromSrc=_STDIN,
            repo=names[0] if names else None,
            message=call.string("message") or None,
            changes=call.strings("change"),
        )
        _show(answers)
    return 0


def load(call: Call) -> int:
    """Takes the images of an archive; prints their names."""
    source = call.string("input") or _STDIN
    if source == _STDIN and is_terminal(STDIN):
        raise CommandError("requested load from stdin, but stdin is empty")
    quiet = call.switch("quiet") or not is_terminal(STDOUT)
    with _opened(source) as file:
        answers = Client(call.host).upload(
            "/images/load", "application/x-tar", _blocks(file), quiet="1" if quiet else "0"
        )
        _show(answers)
    return 0


def _opened(path: str) -> FileIO:
    """The file, or standard input.

    :raises CommandError: when it cannot be opened.
    """
    try:
        return open(STDIN if path == _STDIN else path, "rb", buffering=0, closefd=path != _STDIN)
    except OSError as error:
        raise unreadable(path, error) from None


def _blocks(file: FileIO) -> Iterator[bytes]:
    try:
        while block := file.read(_BLOCK):
            yield block
    except OSError as error:
        raise CommandError(f"read {file.name}: {(error.strerror or '').lower()}") from None


def _show(answers: Iterable[object]) -> None:
    """Prints what the daemon tells of its progress.

    :raises CommandError: for the error that it tells last.
    """
    for answer in answers:
        if not isinstance(answer, dict):
            continue
        detail = answer.get("errorDetail")
        if detail or answer.get("error"):
            told = detail.get("message") if isinstance(detail, dict) else None
            raise CommandError(str(told or answer.get("error")))
        if answer.get("progressDetail"):
            continue
        text = str(answer["stream"]) if "stream" in answer else f"{answer.get('status', '')}\n"
        sys.stdout.write(text)
        sys.stdout.flush()


IMPORT = Command(
    import_,
    "Make an image of a root file system's tar",
    usage="[OPTIONS] FILE|- [REPOSITORY[:TAG]]",
    flags=(
        Flag("change", "list", "Instruction, as 'CMD [\"sh\"]' or 'ENV A=b'", short="c"),
        Flag("message", "string", "Comment", short="m"),
    ),
    minimum=1,
    maximum=2,
    examples=(
        "import rootfs.tar.gz debian:12",
        "import -c 'CMD [\"sh\"]' - busybox:latest < busybox.tar",
    ),
)
LOAD = Command(
    load,
    "Load the images of an archive: of `docker save`, or OCI",
    usage="[OPTIONS]",
    flags=(
        Flag("input", "string", "Archive; standard input if not given", short="i"),
        Flag("quiet", "bool", "Show no progress", short="q"),
    ),
    examples=("load -i busybox.tar", "load < busybox.tar"),
)
