"""The stage of probes."""

from __future__ import annotations

import pytest
from kernel.namespaces import NamespaceFactory
from kernel.netlab.stage import Stage


@pytest.fixture
def stage(make_ns: NamespaceFactory) -> Stage:
    return Stage(make_ns)
