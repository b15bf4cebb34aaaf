"""SIGKILL at the Nth kernel step of the daemon while a runtime's ADD or DEL is under way.

As ``test_killed_at_every_step``. A DEL succeeds in any case, and is done when the next daemon runs.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from patience import patient
from peers.cnmd import Cnmd
from torture.attachments import ATTACHMENT_VERBS, PodScene
from torture.killing import NOBODY, Record, chosen_seed, every_step, sample

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(patient(240))]

SAMPLE = 1  # kills of each verb in `make test`


@pytest.fixture
def scene() -> Iterator[PodScene]:
    with Cnmd("--dns", NOBODY) as daemon:
        yield PodScene(daemon)


def test_sample(scene: PodScene, record_property: Record) -> None:
    seed = chosen_seed()
    for name, verb in ATTACHMENT_VERBS.items():
        sample(scene, verb, SAMPLE, seed, name, record_property)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ATTACHMENT_VERBS)
def test_every_step(scene: PodScene, name: str, record_property: Record) -> None:
    every_step(scene, ATTACHMENT_VERBS[name], record_property)
