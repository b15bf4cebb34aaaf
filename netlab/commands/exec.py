"""``netlab exec``: goes into a host itself, so that terminals and signals work as they do here.

Only what is needed to enter is imported: a shell shall be there at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING

from cnm.netlab import groups, marks, processes, spawner
from cnm.netlab.commands import arguments

if TYPE_CHECKING:
    from cnm.netlab.main import Subparsers

_EXAMPLES = """\
  netlab exec two-hosts node1                      a shell on node1
  netlab exec two-hosts node1 -- ip -br address
  netlab exec two-hosts.yaml node1 -- net ls       ask node1's own daemon

The exit status is the command's own; 126: it cannot be run, 127: there is none."""
_CANNOT_RUN, _NOT_FOUND, _BY_SIGNAL = 126, 127, 128


def add(subparsers: Subparsers) -> None:
    """``exec LAB HOST [-- COMMAND…]``"""
    parser = arguments.parser(
        subparsers, "exec", "Run a command on a host of a lab; a shell by default.", _EXAMPLES
    )
    parser.add_argument("lab", metavar="LAB", help="a lab's name, or its file")
    parser.add_argument("host", metavar="HOST")
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="and its arguments"
    )


def run(args: argparse.Namespace) -> int:
    """The status of the command."""
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    command = words or [os.environ.get("SHELL", "/bin/sh")]
    name = args.lab
    if "/" in name or "." in name:  # no lab's name has either
        from cnm.netlab.naming import name_of

        name = name_of(name)
    pid = _first_process(name, args.host)
    for _, group in groups.folders(name, args.host):
        groups.join(group)
    environment = processes.environment({"NETLAB_LAB": name, "NETLAB_HOST": args.host})
    spawner.enter_host(pid, str(marks.netns_path(name, args.host)))
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _become(command, environment)
    return _wait(child)


def _first_process(lab: str, host: str) -> int:
    pids = {holder.host: holder.pid for holder in marks.holders(lab)}
    if host in pids:
        return pids[host]
    from cnm.netlab.errors import LabNotFound
    from cnm.netlab.state import no_lab

    names = ", ".join(sorted(pids))
    raise LabNotFound(
        f'lab {lab} has no host "{host}" that is up (up: {names})' if pids else no_lab(lab)
    )


def _become(command: list[str], environment: dict[str, str]) -> None:
    """In the child: run the command, or say why it cannot be, with a shell's statuses."""
    status = _CANNOT_RUN
    try:
        os.chdir(environment["HOME"] if os.path.isdir(environment["HOME"]) else "/")
        os.execvpe(command[0], command, environment)
    except FileNotFoundError:
        sys.stderr.write(f"{command[0]}: command not found\n")
        status = _NOT_FOUND
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
    finally:
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int) -> int:
    """The child's status; the terminal's signals are for it, those sent to us are passed on."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else _BY_SIGNAL - code
