"""``netlab impair``: make a link slow, lossy or narrow, as long as the lab is up."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from cnm.netlab import impair, operations, quantities
from cnm.netlab.commands import arguments
from cnm.netlab.errors import LabError
from cnm.netlab.model import Impairment
from cnm.netlab.naming import lab_of

if TYPE_CHECKING:
    from cnm.netlab.main import Subparsers

T = TypeVar("T")

_EXAMPLES = """\
  netlab impair two-hosts node1:eth0 --delay 50ms --jitter 5ms --loss 1%
  netlab impair two-hosts wan --rate 10mbit --direction out
  netlab impair two-hosts                      what is wrong with which link
  netlab heal two-hosts wan                    as the lab file says again

An impairment replaces the one before. Without netem in the kernel, --loss and --rate work."""


def add(subparsers: Subparsers) -> None:
    parser = arguments.parser(subparsers, "impair", "Make a link slow, lossy or narrow", _EXAMPLES)
    parser.add_argument("lab", metavar="LAB", help="name of a lab, or its file")
    parser.add_argument("link", metavar="LINK", nargs="?", help="link, or an end of it")
    seconds, percent = _read(quantities.seconds), _read(quantities.percent)
    parser.add_argument("--delay", metavar="TIME", type=seconds, default=0.0, help="such as 50ms")
    parser.add_argument("--jitter", metavar="TIME", type=seconds, default=0.0, help="of the delay")
    parser.add_argument("--loss", metavar="SHARE", type=percent, default=0.0, help="such as 1%%")
    parser.add_argument("--duplicate", metavar="SHARE", type=percent, default=0.0)
    parser.add_argument("--corrupt", metavar="SHARE", type=percent, default=0.0)
    rate = _read(quantities.bits_per_second)
    parser.add_argument("--rate", metavar="RATE", type=rate, help="such as 10mbit")
    parser.add_argument(
        "--direction",
        choices=("both", "out", "in"),
        default="both",
        help="seen from the link's first end",
    )


def run(args: argparse.Namespace) -> int:
    lab = lab_of(args.lab)
    if args.link is None:
        for link in lab.spec.links:
            first, second = link.ends
            sys.stdout.write(
                f"{link.name} ({first} to {second}): "
                f"{operations.trouble(lab, link.name) or 'in order'}\n"
            )
        return 0
    link = lab.spec.link(args.link) or operations.links_of(lab, args.link)[0]
    wish = _wish(args)
    if impair.is_nothing(wish):
        raise LabError("nothing to impair: give --delay, --loss, --rate … or use `netlab heal`")
    operations.apply_impairment(lab, link, wish)
    sys.stdout.write(f"{link.name}: {operations.trouble(lab, link.name)}\n")
    return 0


def _wish(args: argparse.Namespace) -> Impairment:
    if args.jitter and not args.delay:
        raise LabError("--jitter varies a delay: give --delay too")
    return Impairment(
        args.delay,
        args.jitter,
        args.loss,
        args.duplicate,
        args.corrupt,
        args.rate,
        args.direction,
    )


def _read(parse: Callable[[str], T]) -> Callable[[str], T]:
    """argparse shows the text of its own error only."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read
