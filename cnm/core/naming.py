"""What the resolver is told: the names of endpoints, and what each sandbox sees of them.

Names are published for user networks only, as Docker's; the default bridge has links. When
a connect returns its names resolve, and when a disconnect returns they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from cnm import labels
from cnm.containerapi import ContainerSettings
from cnm.core import gateway
from cnm.core.locks import Locks
from cnm.core.state import State
from cnm.discovery import (
    NamedEndpoint,
    NameLink,
    NameService,
    NetworkNames,
    SandboxView,
)
from cnm.sandboxapi import Sandbox
from cnm.types import (
    Endpoint,
    IPAddress,
    Network,
    Phase,
    SandboxID,
    SandboxRecord,
)
from cnm.undo import Teardown, Undo

_SHORT_ID = 12


class Naming:
    """Publishes names and keeps the views of sandboxes in step with their endpoints."""

    def __init__(self, state: State, service: NameService, settings: ContainerSettings) -> None:
        self._state = state
        self._service = service
        self._settings = settings

    # with connect and disconnect, whose locks are held

    @contextmanager
    def joining(
        self,
        network: Network,
        record: SandboxRecord,
        endpoint: Endpoint,
        sandbox: Sandbox,
        undo: Undo,
    ) -> Iterator[None]:
        """Publish a joining endpoint's names, and serve its sandbox.

        The resolver is told before the block, which makes the endpoint reachable meanwhile, and is
        waited for after it.

        :raises Unavailable: :raises KernelError: the undo takes all of it back.
        """
        served = self._service.serves(record.id)
        before, after = self.view(record.id), self.view(record.id, endpoint)
        with self._service.together() as answered:
            if is_named(network):
                self._service.publish(network.id, network.name, self.named(record, endpoint))
                undo.push(self._service.withdraw, network.id, endpoint.id)
            if served and before != after:
                self._service.see(record.id, after)
                undo.push(self._service.see, record.id, before)
        yield
        answered()
        if not served and after.networks:
            self._service.serve(record, after, sandbox)
            undo.push(self._service.stop, record.id, sandbox)

    @contextmanager
    def leaving(
        self, teardown: Teardown, network: Network, record: SandboxRecord, endpoint: Endpoint
    ) -> Iterator[None]:
        """Withdraw the names of an endpoint, which is not active any more; as ``joining``."""
        answers: list[Callable[[], None]] = []
        with teardown.step(), self._service.together() as answered:
            answers.append(answered)
            if is_named(network):
                with teardown.step():
                    self._service.withdraw(network.id, endpoint.id)
            self._service.see(record.id, self.view(record.id))
        try:
            yield
        finally:
            for wait in answers:
                with teardown.step():
                    wait()

    def readdressed(self, network: Network, record: SandboxRecord, endpoint: Endpoint) -> None:
        """An active endpoint has another address or gateway. :raises Unavailable:"""
        if is_named(network):
            self._service.publish(network.id, network.name, self.named(record, endpoint))
        self._service.see(record.id, self.view(record.id))

    def stop(self, sandbox_id: SandboxID, sandbox: Sandbox | None) -> None:
        """No resolver in a sandbox any more. None: its namespace is gone, or will be."""
        self._service.stop(sandbox_id, sandbox)

    def rename(self, record: SandboxRecord, locks: Locks) -> None:
        """Publish the names of a sandbox again, whose record has another name now.

        The caller holds its lock. :raises Unavailable:
        """
        for endpoint in self._state.endpoints_of_sandbox(record.id):
            network = self._state.network(endpoint.network_id)
            if network is not None and is_named(network) and endpoint.phase is Phase.ACTIVE:
                with locks.network(network.id):
                    named = self.named(record, endpoint)
                    self._service.publish(network.id, network.name, named)

    # what there is

    def has_resolver(self, sandbox_id: SandboxID) -> bool:
        """Whether a sandbox is served, or will be when it is joined to its networks."""
        return self._service.serves(sandbox_id) or bool(self.view(sandbox_id).networks)

    def leased_search(self, sandbox_id: SandboxID) -> tuple[str, ...]:
        """Domains to search that came with an address: those of the network of its way out."""
        joined = self._joined(sandbox_id, None)
        first = joined[0][0].join if joined else None
        return first.dns_search if first is not None else ()

    def named(self, record: SandboxRecord, endpoint: Endpoint) -> NamedEndpoint:
        """An endpoint as the resolver is told of it."""
        interface = endpoint.interface
        found = (interface.address, interface.address_ipv6)
        addresses = tuple(item.ip for item in found if item is not None)
        container = self._state.container(record.id)
        hostname = container.definition.hostname if container else ""
        return NamedEndpoint(endpoint.id, dns_names(record, endpoint, hostname), addresses)

    def network_names(self, network: Network) -> NetworkNames:
        """All names of a network."""
        endpoints = []
        for endpoint in self._state.endpoints_of_network(network.id):
            record = self._state.sandbox(endpoint.sandbox_id)
            if endpoint.phase is Phase.ACTIVE and record is not None:
                endpoints.append(self.named(record, endpoint))
        return NetworkNames(network.id, network.name, tuple(endpoints))

    def view(self, sandbox_id: SandboxID, besides: Endpoint | None = None) -> SandboxView:
        """What a sandbox sees, with one more endpoint if given."""
        joined = self._joined(sandbox_id, besides)
        endpoints = [endpoint for endpoint, _ in joined]
        named = [(endpoint, network) for endpoint, network in joined if is_named(network)]
        return SandboxView(
            tuple(network.id for _, network in named),
            tuple(link for endpoint, _ in named for link in _links(endpoint)),
            self._servers(sandbox_id, joined),
            any(gateway.choose(endpoints, {})),
        )

    def _joined(
        self, sandbox_id: SandboxID, besides: Endpoint | None
    ) -> list[tuple[Endpoint, Network]]:
        """Its endpoints in the order in which Docker asks their networks."""
        endpoints = self._state.endpoints_of_sandbox(sandbox_id)
        active = [item for item in endpoints if item.phase is Phase.ACTIVE]
        if besides is not None:
            active.append(besides)
        found = []
        for endpoint in active:
            network = self._state.network(endpoint.network_id)
            if network is not None:
                found.append((endpoint, network))
        return sorted(found, key=_asked_first)

    def _servers(
        self, sandbox_id: SandboxID, joined: Sequence[tuple[Endpoint, Network]]
    ) -> tuple[IPAddress, ...]:
        """The container's, else its endpoints', the daemon's, those leased; none: the host's.

        Leased ones count where the default route is: another network's server shall not see
        what a container asks.
        """
        container = self._state.container(sandbox_id)
        if container is not None and container.definition.names.servers:
            return container.definition.names.servers
        for endpoint, network in joined:
            of_endpoint = endpoint.request.driver_opts.get(labels.ENDPOINT_DNS_SERVERS)
            of_network = network.options.get(labels.NETWORK_DNS)
            found = labels.parse_dns_servers(labels.NETWORK_DNS, of_endpoint or of_network or "")
            if found:
                return found
        if self._settings.dns:
            return self._settings.dns
        first = joined[0][0].join if joined else None
        return first.dns_servers if first is not None else ()


def dns_names(record: SandboxRecord, endpoint: Endpoint, hostname: str) -> tuple[str, ...]:
    """Docker's DNSNames: name, aliases, short id, host name. The first one is for PTR."""
    found = (record.name, *endpoint.request.aliases, record.id[:_SHORT_ID], hostname)
    return tuple(dict.fromkeys(filter(None, found)))


def is_named(network: Network) -> bool:
    """Whether the names of its endpoints resolve."""
    return not network.predefined


def _asked_first(item: tuple[Endpoint, Network]) -> tuple[object, ...]:
    endpoint, network = item
    join = endpoint.join
    gateways = [join.gateway, join.gateway_ipv6] if join else []
    return (
        -endpoint.request.gw_priority,
        network.internal,
        -sum(address is not None for address in gateways),
        network.name,
        network.id,
    )


def _links(endpoint: Endpoint) -> Iterable[NameLink]:
    for text in endpoint.request.links:
        name, _, alias = text.partition(":")
        yield NameLink(alias or name, endpoint.network_id, name)
