"""Lease stores of both kinds, and an allocator on one of them."""

from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv6Network, ip_network
from pathlib import Path

import pytest

from cnm.ipam.allocator import Allocator, create
from cnm.ipam.memory import MemoryLeases
from cnm.ipamapi import IpamContext, LeaseStore
from cnm.store import SqliteStore

Start = Callable[..., Allocator]

ULA = IPv6Network("fd12:3456:789a::/48")


@pytest.fixture(params=["memory", "sqlite"])
def leases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LeaseStore]:
    """Each implementation of the contract."""
    if request.param == "memory":
        yield MemoryLeases()
        return
    store = SqliteStore(tmp_path / "cnm.db")
    yield store.leases
    store.close()


@pytest.fixture
def start() -> Start:
    """Starts an allocator on a store; a second one on the same store is a restart."""

    def begin(
        store: LeaseStore | None = None,
        local: Sequence[tuple[str, int]] = (),
        global_: Sequence[tuple[str, int]] = (),
    ) -> Allocator:
        return create(
            IpamContext(
                store=MemoryLeases() if store is None else store,
                ula_prefix=ULA,
                local_pools=[(ip_network(base), size) for base, size in local],
                global_pools=[(ip_network(base), size) for base, size in global_],
            )
        )

    return begin


@pytest.fixture
def allocator(start: Start) -> Allocator:
    return start()
