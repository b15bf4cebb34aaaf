"""SIGKILL at the Nth kernel step of every call that an engine makes of our plugins.

As ``test_killed_at_every_step``; and since engines repeat a call that was cut off, each is made
again after the kill, whether it had happened or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import patient
from peers.cnmd import Cnmd
from torture.guests import CALLS, GuestScene
from torture.killing import NOBODY, Record, chosen_seed, every_step, sample

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(patient(240))]

SAMPLE = 1  # kills of each call in `make test`


@pytest.fixture
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestScene]:
    folder: Path = tmp_path_factory.mktemp("d")  # short: paths of sockets are limited
    with Cnmd("--dns", NOBODY, "--plugin-dir", str(folder)) as daemon:
        one = GuestScene(daemon, folder)
        yield one
        one.close()


@pytest.mark.parametrize("kind", ["NetworkDriver", "IpamDriver"])
def test_sample(scene: GuestScene, kind: str, record_property: Record) -> None:
    seed = chosen_seed()
    for name, call in CALLS.items():
        if name.startswith(kind):
            sample(scene, call, SAMPLE, seed, name, record_property)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CALLS)
def test_every_step(scene: GuestScene, name: str, record_property: Record) -> None:
    every_step(scene, CALLS[name], record_property)
