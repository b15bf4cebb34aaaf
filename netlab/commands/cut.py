"""``netlab cut`` and ``netlab heal``: take links away and give them back."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from cnm.netlab import operations
from cnm.netlab.commands import arguments
from cnm.netlab.naming import lab_of

if TYPE_CHECKING:
    from cnm.netlab.main import Subparsers

_CUT = """\
  netlab cut two-hosts wan            this link
  netlab cut two-hosts node2          all links of a host

Nothing passes any more, in neither direction; interfaces, addresses and routes stay as they are."""
_HEAL = """\
  netlab heal two-hosts wan
  netlab heal two-hosts               every link of the lab

Undoes cut and impair: the link is as the lab file says."""


def add(subparsers: Subparsers) -> None:
    cut = arguments.parser(subparsers, "cut", "Cut links, or a host off", _CUT)
    cut.add_argument("lab", metavar="LAB", help="name of a lab, or its file")
    cut.add_argument("names", metavar="LINK|HOST", nargs="+")
    heal = arguments.parser(subparsers, "heal", "Undo cut and impair", _HEAL)
    heal.add_argument("lab", metavar="LAB", help="name of a lab, or its file")
    heal.add_argument("names", metavar="LINK|HOST", nargs="*", help="default: every link")


def run(args: argparse.Namespace) -> int:
    lab = lab_of(args.lab)
    for name in args.names:
        operations.links_of(lab, name)  # all are known before any is touched
    if args.command == "cut":
        changed = [link for name in args.names for link in operations.cut(lab, name)]
    else:
        changed = [link for name in args.names or [None] for link in operations.heal(lab, name)]
    for name in dict.fromkeys(link.name for link in changed):
        sys.stdout.write(f"{name}\n")
    return 0
