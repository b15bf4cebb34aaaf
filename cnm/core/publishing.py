"""Published ports: which endpoint of a sandbox has them, and how they get there and away.

What is asked for stands in the sandbox's record, what came of it in the endpoints'. The ports
are where the default route is (an answer goes out there), for each address family; when that
moves to another network they move along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Address, ip_address

from cnm import labels
from cnm.core import gateway
from cnm.core.registry import Registry
from cnm.core.state import State
from cnm.driverapi import ExternalConnectivity, NetworkDriver, PublishChecker
from cnm.errors import CNMError, InvalidParameter, PortTaken
from cnm.types import (
    Endpoint,
    EndpointID,
    IPAddress,
    Network,
    NetworkID,
    Phase,
    PortBinding,
    SandboxRecord,
)
from cnm.undo import Undo

Ports = tuple[PortBinding, ...]
Changed = dict[EndpointID, Endpoint]


class Publishing:
    """Keeps the ports of endpoints in step with what sandboxes ask for.

    For all methods the caller holds the sandbox's lock; for those that change something also a
    share of the locks of :meth:`networks`.
    """

    def __init__(self, state: State, registry: Registry) -> None:
        self._state = state
        self._registry = registry

    def networks(self, record: SandboxRecord, *others: NetworkID) -> set[NetworkID]:
        """The networks that a change may concern, and these."""
        active = self._active(record)
        if not record.publish and not any(endpoint.ports for endpoint in active):
            return set(others)
        return {endpoint.network_id for endpoint in active}.union(others)

    def check(self, record: SandboxRecord, wishes: Sequence[PortBinding]) -> None:
        """Refuse what cannot be published, before anything is touched.

        :raises InvalidParameter: an address that the host has not, a protocol that it cannot.
        """
        for endpoint in self._state.endpoints_of_sandbox(record.id):
            network = self._state.network(endpoint.network_id)
            if network is not None:
                self.check_on(network, wishes)

    def check_on(self, network: Network, wishes: Sequence[PortBinding]) -> None:
        """As :meth:`check`, for a network that is joined."""
        driver = self._registry.driver(network.driver)
        if wishes and isinstance(driver, PublishChecker):
            driver.check_external_connectivity(network.id, wishes)

    def settle(
        self,
        record: SandboxRecord,
        wishes: Sequence[PortBinding],
        undo: Undo,
        joining: Endpoint | None = None,
        *,
        moving: bool = False,
    ) -> Changed:
        """Program what differs from ``wishes``; endpoints that have other ports now, unwritten.

        ``joining`` counts as active. What is published already stays as it is. ``moving``: an
        address family may come to where the other one is, so the driver is asked anyhow.

        :raises InvalidParameter: :raises CNMError: in Docker's words; the undo takes all back.
        """
        endpoints = self._active(record)
        if joining is not None:
            endpoints.append(joining)
        if not wishes and not any(endpoint.ports for endpoint in endpoints):
            return {}
        plan = self._plan(wishes, gateway.of_sandbox(self._state, record.id, joining))
        changed: Changed = {}
        for endpoint in endpoints:  # first what gives ports up: another one waits for them
            if endpoint.ports and endpoint.id not in plan:
                self.revoke(endpoint)
                undo.push(self._program, record, endpoint, endpoint.ports)
                changed[endpoint.id] = replace(endpoint, ports=())
        for endpoint in sorted(endpoints, key=lambda item: not item.ports):
            wanted = plan.get(endpoint.id, ())
            if endpoint.id in plan and (moving or not is_met(wanted, endpoint.ports)):
                ports = self._program(record, endpoint, wanted)
                undo.push(self._back, record, endpoint)
                if ports != endpoint.ports:
                    changed[endpoint.id] = replace(endpoint, ports=ports)
        return changed

    def _active(self, record: SandboxRecord) -> list[Endpoint]:
        endpoints = self._state.endpoints_of_sandbox(record.id)
        return [endpoint for endpoint in endpoints if endpoint.phase is Phase.ACTIVE]

    def _plan(
        self, wishes: Sequence[PortBinding], gateways: gateway.Gateways
    ) -> Mapping[EndpointID, Ports]:
        """What each endpoint should publish; one is enough unless the families part."""
        v4, v6 = gateways
        only = v4 or v6
        if only is None or not wishes:
            return {}
        if v4 is None or v6 is None or v4.id == v6.id:
            return {only.id: tuple(wishes)}
        parts = {
            v4.id: _of_family(wishes, self._any_v4(v4.network_id)),
            v6.id: _of_family(wishes, IPv6Address(0)),
        }
        return {endpoint_id: part for endpoint_id, part in parts.items() if part}

    def _any_v4(self, network_id: NetworkID) -> IPAddress:
        network = self._state.network(network_id)
        options = network.options if network is not None else {}
        return ip_address(options.get(labels.BRIDGE_HOST_BINDING_IPV4) or "0.0.0.0")

    # the driver

    def _driver(self, endpoint: Endpoint) -> NetworkDriver | None:
        network = self._state.network(endpoint.network_id)
        return None if network is None else self._registry.driver(network.driver)

    def _program(
        self, record: SandboxRecord, endpoint: Endpoint, wishes: Sequence[PortBinding]
    ) -> Ports:
        driver = self._driver(endpoint)
        if not isinstance(driver, ExternalConnectivity):
            return ()
        try:
            return tuple(
                driver.program_external_connectivity(endpoint.network_id, endpoint.id, wishes)
            )
        except CNMError as error:
            kind = InvalidParameter if isinstance(error, InvalidParameter) else CNMError
            raise kind(
                "driver failed programming external connectivity on endpoint "
                f"{record.name} ({endpoint.id}): {error}{self._holder(error)}"
            ) from error

    def _holder(self, error: CNMError) -> str:
        """Who has a port that is taken, where it is one of ours."""
        endpoint = None
        if isinstance(error, PortTaken) and error.endpoint_id:
            endpoint = self._state.endpoint(EndpointID(error.endpoint_id))
        record = self._state.sandbox(endpoint.sandbox_id) if endpoint is not None else None
        return "" if record is None else f" (held by container {record.name})"

    def _back(self, record: SandboxRecord, endpoint: Endpoint) -> None:
        if endpoint.ports:
            self._program(record, endpoint, endpoint.ports)
        else:
            self.revoke(endpoint)

    def revoke(self, endpoint: Endpoint) -> None:
        """Take an endpoint's ports back, if it has any. Its record is the caller's to write."""
        driver = self._driver(endpoint)
        if isinstance(driver, ExternalConnectivity):
            driver.revoke_external_connectivity(endpoint.network_id, endpoint.id)


def _of_family(wishes: Iterable[PortBinding], anywhere: IPAddress) -> Ports:
    """The part of one address family; what is for both is for ``anywhere`` of this one."""
    return tuple(
        replace(wish, host_ip=wish.host_ip or anywhere)
        for wish in wishes
        if wish.host_ip is None or wish.host_ip.version == anywhere.version
    )


def is_met(wishes: Sequence[PortBinding], ports: Sequence[PortBinding]) -> bool:
    """Whether these ports are what these wishes ask for: each is met, and none is left over."""
    # by port of the host too: a container may have thousands
    free: dict[tuple[str, int], dict[int, list[PortBinding]]] = {}
    for port in ports:
        there = free.setdefault((port.protocol, port.container_port), {})
        there.setdefault(port.host_port, []).append(port)
    # what leaves the port open takes what the others leave
    for wish in sorted(wishes, key=lambda item: (not item.host_port, item.host_port_end)):
        there = free.get((wish.protocol, wish.container_port), {})
        is_open = not wish.host_port or wish.host_port_end > wish.host_port
        numbers = there if is_open else [wish.host_port]
        met = (n for n in numbers if any(is_one_of(port, wish) for port in there.get(n, ())))
        found = next(met, None)
        if found is None:
            return False
        one = replace(wish, host_port=found, host_port_end=0)
        there[found] = [port for port in there[found] if not is_one_of(port, one)]
        if not there[found]:
            del there[found]
    return not any(free.values())


def is_one_of(port: PortBinding, wish: PortBinding) -> bool:
    """Whether a port, as it is, can have come of a wish."""
    same = (port.protocol, port.container_port) == (wish.protocol, wish.container_port)
    last = max(wish.host_port, wish.host_port_end)
    in_range = not wish.host_port or wish.host_port <= port.host_port <= last
    return same and in_range and wish.host_ip in (None, port.host_ip)
