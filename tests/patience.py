"""How long tests wait. Nothing is asserted about time; a bound only ends what hangs."""

from __future__ import annotations

import os

ON_SECOND_KERNEL = "CNM_VM" in os.environ  # set in the VM lab
# Under emulation everything takes 10 to 20 times as long.
PATIENCE = 15.0 if ON_SECOND_KERNEL else 1.0


def patient(seconds: float) -> float:
    """A time-out that suits a machine, as it suits this one."""
    return seconds * PATIENCE
