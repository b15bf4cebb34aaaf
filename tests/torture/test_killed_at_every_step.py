"""SIGKILL at the Nth kernel step of every verb; the next start puts everything right.

A random sample in ``make test`` (``SEED=…`` repeats it), every N in ``make torture``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from peers.cnmd import Cnmd
from torture.killing import NOBODY, Record, chosen_seed, every_step, sample
from torture.verbs import VERBS, Scene

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

SAMPLE = 2  # kills of each verb in `make test`


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Cnmd("--dns", NOBODY) as daemon:
        yield Scene(daemon)


@pytest.mark.parametrize("name", VERBS)
def test_sample(scene: Scene, name: str, record_property: Record) -> None:
    sample(scene, VERBS[name], SAMPLE, chosen_seed(), name, record_property)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", VERBS)
def test_every_step(scene: Scene, name: str, record_property: Record) -> None:
    every_step(scene, VERBS[name], record_property)
