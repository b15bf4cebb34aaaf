"""One descriptor, with a number that select(2) does not know."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
from collections.abc import Iterator

import pytest

from cnm.runtime.kernel.readable import is_readable


@pytest.fixture
def above() -> Iterator[int]:
    """The lowest number that select(2) does not know; more may be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    yield 1024
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_end_of_a_process(above: int) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        low = os.pidfd_open(process.pid)
        high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, above)
        try:
            assert not is_readable(high, 0)
            process.kill()
            assert is_readable(high, 10)
        finally:
            process.kill()
            os.close(low)
            os.close(high)
