"""``netlab down``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from cnm.netlab.commands import arguments
from cnm.netlab.errors import LabError, LabNotFound
from cnm.netlab.naming import name_of
from cnm.netlab.progress import Lines, Progress, Silent
from cnm.netlab.state import known, no_lab
from cnm.netlab.takedown import down

if TYPE_CHECKING:
    from cnm.netlab.main import Subparsers

_EXAMPLES = """\
  netlab down two-hosts
  netlab down two-hosts.yaml
  netlab down --all"""


def add(subparsers: Subparsers) -> None:
    """``down LAB…``"""
    parser = arguments.parser(
        subparsers,
        "down",
        "Remove labs: all processes, links, namespaces and files that carry their mark, and "
        "nothing else; also what a crash, or half an up, has left.",
        _EXAMPLES,
    )
    parser.add_argument("labs", nargs="*", metavar="LAB", help="a lab's name, or its file")
    parser.add_argument("--all", action="store_true", help="every lab of this machine")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Goes on with the next lab after one that could not be removed."""
    if bool(args.labs) == args.all:
        raise LabError('netlab down: name a lab, or say "--all"')
    progress: Progress = Silent() if args.quiet else Lines(sys.stderr)
    status = 0
    for name in sorted(known()) if args.all else map(name_of, args.labs):
        try:
            if not down(name, progress):
                raise LabNotFound(no_lab(name))
        except LabNotFound as error:
            sys.stderr.write(f"{error}\n")
            status = 1
            continue
        if not args.quiet:
            sys.stdout.write(f"lab {name} is down\n")
    return status
