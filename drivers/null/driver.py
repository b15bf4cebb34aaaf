"""The null driver: containers with a loopback interface and nothing else."""

from __future__ import annotations

from cnm.driverapi import DriverContext
from cnm.drivers.inert import InertDriver


def create(context: DriverContext) -> InertDriver:
    """The driver. It needs nothing of the host."""
    return InertDriver("null")
