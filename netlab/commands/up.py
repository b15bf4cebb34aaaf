"""``netlab up``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from cnm.netlab.commands import arguments
from cnm.netlab.errors import LabError
from cnm.netlab.lab import Lab
from cnm.netlab.progress import Lines, Silent

if TYPE_CHECKING:
    from cnm.netlab.main import Subparsers

_EXAMPLES = """\
  netlab up two-hosts.yaml
  netlab up --quiet a.yaml b.yaml
  netlab up --name second two-hosts.yaml
  netlab up --dry-run two-hosts.yaml     check the file, make nothing"""


def add(subparsers: Subparsers) -> None:
    """``up FILE…``"""
    parser = arguments.parser(
        subparsers,
        "up",
        "Make the lab of a file. A lab that is up already is mended: what is missing is made, "
        "what is there is left alone.",
        _EXAMPLES,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a lab file (YAML)")
    parser.add_argument("--name", help="another name than the file's, to have it up twice")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.add_argument("--dry-run", action="store_true", help="check the file only")


def run(args: argparse.Namespace) -> int:
    """All files are read before anything is made."""
    labs = [Lab.load(file) for file in args.files]
    if args.name is not None:
        if len(labs) > 1:
            raise LabError("netlab up: --name is for one file")
        labs = [labs[0].renamed(args.name)]
    for lab in labs:
        if args.dry_run:
            sys.stdout.write(f"{lab.spec.path}: lab {lab.name} is in order\n")
            continue
        with_progress = Silent() if args.quiet else Lines(sys.stderr)
        try:
            made = lab.up(with_progress)
        finally:
            lab.close()
        if not args.quiet:
            sys.stdout.write(f"lab {lab.name} is up{_what(made)}\n")
    return 0


def _what(made: list[str]) -> str:
    if not made:
        return ": nothing was missing"
    return f": {len(made)} things made" if len(made) > 1 else f": made {made[0]}"
