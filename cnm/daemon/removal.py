"""``cnm uninstall``: everything of ours goes, in the kernel and on the disk.

Works from the store: containers are released, networks taken down, sysctls put back.
Then, with nothing left in the store, whatever still carries our mark is an orphan and
goes too. A damaged database leaves the marks to go by; what the host's sysctls were before
us is lost with it, and said.
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
from cnm.core.reconcile import HOST_IDENTITY
from cnm.daemon import exclusive, flags, logs, pending
from cnm.daemon.wiring import DATABASE, IMAGES, NAMESPACES, Parts, assemble
from cnm.errors import CNMError, KernelError, StoreError, TeardownError, Unavailable
from cnm.runtime.container.imagefs import remove_tree
from cnm.runtime.kernel import sysctl
from cnm.undo import Teardown

log = logging.getLogger(__name__)

_CONTAINERS = "containers"  # under the root and the exec root
_FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")


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
    """Kernel first, then files.

    :raises Unavailable: the daemon runs (says which process).
    :raises TeardownError: something could not be removed; the files stay.
    :raises StoreError: the database was damaged, and what only it knew stays as it is.
    """
    settings.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive.hold(settings.root):
        with _parts(settings) as (parts, damaged):
            _remove_from_kernel(parts, settings)
        _remove_files(settings)
        if damaged:
            _tell_what_stays()


@contextlib.contextmanager
def _parts(settings: Settings) -> Iterator[tuple[Parts, bool]]:
    """The core on the daemon's store, or on an empty one if that cannot be read: then True."""
    damaged = False
    with tempfile.TemporaryDirectory() as scratch:
        try:
            parts = assemble(settings)
        except StoreError as error:
            log.error("%s: going by the marks of kernel objects", error)
            damaged = True
            parts = assemble(settings, Path(scratch) / DATABASE)
        with contextlib.closing(parts):
            yield parts, damaged


def _tell_what_stays() -> None:
    """:raises StoreError: naming what is switched on and may have been off before us."""
    left = []
    for name in _FORWARDING:
        with contextlib.suppress(KernelError):  # a kernel without IPv6 has nothing to put back
            if sysctl.read(name) != "0":
                left.append(name.replace("/", "."))
    if left:
        raise StoreError(
            f"all else is removed, but {' and '.join(left)} could not be put back: what"
            " it was before cnm was in the damaged database; set it to 0 if nothing else needs it"
        )


def _refuse_elsewhere(parts: Parts, settings: Settings) -> None:
    """:raises Unavailable: the daemon of this root ran in another namespace, in this same boot."""
    known, here = parts.store.meta(HOST_IDENTITY), parts.sandboxes.host_identity()
    boot = here.partition("/")[0]
    if known is not None and known != here and known.startswith(f"{boot}/"):
        raise Unavailable(
            f"the networks of {settings.root} are in another network namespace: run uninstall in "
            f"that one (ip netns exec NAME …); if it is gone, delete {settings.root} yourself"
        )


def _remove_from_kernel(parts: Parts, settings: Settings) -> None:
    """:raises TeardownError: with all that failed; the rest is done."""
    core, teardown = parts.core, Teardown("not everything could be removed")
    _refuse_elsewhere(parts, settings)
    # finishes what was half-way, tells the drivers what there is, removes what nobody knows
    core.reconciler.start(strangers_too=True)
    for container in core.containers.all():
        with teardown.step():
            core.containers.remove(container.id, force=True)
    with teardown.step():
        _end_runtime(parts, settings)
    for record in core.sandboxes.all():
        with teardown.step():
            core.sandboxes.release(record.id)
    for network in core.networks.all():
        with teardown.step():
            core.networks.take_down(network)
    with teardown.step():
        core.guests.remove_all()
    with teardown.step():
        core.reconciler.sweep()
    with teardown.step():
        parts.resolver.shutdown()
    with teardown.step():
        parts.sysctls.restore_unheld()
    teardown.finish()


def _end_runtime(parts: Parts, settings: Settings) -> None:
    """End the supervisor, and before it the containers that no record tells of."""
    folder = settings.exec_root / _CONTAINERS
    if folder.is_dir() and any(folder.iterdir()):  # else there need not even be a supervisor
        for status in parts.runtime.containers():
            parts.runtime.destroy(status.id)
        for orphan in parts.runtime.orphans():
            parts.runtime.remove_orphan(orphan)
    parts.runtime.shutdown()


def _remove_files(settings: Settings) -> None:
    """Only what is ours: a directory that holds something else stays."""
    for path in (*map(Path, settings.hosts), settings.pidfile):
        path.unlink(missing_ok=True)
    for host in settings.hosts:
        with contextlib.suppress(FileNotFoundError):
            remove_tree(Path(pending.folder(str(host))))
    for path in (*settings.root.glob(f"{DATABASE}*"), settings.root / "lock"):
        path.unlink(missing_ok=True)
    for resident in ("supervisor", "dns", "ports"):
        for path in settings.exec_root.glob(f"{resident}.*"):
            path.unlink(missing_ok=True)
    if (settings.root / IMAGES).is_dir():
        remove_tree(settings.root / IMAGES)
    # only if empty: what is mounted below, if anything failed, may be the host's own files
    rooms = (settings.exec_root / NAMESPACES, settings.exec_root / _CONTAINERS)
    for directory in (*rooms, settings.root / _CONTAINERS, settings.exec_root, settings.root):
        with contextlib.suppress(OSError):
            directory.rmdir()
