"""Fixtures for everybody: namespaces that stand for the host, containers and peers."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import pytest
from kernel.namespaces import (
    Namespace,
    NamespaceFactory,
    add_namespace,
    delete_namespace,
    entered,
)


@pytest.fixture
def make_ns() -> Iterator[NamespaceFactory]:
    """``make_ns("web")``: a new named namespace, loopback up; gone after the test."""
    with contextlib.ExitStack() as stack:

        def make(hint: str) -> Namespace:
            made = add_namespace(hint)
            stack.callback(delete_namespace, made)
            return made

        yield make


@pytest.fixture
def host_ns(make_ns: NamespaceFactory) -> Iterator[Namespace]:
    """A fresh namespace that the test's own thread is inside of for the whole test.

    Threads and processes that the test starts are inside as well.
    """
    made = make_ns("host")
    with entered(made):
        yield made


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """The test ends with the threads and file descriptors that it began with."""
    threads, descriptors = set(threading.enumerate()), _descriptors()
    yield
    assert set(threading.enumerate()) == threads
    assert _descriptors() == descriptors


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one of this listing
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found
