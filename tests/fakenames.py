"""A resolver made of dictionaries, which outlives the core as the real one does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from cnm.discovery import NamedEndpoint, NetworkNames, QueryStream, SandboxView
from cnm.errors import Unavailable
from cnm.sandboxapi import Inside
from cnm.types import EndpointID, NetworkID, Repair, SandboxID, SandboxRecord


@dataclass
class FakeNames:
    """Keeps the contracts of ``cnm.discovery``; ``step`` may raise, as the kernel's fault does."""

    step: Callable[[str], None]
    networks: dict[NetworkID, dict[EndpointID, NamedEndpoint]] = field(default_factory=dict)
    called: dict[NetworkID, str] = field(default_factory=dict)
    views: dict[SandboxID, SandboxView] = field(default_factory=dict)
    gone: Callable[[SandboxID], None] | None = None

    def together(self) -> AbstractContextManager[Callable[[], None]]:
        return nullcontext(lambda: None)

    def publish(self, network_id: NetworkID, network_name: str, endpoint: NamedEndpoint) -> None:
        self.step("publish")
        self.networks.setdefault(network_id, {})[endpoint.endpoint_id] = endpoint
        self.called[network_id] = network_name

    def withdraw(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        self.networks.get(network_id, {}).pop(endpoint_id, None)
        if not self.networks.get(network_id):
            self.networks.pop(network_id, None)

    def serve(self, record: SandboxRecord, view: SandboxView, inside: Inside) -> None:
        self.step("serve")
        self.views[record.id] = view

    def serves(self, sandbox_id: SandboxID) -> bool:
        return sandbox_id in self.views

    def see(self, sandbox_id: SandboxID, view: SandboxView) -> None:
        if sandbox_id in self.views:
            self.views[sandbox_id] = view

    def stop(self, sandbox_id: SandboxID, inside: Inside | None) -> None:
        self.views.pop(sandbox_id, None)

    def restore_network(self, names: NetworkNames) -> Sequence[Repair]:
        wanted = {endpoint.endpoint_id: endpoint for endpoint in names.endpoints}
        if self.networks.get(names.network_id, {}) == wanted:
            return []
        self.networks[names.network_id] = wanted
        self.called[names.network_id] = names.name
        return [Repair("names", names.name, "told the resolver again")]

    def restore_sandbox(
        self, record: SandboxRecord, view: SandboxView, inside: Inside
    ) -> Sequence[Repair]:
        if self.views.get(record.id) == view:
            return []
        self.views[record.id] = view
        return [Repair("resolver", record.name, "opened again")]

    def known(self) -> tuple[Collection[NetworkID], Collection[SandboxID]]:
        return list(self.networks), list(self.views)

    def forget_network(self, network_id: NetworkID) -> None:
        self.networks.pop(network_id, None)

    def watch(self, gone: Callable[[SandboxID], None], mended: Callable[[Repair], None]) -> None:
        self.gone = gone

    def statistics(self) -> Mapping[str, Any]:
        return {}

    def queries(self, sandbox_id: SandboxID | None) -> QueryStream:
        raise Unavailable("nobody asks a dictionary")

    def names(self) -> set[str]:
        """All published names, as ``web.network``, for tests."""
        return {
            f"{name}.{self.called[network_id]}"
            for network_id, endpoints in self.networks.items()
            for endpoint in endpoints.values()
            for name in endpoint.names
        }
