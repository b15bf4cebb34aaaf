"""Fixtures: a LAN with a DHCP server, and a store to keep leases in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.ipam.lan import SERVER, Dnsmasq
from kernel.namespaces import Namespace, NamespaceFactory

from cnm.store import SqliteStore


@pytest.fixture
def lan(host_ns: Namespace, make_ns: NamespaceFactory) -> Namespace:
    """A namespace on the other side of the host's eth0, with the address 10.8.0.1."""
    made = make_ns("lan")
    host_ns.sh(
        f"link add eth0 type veth peer name eth0 netns {made.name};"
        "link set eth0 up; addr add 10.8.0.9/24 dev eth0"
    )
    made.sh(f"link set eth0 up; addr add {SERVER}/24 dev eth0")
    return made


@pytest.fixture
def server(lan: Namespace, tmp_path: Path) -> Iterator[Dnsmasq]:
    made = Dnsmasq(lan, tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "cnm.db")
    yield made
    made.close()
