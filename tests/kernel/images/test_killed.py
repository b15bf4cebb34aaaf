"""A kill at any change leaves nothing that the next start does not clean."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

HERE = Path(__file__)
FEWEST = {"import": 20, "load": 50, "tag": 2, "remove": 10}


@pytest.mark.parametrize("verb", FEWEST)
def test_killed_at_every_change(tmp_path: Path, verb: str) -> None:
    found = subprocess.run(
        [sys.executable, str(HERE.with_name("killed.py")), str(tmp_path), verb],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-500:] + found.stderr[-3000:]
    lines = found.stdout.splitlines()
    assert lines[-1].split("; ")[1:] == ["survived"]
    assert len(lines) > FEWEST[verb]
    assert any("removed: " in line for line in lines)
