"""Who is measured: each does the same round of work in its own namespace.

Ours and Docker's daemon are asked through the same API on a socket, the floor is the
kernel asked by netlink with nothing around it: what no daemon can be faster than.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface
from typing import Protocol

from livedaemon import run
from peers.api import Api
from peers.cnmd import Cnmd
from peers.dockerd import Dockerd

from bench.measure import Metrics, at_once
from cnm.runtime.kernel.netns import NetNS

BATCH = 30


class Contender(Protocol):
    """One round: a network is made, containers come and go, the network goes."""

    def round(self, metrics: Metrics) -> None: ...


class Engine:
    """A daemon with Docker's API."""

    def __init__(self, name: str, api: Api, containers: list[str]) -> None:
        self._name = name
        self._api = api
        self._containers = containers
        self._numbers = itertools.count()

    def round(self, metrics: Metrics) -> None:
        network = f"bench{next(self._numbers)}"
        first, *_ = self._containers
        with metrics.timed("network.create", self._name):
            self._api.call("POST", "/networks/create", {"Name": network})
        with metrics.timed("endpoint.attach", self._name):
            self._verb(self._api, network, "connect", first)
        with metrics.timed("endpoint.detach", self._name):
            self._verb(self._api, network, "disconnect", first)
        self._batch(metrics, network)
        with metrics.timed("network.rm", self._name):
            self._api.call("DELETE", f"/networks/{network}")

    def _batch(self, metrics: Metrics, network: str) -> None:
        for container in self._containers:
            self._verb(self._api, network, "connect", container)
        apis = [self._api.another() for _ in self._containers]
        for api in apis:
            api.call("GET", "/networks/none")  # connected before the clock runs
        calls = [
            lambda api=api, container=container: self._verb(api, network, "disconnect", container)
            for api, container in zip(apis, self._containers, strict=True)
        ]
        with metrics.timed(f"endpoint.detach.batch{BATCH}", self._name):
            at_once(calls)
        for api in apis:
            api.close()

    @staticmethod
    def _verb(api: Api, network: str, verb: str, container: str) -> None:
        api.call("POST", f"/networks/{network}/{verb}", {"Container": container})


def ours(daemon: Cnmd) -> Engine:
    names = [f"c{number}" for number in range(BATCH)]
    for name in names:
        daemon.adopt(name)
    return Engine("cnm", daemon.api, names)


def docker(daemon: Dockerd) -> Engine:
    image = daemon.import_image()
    names = [f"c{number}" for number in range(BATCH)]
    for name in names:
        daemon.run(name, image)
        daemon.api.call("POST", "/networks/none/disconnect", {"Container": name})
    return Engine("docker", daemon.api, names)


class Floor:
    """Bridges and veths by netlink messages: no daemon, no store, no rules."""

    def __init__(self, host: str, containers: list[str]) -> None:
        self._stack = ExitStack()
        self._host = self._open(host)
        self._containers = [self._open(name) for name in containers]

    def close(self) -> None:
        self._stack.close()

    def round(self, metrics: Metrics) -> None:
        host = self._host.netlink()
        with metrics.timed("network.create", "floor"):
            host.batch().add_bridge("floor0", up=True).commit()
            self._bridge = host.index("floor0") or 0
            host.batch().add_address(self._bridge, ip_interface("10.9.0.1/16")).commit()
        with metrics.timed("endpoint.attach", "floor"):
            self._attach(0)
        with metrics.timed("endpoint.detach", "floor"):
            host.delete_links(["fl0"])
        for number in range(BATCH):
            self._attach(number)
        with metrics.timed(f"endpoint.detach.batch{BATCH}", "floor"):
            host.delete_links([f"fl{number}" for number in range(BATCH)])
        with metrics.timed("network.rm", "floor"):
            host.delete_links(["floor0"])

    def _attach(self, number: int) -> None:
        """The pair made in place, addressed, up, with its default route."""
        inside = self._containers[number]
        pair = self._host.netlink().batch()
        pair.add_veth(
            f"fl{number}", peer_name="eth0", peer_ns_fd=inside.fd, master=self._bridge
        ).commit()
        netlink = inside.netlink()
        index = netlink.index("eth0") or 0
        batch = netlink.batch().add_address(index, ip_interface(f"10.9.1.{number + 1}/16"))
        batch.set_link(index, up=True)
        batch.add_route(None, gateway=ip_address("10.9.0.1"), device_index=index).commit()

    def _open(self, name: str) -> NetNS:
        return self._stack.enter_context(NetNS(f"/run/netns/{name}"))


def floor(stack: ExitStack, prefix: str) -> Floor:
    """In namespaces of its own, which go with the stack."""
    names = [f"{prefix}-floor", *(f"{prefix}-floor{number}" for number in range(BATCH))]
    for name in names:
        run("ip", "netns", "add", name)
        stack.callback(run, "ip", "netns", "delete", name)
    made = Floor(names[0], names[1:])
    stack.callback(made.close)
    return made
