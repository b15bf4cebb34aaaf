"""``net doctor``."""

from __future__ import annotations

import sys

from cnm.cli.client import Client
from cnm.cli.command import Call, Command
from cnm.cli.errors import CommandError
from cnm.cli.format import align


def doctor(call: Call) -> int:
    """Prints what the daemon found; status 1 if a check failed, warnings do not count."""
    report = Client(call.host).get("/cnm/v1/doctor")
    if not isinstance(report, dict):
        raise CommandError("the daemon's answer has no checks")
    checks = report.get("Checks") or []
    lines = ["CHECK\tSTATUS\tDETAIL"]
    lines += [_line(check) for check in checks]
    sys.stdout.write(align("\n".join(lines)) + "\n")
    for repair in report.get("Repairs") or []:
        sys.stdout.write(f"repaired: {repair}\n")
    return 1 if any(check.get("Status") == "failed" for check in checks) else 0


def _line(check: dict[str, object]) -> str:
    cells = (str(check.get(key, "")) for key in ("Name", "Status", "Detail"))
    return "\t".join(" ".join(cell.split()) for cell in cells)


DOCTOR = Command(
    doctor,
    "Check the kernel's features, conflicts with routes and firewalls, and drift",
    examples=("doctor",),
)
