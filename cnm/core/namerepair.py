"""The resolver against the store: what start-up and sweep put right, one thing at a time."""

from __future__ import annotations

from collections.abc import Sequence

from cnm.core.locks import Locks
from cnm.core.naming import Naming, is_named
from cnm.core.state import State
from cnm.discovery import NameRepair
from cnm.sandboxapi import Sandbox
from cnm.types import Network, NetworkID, Phase, Repair, SandboxID, SandboxRecord, SandboxStatus


class NamingRepair:
    """Compares. Each comparison under the locks of what is compared, so that none is stale."""

    def __init__(self, state: State, locks: Locks, naming: Naming, service: NameRepair) -> None:
        self._state = state
        self._locks = locks
        self._naming = naming
        self._service = service

    def network(self, network: Network) -> Sequence[Repair]:
        """The names of a network, whose lock the caller holds exclusively."""
        if not is_named(network):
            return []
        return self._service.restore_network(self._naming.network_names(network))

    def sandbox(self, record: SandboxRecord, sandbox: Sandbox) -> Sequence[Repair]:
        """View, sockets and rules of a sandbox, whose lock the caller holds."""
        if not self._naming.has_resolver(record.id):
            return []
        view = self._naming.view(record.id)
        return self._service.restore_sandbox(record, view, sandbox)

    def strangers(self) -> list[Repair]:
        """Names and sandboxes that the store knows nothing of are forgotten."""
        networks, sandboxes = self._service.known()
        repairs: list[Repair] = []
        for network_id in networks:
            with self._locks.network(network_id, exclusive=True):
                if not self._holds_names(network_id):
                    self._service.forget_network(network_id)
                    repairs.append(Repair("names", network_id[:12], "forgotten: no such network"))
        for sandbox_id in sandboxes:
            with self._locks.sandbox(sandbox_id):
                if not self._runs(sandbox_id):
                    self._naming.stop(sandbox_id, None)
                    action = "closed: no such container runs"
                    repairs.append(Repair("resolver", sandbox_id[:12], action))
        return repairs

    def _holds_names(self, network_id: NetworkID) -> bool:
        network = self._state.network(network_id)
        return network is not None and network.phase is Phase.ACTIVE and is_named(network)

    def _runs(self, sandbox_id: SandboxID) -> bool:
        record = self._state.sandbox(sandbox_id)
        return record is not None and record.status is SandboxStatus.RUNNING
