"""How long tests wait. Nothing is asserted about time; a bound only ends what hangs."""

from __future__ import annotations

import os

# Under emulation everything takes 10 to 20 times as long (CNM_VM: set in the VM lab).
PATIENCE = 15.0 if os.environ.get("CNM_VM") else 1.0


def patient(seconds: float) -> float:
    """A time-out that suits a machine, as it suits this one."""
    return seconds * PATIENCE
