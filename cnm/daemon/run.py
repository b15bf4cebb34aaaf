"""From the command line to a daemon that answers, and down again.

Everything that can be refused is refused before anything changes. A daemon that is
killed at any line leaves only what the next start repairs or replaces: locks end
with the process, socket and pid files of the dead are taken over, and the store
tells what was half-way. Nothing of the kernel's is removed when the daemon stops.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cnm.config import Settings
from cnm.daemon import descriptors, exclusive, flags, logs, memory, pending, sockets
from cnm.daemon.notify import notify, reloading
from cnm.errors import CNMError, InvalidParameter, TeardownError, Unavailable

if TYPE_CHECKING:
    from cnm.core.facade import Core
    from cnm.daemon.wiring import Parts

log = logging.getLogger(__name__)

_RELOADED = ("log_level", "labels", "sweep_interval_s")
_OF_BRIDGE = ("bridge", "bip", "mtu", "bridge_options")  # the network bridge is made with them
_ON_BRIDGE = ", on the network bridge if nothing uses it then"
_SWEEP_END_S = 5.0  # how long a stop waits for a sweep that is under way


def main(argv: Sequence[str]) -> int:
    """Runs until a signal; 1 if it cannot start, with one line that says why."""
    values = flags.parse(flags.daemon_parser(), argv)
    only_validate = values.pop("validate", False)
    try:
        settings = flags.settings_of(values)
        if only_validate:
            sys.stdout.write("configuration OK\n")
            return 0
        return _start(settings, values)
    except (CNMError, TeardownError, OSError) as error:
        sys.stderr.write(f"cnm daemon: cannot start: {logs.one_line(_told(error))}\n")
        log.debug("cannot start", exc_info=error)
        return 1


def _start(settings: Settings, values: dict[str, Any]) -> int:
    if os.geteuid() != 0:
        raise Unavailable("it needs root: run it with sudo")
    # until the loop runs: a hang-up must not kill, an interrupt must not show a traceback
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logs.start(settings.log_level)
    descriptors.raise_limit()
    memory.one_arena()
    sockets.refuse_served(settings.hosts)
    settings.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.root.chmod(0o700)
    settings.exec_root.mkdir(mode=0o711, parents=True, exist_ok=True)
    with exclusive.hold(settings.root), exclusive.pidfile(settings.pidfile):
        Daemon(settings, values).run()
    return 0


class Daemon:
    """A daemon that has its locks."""

    def __init__(self, settings: Settings, values: dict[str, Any]) -> None:
        self._settings = settings
        self._values = values
        self._stopping = threading.Event()

    def run(self) -> None:
        """Repair, serve, stop.

        :raises CNMError: :raises OSError: it cannot start.
        """
        # these import most of the program: a refused start need not wait for them
        from cnm.daemon import wiring

        parts = wiring.assemble(self._settings)
        with contextlib.closing(parts):
            parts.core.reconciler.start()
            parts.core.leases.begin()
            parts.core.networks.ensure_predefined()
            parts.sysctls.restore_unheld()
            parts.resolver.listen_on_host(*(self._settings.dns_host_listen or ("", 0)))
            parts.core.recovery.begin(parts.core.containers.start_again)
            self._serve(parts)

    def _serve(self, parts: Parts) -> None:
        from cnm.daemon.server import Server
        from cnm.engine.app import build_app
        from cnm.engine.info import DaemonInfo
        from cnm.engine.workers import Workers

        drivers = [name for name, _ in parts.core.registry.drivers()]

        def describe() -> DaemonInfo:
            settings = self._settings
            return DaemonInfo(
                id=parts.store.daemon_id,
                root=str(settings.root),
                network_drivers=drivers,
                debug=settings.debug,
                labels=settings.labels,
                address_pools=[(str(base), size) for base, size in settings.address_pools],
                remapped=bool(settings.userns_remap),
            )

        with contextlib.closing(Workers()) as workers:
            app = build_app(parts.core, describe, self._stopping, workers)
            server = Server(
                app, ready=self._ready, reload=self._reload, stop=lambda: self._stop(parts.core)
            )
            parts.watch_routes()
            parts.heed_drivers()
            gc.collect()
            gc.freeze()  # what is here now stays: no later collection looks at it again
            with (
                sockets.listening(self._settings.hosts) as listeners,
                self._metrics(parts.core),
                self._plugins(parts.core),
                contextlib.closing(parts.watch_rules()),
                self._sweeping(parts.core),
            ):
                self._take_up(parts.core)  # once we listen: see cnm/daemon/pending.py
                server.serve_on(listeners)
        log.info("cnm daemon stopped; containers, networks and their traffic live on")

    def _take_up(self, core: Core) -> None:
        """What CNI's DEL has left to us, and containers whose namespace went meanwhile."""
        from cnm.core.attachments import AttachmentKey

        for path in self._settings.hosts:
            for key in pending.all_of(str(path)):
                attachment = AttachmentKey(key["Network"], key["Container"], key["Interface"])
                try:
                    core.attachments.remove(attachment)
                except (CNMError, TeardownError) as error:
                    log.error("CNI DEL of %s: %s; it stays pending", attachment, error)
                else:
                    pending.drop(str(path), key)
        self._forget_left(core)

    def _forget_left(self, core: Core) -> None:
        try:
            core.attachments.forget_left()
        except TeardownError as error:
            log.error("%s; the next sweep tries again", error)

    def _metrics(self, core: Core) -> contextlib.AbstractContextManager[None]:
        address = self._settings.metrics_address
        if address is None:
            return contextlib.nullcontext()
        from cnm.daemon import metrics  # an HTTP server more: 2 MB
        from cnm.engine.metrics import render

        return metrics.served(address, lambda: render(core))

    def _plugins(self, core: Core) -> contextlib.AbstractContextManager[None]:
        folder = self._settings.plugin_dir
        if folder is None:
            return contextlib.nullcontext()
        from cnm.daemon import plugindir
        from cnm.plugin.served import services

        return plugindir.served(folder, services(core))

    def _ready(self) -> None:
        hosts = ", ".join(f"unix://{path}" for path in self._settings.hosts)
        log.info("cnm daemon ready on %s", hosts)
        notify("READY=1")

    def _stop(self, core: Core) -> None:
        """The first word of a stop; event streams end by it, and waits for a DHCP server."""
        notify("STOPPING=1")
        self._stopping.set()
        threading.Thread(target=core.leases.close, name="leases-end", daemon=True).start()

    def _reload(self) -> None:
        """SIGHUP: log level, labels and the sweep's interval change at once, the rest does not."""
        notify(reloading())
        try:
            fresh = flags.settings_of(dict(self._values))
        except (InvalidParameter, OSError) as error:
            log.error("reload: %s; the old configuration stays", error)
        else:
            self._take_over(fresh)
        notify("READY=1")

    def _take_over(self, fresh: Settings) -> None:
        at_once = {name: getattr(fresh, name) for name in _RELOADED}
        self._settings = dataclasses.replace(self._settings, **at_once)
        logs.set_level(fresh.log_level)
        log.info("configuration read again from %s", fresh.config_file)
        for field in dataclasses.fields(fresh):
            if getattr(fresh, field.name) != getattr(self._settings, field.name):
                where = _ON_BRIDGE if field.name in _OF_BRIDGE else ""
                log.warning(
                    "%s has changed: it takes effect at the next start%s", field.name, where
                )

    @contextlib.contextmanager
    def _sweeping(self, core: Core) -> Iterator[None]:
        """Compare store and kernel every so often, in a thread of its own."""
        thread = threading.Thread(target=self._sweep, args=(core,), name="sweep", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join(_SWEEP_END_S)

    def _sweep(self, core: Core) -> None:
        while not self._stopping.wait(self._settings.sweep_interval_s):
            try:
                core.reconciler.sweep()
                self._forget_left(core)
                memory.give_back()
            except Exception as error:  # the next sweep tries again
                log.error("sweep: %s: %s", type(error).__name__, error)
                log.debug("sweep", exc_info=error)


def _told(error: BaseException) -> str:
    """A line for the person who starts the daemon."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
