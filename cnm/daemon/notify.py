"""sd_notify(3): tells the service manager when the daemon is ready, reloads and stops."""

from __future__ import annotations

import contextlib
import os
import socket
import time


def notify(state: str) -> None:
    """Send ``READY=1``, ``STOPPING=1`` …; without a service manager nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # abstract
        address = "\0" + address[1:]
    # a manager that does not listen must not keep the daemon from its work
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state.encode(), address)


def reloading() -> str:
    """The state before a reload; systemd wants the time beside it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
