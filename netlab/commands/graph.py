"""``netlab graph``: a lab as it really is, as a tree or as SVG."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cnm.netlab import operations
from cnm.netlab.commands import arguments
from cnm.netlab.graph import svg, tree
from cnm.netlab.naming import lab_of

if TYPE_CHECKING:
    from cnm.netlab.main import Subparsers

_EXAMPLES = """\
  netlab graph two-hosts
  netlab graph two-hosts --svg two-hosts.svg

Hosts, links, networks, containers, addresses and tunnels come from the kernel, names of networks
and containers from the daemons on the hosts."""


def add(subparsers: Subparsers) -> None:
    parser = arguments.parser(subparsers, "graph", "Draw a lab as it really is", _EXAMPLES)
    parser.add_argument("lab", metavar="LAB", help="name of a lab, or its file")
    parser.add_argument("--svg", metavar="FILE", help="write a picture; - for standard output")


def run(args: argparse.Namespace) -> int:
    picture = operations.picture(lab_of(args.lab))
    if args.svg is None:
        sys.stdout.write(tree.draw(picture))
    elif args.svg == "-":
        sys.stdout.write(svg.draw(picture))
    else:
        Path(args.svg).write_text(svg.draw(picture), encoding="utf-8")
    return 0
