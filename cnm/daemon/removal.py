"""``cnm uninstall``: everything of ours goes, in the kernel and on the disk.

Works from the store: containers are released, networks taken down, sysctls put back.
Then, with nothing left in the store, whatever still carries our mark is an orphan and
goes too. A damaged database leaves the marks to go by.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from cnm.config import Settings
from cnm.daemon import exclusive, flags, logs
from cnm.daemon.wiring import DATABASE, Parts, assemble
from cnm.errors import CNMError, StoreError, TeardownError, Unavailable
from cnm.undo import Teardown

log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """0: nothing of ours is left; 1: refused or incomplete, with one line that says why."""
    values = flags.parse(flags.uninstall_parser(), argv)
    force = values.pop("force", False)
    try:
        settings = flags.settings_of(values)
        if os.geteuid() != 0:
            raise Unavailable("it needs root: run it with sudo")
        if not force and not _confirmed(settings):
            sys.stdout.write("nothing was removed\n")
            return 1
        logs.start("error")
        _remove_all(settings)
    except (CNMError, TeardownError, OSError) as error:
        sys.stderr.write(f"cnm uninstall: {logs.one_line(str(error))}\n")
        return 1
    sys.stdout.write(f"removed; the configuration file {settings.config_file} is left to you\n")
    return 0


def _confirmed(settings: Settings) -> bool:
    sys.stdout.write(
        "This removes every network of cnm on this host, gives adopted containers back and"
        f" deletes {settings.root} and {settings.exec_root}. Continue? [y/N] "
    )
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _remove_all(settings: Settings) -> None:
    """:raises Unavailable: the daemon runs (says which process)."""
    settings.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive.hold(settings.root):
        with _parts(settings) as parts:
            _remove_from_kernel(parts)
        _remove_files(settings)


@contextlib.contextmanager
def _parts(settings: Settings) -> Iterator[Parts]:
    """The core on the daemon's store, or on an empty one if that cannot be read."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            parts = assemble(settings)
        except StoreError as error:
            log.error("%s: going by the marks of kernel objects", error)
            parts = assemble(settings, Path(scratch) / DATABASE)
        with contextlib.closing(parts):
            yield parts


def _remove_from_kernel(parts: Parts) -> None:
    """:raises TeardownError: with all that failed; the rest is done."""
    core, teardown = parts.core, Teardown("not everything could be removed")
    core.reconciler.start()  # finishes what was half-way; tells the drivers what there is
    for container in core.containers.all():
        with teardown.step():
            core.containers.remove(container.id, force=True)
    with teardown.step():
        parts.runtime.shutdown()
    for record in core.sandboxes.all():
        with teardown.step():
            core.sandboxes.release(record.id)
    for network in core.networks.all():
        with teardown.step():
            core.networks.take_down(network)
    with teardown.step():
        core.reconciler.sweep()
    with teardown.step():
        parts.sysctls.restore_unheld()
    teardown.finish()


def _remove_files(settings: Settings) -> None:
    """Only what is ours: a directory that holds something else stays."""
    for path in (*map(Path, settings.hosts), settings.pidfile):
        path.unlink(missing_ok=True)
    for path in (*settings.root.glob(f"{DATABASE}*"), settings.root / "lock"):
        path.unlink(missing_ok=True)
    for directory in (settings.exec_root / "netns", settings.exec_root, settings.root):
        with contextlib.suppress(OSError):
            directory.rmdir()
