"""The programs: find the command, run it, turn failures into messages and statuses.

Statuses: the command's own; 130 after Ctrl-C, 141 when the reader of the output has
gone (both silently, as a shell reports SIGINT and SIGPIPE).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from cnm.cli.command import Words, parse
from cnm.cli.commands import CNM, GLOBAL_FLAGS, NETWORK, Daemon, Entry, Group
from cnm.cli.errors import CommandError, FlagError

_NOT_YET = "not supported yet"
_INTERRUPTED = 130
_PIPE_CLOSED = 141
_EXAMPLES: Mapping[str, Sequence[str]] = {
    "cnm": (
        "cnm daemon",
        "cnm adopt c1 --netns /run/netns/c1",
        "cnm net create --subnet 10.1.0.0/24 localnet",
        "cnm net connect localnet c1",
    ),
    "net": ("net ls", "net create --ipv6 localnet", "net inspect localnet"),
}


def main() -> int:
    """``cnm …``"""
    _complete_streams()
    return run("cnm", CNM, sys.argv[1:])


def net() -> int:
    """``net …``, the same as ``cnm net …``"""
    _complete_streams()
    return run("net", NETWORK, sys.argv[1:])


def _complete_streams() -> None:
    """Opens what we were started without, lest a socket become standard input or output."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="ascii")
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")


def run(program: str, root: Group, argv: Sequence[str]) -> int:
    """Runs one command line and returns the exit status. Prints; never raises."""
    try:
        status = _dispatch(program, root, argv)
        sys.stdout.flush()
        return status
    except CommandError as error:
        return _report(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        return _drop_output(_PIPE_CLOSED)
    except OSError as error:
        sys.stderr.write(f"{program}: {error.strerror or error}\n")
        return _drop_output(1)


def _report(error: CommandError) -> int:
    try:
        sys.stdout.flush()
        if str(error):
            sys.stderr.write(f"{error}\n")
    except BrokenPipeError:
        return _drop_output(_PIPE_CLOSED)
    return error.status


def _drop_output(status: int) -> int:
    """Forgets what is still to be written, lest the interpreter complains at its end."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
    return status


def _not_yet() -> int:
    sys.stderr.write(f"{_NOT_YET}\n")
    return 1


def _dispatch(program: str, root: Group, argv: Sequence[str]) -> int:
    reader = Words(GLOBAL_FLAGS, interspersed=False)
    try:
        reader.read(argv)
    except FlagError as error:
        usage = f"Usage:  {program} [OPTIONS] COMMAND [ARG...]"
        more = f"Run '{program} --help' for more information"
        raise FlagError(f"{error}\n\n{usage}\n\n{more}") from None
    if "version" in reader.given:
        return _print_version(program)
    words = reader.arguments
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    elif "help" in reader.given or not words:
        words = ["--help"]
    host = reader.given.get("host")
    return _descend(program, root, words, host[-1] if host else None)


def _print_version(program: str) -> int:
    from cnm import __version__

    sys.stdout.write(f"{program} version {__version__}\n")
    return 0


def _descend(path: str, group: Group, words: list[str], host: str | None) -> int:
    """Follows the words down the tree and runs what they name."""
    if not words or words[0] in ("--help", "-h"):
        from cnm.cli import usage

        sys.stdout.write(usage.of_group(path, group, _EXAMPLES.get(path, ())))
        return 0
    name, rest = words[0], words[1:]
    if name in group.unbuilt:
        return _not_yet()
    if name == "__complete":
        from cnm.cli.completion import candidates

        return candidates(group, rest, _host(host))
    entry = group.find(name)
    if entry is None:
        raise _unknown(path, name)
    path = f"{path} {_own_name(group, entry)}"
    if isinstance(entry, Group):
        return _descend(path, entry, rest, host)
    if isinstance(entry, Daemon):
        return _daemon(entry, rest, host)
    return _run(path, entry, rest, _host(host))


def _own_name(group: Group, wanted: Entry | Daemon | Group) -> str:
    return next(name for name, entry in group.entries.items() if entry is wanted)


def _unknown(path: str, name: str) -> CommandError:
    program = path.split(" ", 1)[0]
    usage = f"\n\nUsage:  {path}" if " " in path else ""
    more = f"Run '{path} --help' for more information"
    if name.startswith("-"):
        kind = "unknown flag: " + name.partition("=")[0]
        return FlagError(f"{kind}{usage}\n\n{more}")
    return CommandError(f"{program}: unknown command: {path} {name}{usage}\n\n{more}")


def _host(flag: str | None) -> str:
    """The address to use: the flag's, else the environment's, else the default."""
    return flag or os.environ.get("CNM_HOST") or GLOBAL_FLAGS[0].default


def _daemon(entry: Daemon, words: Sequence[str], host: str | None) -> int:
    # By name: nothing but this line of the commands knows the daemon.
    from importlib import import_module

    argv = ["-H", host, *words] if host and entry.function == "main" else list(words)
    status: int = getattr(import_module("cnm.daemon"), entry.function)(argv)
    return status


def _run(path: str, entry: Entry, words: Sequence[str], host: str) -> int:
    command = entry.load()
    call = parse(command, path, host, words)
    if call is None:
        from cnm.cli import usage

        sys.stdout.write(usage.of_command(path, command, entry.aliases))
        return 0
    return command.run(call)
