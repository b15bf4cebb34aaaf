"""``netlab capture``: packets of a link, or of a container's interface."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cnm.netlab import capture, operations
from cnm.netlab.commands import arguments
from cnm.netlab.naming import lab_of

if TYPE_CHECKING:
    from cnm.netlab.main import Subparsers

_EXAMPLES = """\
  netlab capture two-hosts node1:eth0
  netlab capture two-hosts node1:eth0 -w underlay.pcap 'udp port 4789'
  netlab capture two-hosts node1/c1 -c 10 icmp
  netlab capture two-hosts wan -w - | wireshark -k -i -

WHERE is a link, one end of it (NODE:INTERFACE), any interface of a host, or a container
(HOST/CONTAINER, with :INTERFACE if it has several). Ends with Ctrl-C."""


def add(subparsers: Subparsers) -> None:
    parser = arguments.parser(subparsers, "capture", "Show or write packets", _EXAMPLES)
    parser.add_argument("lab", metavar="LAB", help="name of a lab, or its file")
    parser.add_argument("where", metavar="WHERE", help="link, end of a link, or container")
    parser.add_argument("filter", metavar="FILTER", nargs="*", help="pcap-filter(7)")
    parser.set_defaults(rest=[])
    parser.add_argument("-w", "--write", metavar="FILE", help="write a pcap; - to standard output")
    parser.add_argument("-c", "--count", metavar="N", type=_positive, help="end after N packets")
    parser.add_argument("--for", dest="seconds", metavar="SECONDS", type=float, help="end then")


def run(args: argparse.Namespace) -> int:
    tap = operations.tap(lab_of(args.lab), args.where)
    return capture.run(
        tap, " ".join([*args.filter, *args.rest]), args.write, args.count, args.seconds
    )


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is no number of packets')
    return number
