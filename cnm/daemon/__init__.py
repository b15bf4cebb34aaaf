"""The daemon: wiring, signals, readiness, shutdown. Heavy imports wait until they are needed.

``flags``, ``exclusive`` and ``sockets`` decide whether this daemon may run;
``wiring`` knows the concrete classes; ``server`` answers; ``run`` is the order of
it all; ``removal`` takes everything away.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """``cnm daemon``: serves in the foreground until a signal ends it; the exit status."""
    from cnm.daemon import run

    return run.main(argv)


def uninstall(argv: Sequence[str]) -> int:
    """``cnm uninstall``: removes everything of ours from this host; the exit status."""
    from cnm.daemon import removal

    return removal.main(argv)
