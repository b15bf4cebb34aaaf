"""The host driver: containers that share the host's own network stack."""

from __future__ import annotations

from cnm.driverapi import DriverContext
from cnm.drivers.inert import InertDriver


def create(context: DriverContext) -> InertDriver:
    """The driver. It needs nothing of the host."""
    return InertDriver("host")
