"""Who is measured: each can do the same work on a host of its own.

Ours and Docker's daemon are asked through the same API on a socket; netavark and CNI are
programs, called as their users call them; the floor (``floor``) is the kernel, asked by netlink.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Protocol

from peers.api import Api
from peers.cni import Cni
from peers.netavark import Netavark

from bench.catalogue import BATCH
from bench.measure import at_once

VERBS_OF_NETWORKS = frozenset({"network.create", "network.rm"})
CONTAINERS = range(BATCH)
_KEEPER = BATCH  # the container of netavark's that keeps the bridge


class Contender(Protocol):
    """A network is made, containers come and go, the network goes."""

    name: str
    lacks: frozenset[str]  # metrics that it has no verb for

    def create(self) -> None: ...
    def remove(self) -> None: ...
    def attach(self, number: int) -> None: ...
    def detach(self, number: int) -> None: ...
    def attach_all(self) -> None: ...
    def detach_all(self) -> None:
        """All containers at once, as far as one can ask for it."""

    def namespace(self, number: int) -> str:
        """Path of a container's network namespace."""

    def address(self, number: int) -> str:
        """Its address on the network, while it is attached."""


class Engine:
    """A daemon with Docker's API. ``containers``: name and namespace's path of each."""

    lacks: frozenset[str] = frozenset()

    def __init__(self, name: str, api: Api, containers: list[tuple[str, str]]) -> None:
        self.name = name
        self._api = api
        self._containers = containers
        self._connections = [api.another() for _ in containers]
        self._numbers = itertools.count()
        self._network = ""

    def create(self) -> None:
        self._network = f"bench{next(self._numbers)}"
        self._api.call("POST", "/networks/create", {"Name": self._network})

    def remove(self) -> None:
        self._api.call("DELETE", f"/networks/{self._network}")

    def attach(self, number: int) -> None:
        self._api.call(*self._request("connect", number))

    def detach(self, number: int) -> None:
        self._api.call(*self._request("disconnect", number))

    def attach_all(self) -> None:
        """By a connection for each, so that all are open when they are to be detached."""
        for number in CONTAINERS:
            self._connections[number].call(*self._request("connect", number))

    def detach_all(self) -> None:
        """All are asked before the first answer is looked for."""
        for number in CONTAINERS:
            self._connections[number].begin(*self._request("disconnect", number))
        for number in CONTAINERS:
            self._connections[number].finish()

    def namespace(self, number: int) -> str:
        return self._containers[number][1]

    def address(self, number: int) -> str:
        found = self._api.call("GET", f"/networks/{self._network}")["Containers"].values()
        name = self._containers[number][0]
        interface = next(item["IPv4Address"] for item in found if item["Name"] == name)
        return str(interface).partition("/")[0]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _request(self, verb: str, number: int) -> tuple[str, str, object]:
        name, _ = self._containers[number]
        return "POST", f"/networks/{self._network}/{verb}", {"Container": name}


class NetavarkContender:
    """A bridge comes with the first container: one more keeps it while others are measured."""

    name = "netavark"
    lacks = VERBS_OF_NETWORKS

    def __init__(self, host: Netavark) -> None:
        self._host = host

    def create(self) -> None:
        self._host.setup(_KEEPER)

    def remove(self) -> None:
        self._host.teardown(_KEEPER)

    def attach(self, number: int) -> None:
        self._host.setup(number)

    def detach(self, number: int) -> None:
        self._host.teardown(number)

    def attach_all(self) -> None:
        for number in CONTAINERS:
            self.attach(number)

    def detach_all(self) -> None:
        """One after another: netavark fails beside itself, so Podman holds a lock around it."""
        for number in CONTAINERS:
            self.detach(number)

    def namespace(self, number: int) -> str:
        return self._host.path(self._host.containers[number])

    def address(self, number: int) -> str:
        return self._host.address(number)


class CniContender:
    """The bridge is there after the first ADD, and stays."""

    name = "cni"
    lacks = VERBS_OF_NETWORKS

    def __init__(self, host: Cni) -> None:
        self._host = host

    def create(self) -> None: ...

    def remove(self) -> None: ...

    def attach(self, number: int) -> None:
        self._host.add(number)

    def detach(self, number: int) -> None:
        self._host.delete(number)

    def attach_all(self) -> None:
        for number in CONTAINERS:
            self.attach(number)

    def detach_all(self) -> None:
        at_once([partial(self.detach, number) for number in CONTAINERS])

    def namespace(self, number: int) -> str:
        return self._host.path(self._host.containers[number])

    def address(self, number: int) -> str:
        return self._host.address(number)
