"""Published ports of a driver made of dictionaries: it keeps the contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from cnm.errors import InvalidParameter, PortTaken
from cnm.types import EndpointID, EndpointState, NetworkID, PortBinding, Repair

_ANYWHERE = (ip_address("0.0.0.0"), ip_address("::"))
_FIRST = 32768

Place = tuple[str, object, int]  # protocol, address, port


@dataclass
class PortTable:
    """The host's ports, and who has them. The driver of each "daemon" shares it."""

    step: Callable[[str], None]
    held: dict[Place, str] = field(default_factory=dict)
    addresses: set[str] = field(default_factory=lambda: {"0.0.0.0", "::", "127.0.0.1", "::1"})
    calls: list[str] = field(default_factory=list)

    def of(self, endpoint_id: str) -> list[Place]:
        return [place for place, holder in self.held.items() if holder == endpoint_id]


class FakePorts:
    """The optional protocols of ``cnm.driverapi`` for ports."""

    def __init__(self, table: PortTable) -> None:
        self.table = table
        self._known: dict[str, tuple[PortBinding, ...]] = {}

    def check(self, ports: Sequence[PortBinding]) -> None:
        for port in ports:
            if port.host_ip is not None and str(port.host_ip) not in self.table.addresses:
                raise InvalidParameter(f"{port.host_ip} is not an address of this host")

    def program(self, endpoint_id: EndpointID, ports: Sequence[PortBinding]) -> list[PortBinding]:
        self.table.calls.append("program")
        self.table.step("program")
        before = dict(self.table.held)
        kept = list(self._known.get(endpoint_id, ()))
        for place in self.table.of(endpoint_id):
            del self.table.held[place]
        try:
            real = [one for port in ports for one in self._bind(endpoint_id, port, kept)]
        except PortTaken:
            self.table.held = before
            raise
        self._known[endpoint_id] = tuple(real)
        return real

    def _bind(
        self, endpoint_id: str, port: PortBinding, kept: list[PortBinding]
    ) -> list[PortBinding]:
        addresses = (port.host_ip,) if port.host_ip else _ANYWHERE
        first = port.host_port or _FIRST
        last = max(first, port.host_port_end) if port.host_port else 60000
        same = [
            item.host_port
            for item in kept
            if (item.protocol, item.container_port) == (port.protocol, port.container_port)
        ]
        for number in [*(n for n in same if first <= n <= last), *range(first, last + 1)]:
            places = [(port.protocol, address, number) for address in addresses]
            if not any(place in self.table.held for place in places):
                self.table.held.update(dict.fromkeys(places, endpoint_id))
                return [
                    replace(port, host_ip=address, host_port=number, host_port_end=0)
                    for address in addresses
                ]
        holder = self.table.held.get((port.protocol, addresses[0], first), "")
        raise PortTaken(
            f"Bind for {addresses[0]}:{first} failed: port is already allocated", holder
        )

    def revoke(self, endpoint_id: EndpointID) -> None:
        for place in self.table.of(endpoint_id):
            self.table.calls.append("revoke")
            del self.table.held[place]
        self._known.pop(endpoint_id, None)

    def restore(self, endpoints: Sequence[EndpointState]) -> list[Repair]:
        repairs = []
        for state in endpoints:
            wanted = [(port.protocol, port.host_ip, port.host_port) for port in state.ports]
            if sorted(map(str, self.table.of(state.endpoint_id))) != sorted(map(str, wanted)):
                for place in self.table.of(state.endpoint_id):
                    del self.table.held[place]
                self.table.held.update(dict.fromkeys(wanted, state.endpoint_id))
                repairs.append(Repair("ports", state.interface_name, "published again"))
            self._known[state.endpoint_id] = state.ports
        return repairs


class PublishingCalls:
    """The contract's methods over :class:`FakePorts`, for a driver to inherit."""

    ports: FakePorts

    def check_external_connectivity(
        self, network_id: NetworkID, ports: Sequence[PortBinding]
    ) -> None:
        self.ports.check(ports)

    def program_external_connectivity(
        self, network_id: NetworkID, endpoint_id: EndpointID, ports: Sequence[PortBinding]
    ) -> Sequence[PortBinding]:
        return self.ports.program(endpoint_id, ports)

    def revoke_external_connectivity(self, network_id: NetworkID, endpoint_id: EndpointID) -> None:
        self.ports.revoke(endpoint_id)
