"""Connections that the kernel tracks, where a change of ports must end them.

A translation is chosen for a connection's first packet and kept while it lasts, and a UDP client
that never stops sending makes it last for ever: one that came before the port was published
reaches nobody, and one that was sent to a container that has gone still is. Such entries are
found by how the first packet was addressed, to the host and its port, not by the container's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from ipaddress import ip_network

from cnm.drivers.bridge.portmap import Container
from cnm.drivers.bridge.record import NetworkRecord
from cnm.runtime.kernel import conntrack
from cnm.runtime.kernel.conntrack import Flow, Kind
from cnm.runtime.kernel.netlink import Netlink
from cnm.types import IPAddress, PortBinding

_LOOPBACK = ip_network("127.0.0.0/8")
_WITHOUT_END = "udp"  # the others say when they begin

_Chosen = Callable[[Flow], bool]
Binding = tuple[PortBinding, Container]
_Kinds = dict[Kind, dict[int, list[Binding]]]  # by port of the host
_STRAY_KINDS = ((_WITHOUT_END, 4), (_WITHOUT_END, 6))


class Flows:
    """Those of one namespace that have to do with published ports."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._looked = False

    def local_addresses(self) -> set[IPAddress]:
        """Of the host, loopback's range apart."""
        return {address.interface.ip for address in self._netlink.addresses()}

    def begin(self, bindings: Iterable[PortBinding], container: Container) -> None:
        """Forget UDP clients that were sent elsewhere until now."""
        udp = [item for item in bindings if item.protocol == _WITHOUT_END]
        self._remove(udp, container, translated_here=False)

    def end(self, bindings: Iterable[PortBinding], container: Container) -> None:
        """Forget whoever was sent to the container by ports that are none any more."""
        self._remove(bindings, container, translated_here=True)

    def end_with(self, bindings: Iterable[PortBinding], container: Container) -> None:
        """The same where the container goes too: what knows an end finds it by itself."""
        udp = [item for item in bindings if item.protocol == _WITHOUT_END]
        self._remove(udp, container, translated_here=True)

    def stray(self, networks: Collection[NetworkRecord], bindings: list[Binding]) -> list[Flow]:
        """UDP clients sent to containers by ports that are not published. Looks only once.

        What a daemon that was killed could have left; later ones end in its own calls.
        """
        if self._looked:
            return []
        is_stray = self._strays(networks, bindings)
        found = [flow for flow in conntrack.flows(_STRAY_KINDS) if is_stray(flow)]
        self._looked = not found
        return found

    def end_stray(self, networks: Collection[NetworkRecord], bindings: list[Binding]) -> None:
        """Forget those."""
        if not self._looked:
            conntrack.remove(_STRAY_KINDS, self._strays(networks, bindings))
            self._looked = True

    def _remove(
        self, bindings: Iterable[PortBinding], container: Container, *, translated_here: bool
    ) -> None:
        kinds = _by_kind((item, container) for item in bindings)
        if not kinds:
            return
        local = self.local_addresses()

        def is_meant(flow: Flow) -> bool:
            meant = _meant(flow, kinds)
            here = any(_leads(flow, item) for item in meant)
            return bool(meant) and here is translated_here and _is_local(flow, local)

        conntrack.remove(kinds, is_meant)

    def _strays(self, networks: Collection[NetworkRecord], bindings: list[Binding]) -> _Chosen:
        local = self.local_addresses()
        pools = [pool.pool for each in networks for pool in (*each.spec.ipv4, *each.spec.ipv6)]
        kinds = _by_kind(bindings)

        def is_stray(flow: Flow) -> bool:
            ours = flow.translated and any(flow.answered_by in pool for pool in pools)
            if not ours or not _is_local(flow, local):
                return False
            return not any(_leads(flow, item) for item in _meant(flow, kinds))

        return is_stray


def _by_kind(bindings: Iterable[Binding]) -> _Kinds:
    """Those that the kernel translates."""
    found: _Kinds = {}
    for binding, container in bindings:
        host = binding.host_ip
        if host is not None and binding.host_port and container.leads_by(host) is not None:
            ports = found.setdefault((binding.protocol, host.version), {})
            ports.setdefault(binding.host_port, []).append((binding, container))
    return found


def _is_local(flow: Flow, local: set[IPAddress]) -> bool:
    return flow.destination in local or flow.destination in _LOOPBACK


def _meant(flow: Flow, kinds: _Kinds) -> list[Binding]:
    """The bindings that a flow's first packet was sent to."""
    ports = kinds.get(flow.kind, {})
    return [item for item in ports.get(flow.destination_port, ()) if _hits(flow, item)]


def _hits(flow: Flow, item: Binding) -> bool:
    host = item[0].host_ip
    return host is not None and (host.is_unspecified or host == flow.destination)


def _leads(flow: Flow, item: Binding) -> bool:
    binding, container = item
    target = (container.address(flow.destination.version), binding.container_port)
    return flow.translated and (flow.answered_by, flow.answered_from) == target
