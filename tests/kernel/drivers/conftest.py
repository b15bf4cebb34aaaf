"""Fixtures: a namespace that stands for the host, others for sandboxes and peers."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from collections.abc import Iterator

import pytest
from kernel.drivers.lab import Namespace, NamespaceFactory, remove_namespace

from cnm.runtime.kernel.netns import NetNS


@pytest.fixture
def make_ns() -> Iterator[NamespaceFactory]:
    """New namespaces, with loopback up; all gone after the test."""
    with contextlib.ExitStack() as stack:

        def make() -> Namespace:
            name = f"cnmdrv-{secrets.token_hex(4)}"
            subprocess.run(["ip", "netns", "add", name], check=True)
            stack.callback(remove_namespace, name)
            made = Namespace(name, NetNS(f"/run/netns/{name}"))
            stack.callback(made.close)
            made.sh("ip link set lo up")
            return made

        yield make


@pytest.fixture
def host_ns(make_ns: NamespaceFactory) -> Namespace:
    """The namespace that stands for the host."""
    return make_ns()
