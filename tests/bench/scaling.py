"""Does the 200th step take longer than the first?"""

from __future__ import annotations

from peers.cnmd import Cnmd

from bench.measure import growth, steps
from bench.stage import POOL

STEPS = 200


def measure_growth() -> dict[str, tuple[float, float]]:
    """Medians in ms of the first and the last ten of 200 steps, on a daemon of its own."""
    with Cnmd("--default-address-pool", POOL) as daemon:
        daemon.create("crowd", IPAM={"Config": [{"Subnet": "10.64.0.0/16"}]})
        for number in range(STEPS):
            daemon.adopt(f"c{number}")
        return {
            "attach": growth(steps(STEPS, lambda number: daemon.connect("crowd", f"c{number}"))),
            "detach": growth(steps(STEPS, lambda number: daemon.disconnect("crowd", f"c{number}"))),
            "create": growth(steps(STEPS, lambda number: daemon.create(f"n{number}"))),
            "rm": growth(steps(STEPS, lambda number: daemon.remove(f"n{number}"))),
        }
