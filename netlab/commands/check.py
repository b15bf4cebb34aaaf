"""``netlab check``: the checks of a lab file, as a table, a status and JUnit XML."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from cnm.netlab import operations, report
from cnm.netlab.check import Result
from cnm.netlab.commands import arguments
from cnm.netlab.errors import LabError
from cnm.netlab.lab import Lab
from cnm.netlab.naming import is_file, lab_of

if TYPE_CHECKING:
    from cnm.netlab.main import Subparsers

_EXAMPLES = """\
  netlab check two-hosts.yaml
  netlab check --up two-hosts.yaml three-sites.yaml --junit report.xml
  netlab check two-hosts --only 'c1 pings c2'

The lab must be up; with --up it is brought up for the checks, and down again. Each check is
tried again until it holds or its time is up. The status is 1 if any of them failed."""


def add(subparsers: Subparsers) -> None:
    parser = arguments.parser(subparsers, "check", "Run the checks of a lab file", _EXAMPLES)
    parser.add_argument("labs", nargs="+", metavar="FILE", help="lab file, or name of a lab")
    parser.add_argument("--up", action="store_true", help="bring the lab up, and down again")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="write the results as JUnit XML")
    parser.add_argument("--only", metavar="TEXT", help="only checks with TEXT in their name")
    parser.add_argument("--quiet", "-q", action="store_true", help="only failures and the sum")


def run(args: argparse.Namespace) -> int:
    results: list[tuple[Lab, list[Result]]] = []
    for name in args.labs:
        with ExitStack() as stack:
            lab = Lab.load(name) if is_file(name) else lab_of(name)
            stack.callback(lab.close)
            if args.up:
                stack.callback(lab.down)
                lab.up()
            results.append((lab, _run_one(lab, args)))
    if args.junit is not None:
        report.write_junit(args.junit, [(lab.spec, found) for lab, found in results])
    return int(any(not result.passed for _, found in results for result in found))


def _run_one(lab: Lab, args: argparse.Namespace) -> list[Result]:
    checker = operations.checker(lab)
    wanted = [check for check in lab.spec.checks if args.only is None or args.only in check.name]
    if not wanted:
        which = f' with "{args.only}" in its name' if args.only is not None else ""
        raise LabError(f"lab {lab.name} has no check{which}")
    found = []
    for check in wanted:
        result = checker.run(check)
        found.append(result)
        if sys.stderr.isatty():
            sys.stderr.write(f"{report.line(result)}\n")
    shown = [item for item in found if not args.quiet or not item.passed]
    if shown:
        sys.stdout.write(f"{report.table(shown)}\n")
    sys.stdout.write(f"lab {lab.name}: {report.summary(found)}\n")
    return found
