"""Large labs: up and down, whole and killed half-way, and nothing of them is left.

The size that is promised (20 hosts, 200 containers) takes long beside other tests: `make torture`
has it, `make test` a quarter. How long it took is recorded, not asserted.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.remains import remains

Record = Callable[[str, object], None]  # pytest's record_property

_WITHIN_S = 240
_HOST = """\
  n{number}:
    links: [{{to: lan, addresses: 10.9.0.{number}/24}}]
    cnm:
    networks: {{localnet: {{subnets: 172.18.0.0/16}}}}
    containers: {{c: {{image: host, command: sleep {mark}, networks: [localnet], count: {count}}}}}
"""


class Large:
    """A lab of so many hosts, each with a daemon, a network and so many containers."""

    def __init__(self, folder: Path, hosts: int, count: int) -> None:
        self.containers = hosts * count
        self.mark = f"8{secrets.randbelow(10**6):06}.5"
        self.name = f"large-{secrets.token_hex(4)}"
        self.file = folder / f"{self.name}.yaml"
        numbers = range(1, hosts + 1)
        parts = [_HOST.format(number=each, mark=self.mark, count=count) for each in numbers]
        self.file.write_text(f"switches: {{lan: }}\nhosts:\n{''.join(parts)}")

    def command(self, verb: str) -> list[str]:
        what = str(self.file) if verb == "up" else self.name
        return [sys.executable, "-m", "cnm.netlab", verb, "-q", what]

    def timed(self, verb: str) -> float:
        """Do it; how long it took."""
        begun = time.monotonic()
        done = subprocess.run(
            self.command(verb), capture_output=True, text=True, timeout=_WITHIN_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return time.monotonic() - begun

    def killed(self, verb: str, after_s: float, *, all_of_it: bool) -> None:
        """Begin it and kill it after a while: netlab alone, or with the processes that help it."""
        with subprocess.Popen(self.command(verb), start_new_session=True) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(after_s)
            if all_of_it:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()

    def assert_whole(self) -> None:
        """Each container runs its command."""
        running = [item for item in remains(self.name) if item.endswith(f" sleep {self.mark} ")]
        assert len(running) == self.containers

    def assert_gone(self) -> None:
        assert remains(self.name, self.mark) == []


@pytest.fixture
def large(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Large]:
    made = Large(tmp_path, *request.param)
    yield made
    subprocess.run(made.command("down"), capture_output=True, timeout=_WITHIN_S, check=False)
    made.assert_gone()


@pytest.mark.parametrize(
    "large",
    [
        pytest.param((5, 10), id="5 hosts, 50 containers"),
        pytest.param((20, 10), id="20 hosts, 200 containers", marks=pytest.mark.slow),
    ],
    indirect=True,
)
@pytest.mark.timeout(_WITHIN_S)
def test_up_and_down(large: Large, record_property: Record) -> None:
    record_property("up", f"{large.timed('up'):.1f} s")
    large.assert_whole()
    record_property("down", f"{large.timed('down'):.1f} s")
    large.assert_gone()


@pytest.mark.slow  # test_killed.py kills smaller ones
@pytest.mark.parametrize(
    "large", [pytest.param((20, 10), id="20 hosts, 200 containers")], indirect=True
)
@pytest.mark.parametrize("all_of_it", [False, True], ids=["netlab", "with its helpers"])
@pytest.mark.timeout(3 * _WITHIN_S)
def test_killed_half_way(large: Large, all_of_it: bool) -> None:
    took_s = large.timed("up")
    took_down_s = large.timed("down")
    large.assert_gone()
    large.killed("up", took_s / 2, all_of_it=all_of_it)
    large.timed("up")  # goes on
    large.assert_whole()
    large.killed("down", took_down_s / 2, all_of_it=all_of_it)
    subprocess.run(large.command("down"), capture_output=True, timeout=_WITHIN_S, check=False)
    large.assert_gone()
    large.killed("up", took_s * 2 / 3, all_of_it=all_of_it)
    large.timed("down")
    large.assert_gone()
