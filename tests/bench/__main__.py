"""``python -m bench``: a run; ``--pages``: its figures into the README and docs/performance.md."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import document, pages, plot, suite, table
from bench.scaling import STEPS

_BUILD = Path("build")
_ROUNDS = 15


def main(argv: Sequence[str]) -> int:
    """1, and a line that says why, if a peer fails."""
    options = _parser().parse_args(argv)
    try:
        if options.pages:
            for path in pages.renew(Path(), document.read(_BUILD)):
                say(f"written: {path}")
            return 0
        found = suite.run(
            options.rounds, only=options.only, with_docker=not options.no_docker, say=say
        )
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    report(found)
    return 0


def report(found: document.Document) -> None:
    """The tables on the terminal, the files in ``build``."""
    say(f"\n{table.text(found['metrics'])}\n\n{table.targets_text(found['metrics'])}")
    if found["scaling"]:
        say(f"\nGrowth over {STEPS} steps, medians in ms: the first ten, the last ten, ratio")
        for name, (first, last) in found["scaling"].items():
            say(f"{name:<10}{first:>10.2f}{last:>10.2f}{last / first:>10.2f}x")
    picture = _BUILD / "bench.svg"
    path = document.write(_BUILD, found)
    picture.write_text(plot.svg(found))
    say(f"\nwritten: {path}, {picture}")


def say(text: str) -> None:
    """A line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--pages", action="store_true", help="write build/bench.json into them")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--no-docker", action="store_true", help="quicker, without its figures")
    parser.add_argument("--only", choices=suite.MODULES, action="append", default=[])
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
