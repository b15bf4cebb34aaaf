"""Fixtures: a host that drivers work on, and places to stand for sandboxes and peers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernel.drivers.lab import Host, Place, PlaceFactory
from kernel.namespaces import Namespace, NamespaceFactory


@pytest.fixture
def host(host_ns: Namespace) -> Iterator[Host]:
    """The test's own thread is in it."""
    made = Host(host_ns)
    yield made
    made.close()


@pytest.fixture
def make_place(make_ns: NamespaceFactory) -> PlaceFactory:
    """New places; all gone after the test."""
    return lambda: Place(make_ns("place"))
