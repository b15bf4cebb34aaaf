"""``netlab ls``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnm.errors import CNMError
from cnm.netlab import marks, model, processes
from cnm.netlab.commands import arguments
from cnm.netlab.naming import name_of
from cnm.netlab.state import State, known

if TYPE_CHECKING:
    from cnm.netlab.main import Subparsers

_EXAMPLES = """\
  netlab ls
  netlab ls two-hosts
  netlab ls --json | jq -r '.[].name'"""


def add(subparsers: Subparsers) -> None:
    """``ls [LAB]``"""
    parser = arguments.parser(
        subparsers, "ls", "List the labs that are up, or the hosts of one of them.", _EXAMPLES
    )
    parser.add_argument("lab", nargs="?", metavar="LAB", help="a lab's name, or its file")
    parser.add_argument("-q", "--quiet", action="store_true", help="names only")
    parser.add_argument("--json", action="store_true", help="a JSON list of objects")


def run(args: argparse.Namespace) -> int:
    """A table, names, or JSON."""
    rows = _hosts(args.lab) if args.lab else [_lab(name) for name in sorted(known())]
    if args.json:
        sys.stdout.write(f"{json.dumps(rows, indent=2)}\n")
    elif args.quiet:
        sys.stdout.write("".join(f"{row['name']}\n" for row in rows))
    else:
        columns = _HOST_COLUMNS if args.lab else _LAB_COLUMNS
        sys.stdout.write(table(columns, [[_text(row[key]) for key in columns] for row in rows]))
    return 0


_LAB_COLUMNS = {"name": "LAB", "hosts": "HOSTS", "state": "STATE", "file": "FILE"}
_HOST_COLUMNS = {
    "name": "HOST",
    "pid": "PID",
    "netns": "NETNS",
    "addresses": "ADDRESSES",
    "running": "RUNNING",
}


def _lab(name: str) -> dict[str, Any]:
    up = len(marks.holders(name))
    try:
        spec = State(name).read()
    except CNMError:  # a crash has left it so, or it was made by another version
        return {"name": name, "hosts": str(up), "state": "remains", "file": ""}
    wanted = len(spec.hosts)
    return {
        "name": name,
        "hosts": f"{up}/{wanted}",
        "state": "up" if up == wanted else "partly up",
        "file": str(spec.path),
    }


def _hosts(word: str) -> list[dict[str, Any]]:
    spec = State(name_of(word)).read()
    pids = {holder.host: holder.pid for holder in marks.holders(spec.name)}
    return [_host(spec, host, pids.get(host.name)) for host in spec.hosts]


def _host(spec: model.Lab, host: model.Host, pid: int | None) -> dict[str, Any]:
    names = [*(item.kind for item in host.daemons), *(item.name for item in host.processes)]
    running = [name for name in names if pid and _runs(pid, name)]
    return {
        "name": host.name,
        "pid": pid,
        "netns": marks.netns_path(spec.name, host.name).name,
        "addresses": [str(address) for address in spec.addresses(host.name)],
        "running": running,
    }


def _runs(pid: int, name: str) -> bool:
    return processes.running(Path(f"/proc/{pid}/root"), name) is not None


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)


def table(columns: dict[str, str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, three spaces apart."""
    lines = [list(columns.values()), *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return "".join(
        "   ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )
