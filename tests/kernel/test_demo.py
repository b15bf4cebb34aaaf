"""The demo holds, step by step, and leaves nothing behind (it looks for that itself)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "scripts" / "demo.py"


@pytest.mark.kernel
@pytest.mark.timeout(180)
def test_demo() -> None:
    environment = {**os.environ, "PYTHONPATH": str(DEMO.parent)}  # as make sets it
    command = [sys.executable, str(DEMO)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "Every step held" in done.stdout
    assert "\033" not in done.stdout  # colours are for terminals
