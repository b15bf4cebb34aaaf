"""A LAN for tests: a namespace with a real dnsmasq in it, on the wire behind the host's eth0."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kernel.namespaces import Namespace, poll
from patience import patient

SERVER = "10.8.0.1"
OPTIONS = ("--dhcp-range=10.8.0.50,10.8.0.99,255.255.255.0,1h",)


class Dnsmasq:
    """One server; its leases are in a file, so that it can be stopped and started again."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self.namespace = namespace
        self.lease_file = folder / f"{namespace.name}.leases"
        self.log_file = folder / f"{namespace.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, ping: bool = False) -> None:
        """Serve, with the options or the usual range."""
        self.stop()
        begin = len(self.log())
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace.name, *self._command(options, ping)],
                stdout=log,
                stderr=log,
            )
        poll(lambda: "DHCP, " in self.log()[begin:], "dnsmasq to serve")

    def _command(self, options: Sequence[str], ping: bool) -> list[str]:
        return [
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0"),
            *("--user=root", "--interface=eth0", "--bind-interfaces", "--log-facility=-"),
            *("--log-dhcp", "--dhcp-authoritative", f"--dhcp-leasefile={self.lease_file}"),
            *([] if ping else ["--no-ping"]),
            *(options or OPTIONS),
        ]

    def stop(self) -> None:
        """Not there any more; what it leased is in its file."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGTERM)
            self._process.wait(patient(10))
            self._process = None

    def log(self) -> str:
        """All it has said."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def said(self, what: str, count: int = 1) -> None:
        """Wait until it has said something so often."""
        poll(lambda: self.log().count(what) >= count, f"dnsmasq: {count} {what}\n{self.log()}")

    def leases(self) -> dict[str, str]:
        """Address by MAC, as its file has them."""
        if not self.lease_file.exists():
            return {}
        lines = [line.split() for line in self.lease_file.read_text().splitlines()]
        return {line[1]: line[2] for line in lines if len(line) > 3}
