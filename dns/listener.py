"""One sandbox's sockets on the loop."""

from __future__ import annotations

import socket

from cnm.dns.names import View
from cnm.dns.place import Forwarding, QueryWatch, SandboxPlace
from cnm.dns.statistics import Counters
from cnm.runtime.kernel.loop import Loop


class Listener:
    """Serves a sandbox until it is closed. It owns the two sockets, not the namespace.

    ``udp`` is bound, ``tcp`` bound and listening.
    """

    def __init__(
        self,
        loop: Loop,
        place: SandboxPlace,
        udp: socket.socket,
        tcp: socket.socket,
        view: View,
        forwarding: Forwarding,
        counters: Counters,
    ) -> None:
        self.place = place
        self.counters = counters
        self._view = view
        self._sockets = (udp, tcp)
        self._forwarding = forwarding
        self._watch: QueryWatch | None = None

    def see(self, view: View) -> None:
        """Answer as of ``view`` from the next query on. Queries in flight are answered."""
        self._view = view

    def watch(self, log: QueryWatch | None) -> None:
        """Report every query to ``log``; None: nobody reads any more."""
        self._watch = log

    def close(self) -> None:
        """Stop and close both sockets; what is forwarded for it is dropped."""
        self._forwarding.forget(self.place)
        for each in self._sockets:
            each.close()
