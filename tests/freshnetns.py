"""Network namespaces as a machine that was just booted has them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cnm.runtime.kernel.netns import NetNS

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def add(name: str) -> None:
    """A new one, forwarding off.

    A namespace takes the IPv4 settings of the machine (net.core.devconf_inherit_init_net, 0):
    with forwarding on, if there is a Docker, or a router.
    """
    subprocess.run(["ip", "netns", "add", name], check=True)
    with NetNS(f"/run/netns/{name}") as made:
        made.run(_stop_forwarding)


def _stop_forwarding() -> None:
    if _FORWARD.read_text().strip() != "0":
        _FORWARD.write_text("0")
