"""A sandbox, servers inside it, and a forwarder outside of it."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel.dns.upstreams import Behaviour, Client, Server, opened
from kernel.namespaces import Namespace, NamespaceFactory

from cnm.dns.place import SandboxPlace

ServerFactory = Callable[..., Server]
ClientFactory = Callable[..., Client]


@pytest.fixture
def box(make_ns: NamespaceFactory) -> Namespace:
    """A sandbox, with loopback addresses for any number of servers."""
    return make_ns("box")


@pytest.fixture
def place(box: Namespace) -> Iterator[SandboxPlace]:
    with opened(box) as made:
        yield made


@pytest.fixture
def serve(box: Namespace) -> Iterator[ServerFactory]:
    """``serve("127.0.0.2", well())``: a server inside the sandbox, or in ``namespace``."""
    with contextlib.ExitStack() as stack:

        def make(
            address: str, behave: Behaviour, namespace: Namespace = box, *, stream: bool = True
        ) -> Server:
            return stack.enter_context(Server(namespace, address, behave, stream=stream))

        yield make


@pytest.fixture
def client(place: SandboxPlace, tmp_path: Path) -> Iterator[ClientFactory]:
    """``client(server, "127.0.0.9")``: asks these for the sandbox; none: the host's, of a file."""
    with contextlib.ExitStack() as stack:

        def make(*servers: Server | str, **settings: Any) -> Client:
            wanted = tuple(
                ipaddress.ip_address(each) if isinstance(each, str) else each.address
                for each in servers
            )
            made = Client(place, wanted, tmp_path / "resolv.conf", **settings)
            stack.callback(made.close)
            return made

        yield make
