"""``netlab``: finds the sub-command, runs it, turns failures into one line and a status.

A sub-command is a module with :func:`add`, which makes its parser, and :func:`run`. Only the
one that was asked for is imported: YAML, pydantic and pyroute2 cost 200 ms together, and
``netlab exec`` is typed often.

Statuses: 0 done, 1 failed or refused, 2 the command line cannot be read, 130 after Ctrl-C, 141
when the reader of the output has gone; ``exec`` and ``vm`` give the status of what they ran.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from cnm.errors import CNMError, TeardownError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_NOT_YET = "not supported yet"
_INTERRUPTED = 130
_PIPE_CLOSED = 141
_EXAMPLES = """examples:
  netlab up two-hosts.yaml
  netlab exec two-hosts node1 -- ip -br address
  netlab check two-hosts.yaml --junit report.xml
  netlab down two-hosts

Run 'netlab COMMAND --help' for more information on a command."""


class Command(Protocol):
    """What a sub-command's module holds."""

    def add(self, subparsers: Subparsers) -> None:
        """Make the parser, under the command's own name, with examples in its help."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the exit status. What it raises (:class:`CNMError`) is told in one line."""


class Entry(NamedTuple):
    """Where a sub-command lies, and what it does in a few words."""

    module: str
    short: str


COMMANDS: Mapping[str, Entry] = {
    "up": Entry("cnm.netlab.commands.up", "Make the lab of a file, or mend it"),
    "down": Entry("cnm.netlab.commands.down", "Remove a lab and nothing else"),
    "ls": Entry("cnm.netlab.commands.ls", "List the labs that are up, or the hosts of one"),
    "exec": Entry("cnm.netlab.commands.exec", "Run a command in a host of a lab"),
    "check": Entry("cnm.netlab.commands.check", "Run the checks of a lab file"),
    "graph": Entry("cnm.netlab.commands.graph", "Draw a lab as it really is"),
    "capture": Entry("cnm.netlab.commands.capture", "Show or write the packets of a link"),
    "impair": Entry("cnm.netlab.commands.impair", "Make a link slow, lossy or narrow"),
    "cut": Entry("cnm.netlab.commands.cut", "Cut a link or a host off"),
    "heal": Entry("cnm.netlab.commands.cut", "Undo cut and impair"),
    "vm": Entry("cnm.netlab.vm", "Run a command on the second kernel"),
}


def main() -> int:
    """The program ``netlab``."""
    return run(sys.argv[1:])


def run(argv: Sequence[str]) -> int:
    """One command line to its exit status. Prints; never raises, but for argparse's exit."""
    try:
        status = _dispatch(argv)
        sys.stdout.flush()
        return status
    except (CNMError, TeardownError) as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains at its end
        return _PIPE_CLOSED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _failed(f"netlab: {where}{error.strerror or error}")


def load(name: str) -> Command | None:
    """The module of a sub-command; ``None`` while nobody has built it."""
    module = COMMANDS[name].module
    return cast(Command, import_module(module)) if find_spec(module) else None


def parser_for(name: str, command: Command) -> argparse.ArgumentParser:
    """A parser that knows this sub-command only."""
    parser = argparse.ArgumentParser(prog="netlab", allow_abbrev=False)
    command.add(parser.add_subparsers(dest="command", required=True, metavar=name))
    return parser


def _dispatch(argv: Sequence[str]) -> int:
    if not argv or argv[0].startswith("-") or argv[0] not in COMMANDS:
        _overview().parse_args(argv or ["--help"])  # help, version or a refusal: it exits
    command = load(argv[0])
    if command is None:
        return _failed(_NOT_YET)
    parser = parser_for(argv[0], command)
    args, rest = parser.parse_known_args(argv)
    if rest and (not hasattr(args, "rest") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest  # words after options, which argparse has no way to take
    return command.run(args)


def _overview() -> argparse.ArgumentParser:
    from cnm import __version__

    parser = argparse.ArgumentParser(
        prog="netlab",
        description="Labs of many hosts, made from one file with namespaces.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"netlab version {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, entry in COMMANDS.items():
        subparsers.add_parser(name, help=entry.short)
    return parser


def _failed(text: str) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")
    return 1
