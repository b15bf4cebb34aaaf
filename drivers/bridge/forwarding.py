"""The host's forwarding sysctls: on while a network routes to the outside, then as before.

A host that forwards IPv6 stops believing router advertisements (accept_ra 1), and so
would lose its own default route: its interfaces get accept_ra 2 first, as long as any
network routes IPv6. That is shared between networks, hence the lock: without it a
network that goes could put accept_ra back while another comes.

Interfaces that did not forward before we switched it on are told to a guard (rules), before
that and until it is switched off again: the host routes for networks of ours, and else no
more than it did. Which these are is in the settings' durable record.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from cnm.errors import KernelError
from cnm.hostapi import HostSettings
from cnm.runtime.kernel import owner, sysctl
from cnm.runtime.kernel.netlink import Netlink
from cnm.types import NetworkID, NetworkSpec
from cnm.undo import Teardown

_RA_HOLDER = "bridge:router-advertisements"


class Forwarding:
    """What the networks of a driver need of the host's routing.

    ``guard`` is told all interfaces (family, name) between which nothing may be routed.
    """

    def __init__(
        self,
        settings: HostSettings,
        netlink: Netlink,
        guard: Callable[[frozenset[tuple[str, str]]], None],
    ) -> None:
        self._settings = settings
        self._netlink = netlink
        self._guard = guard
        self._lock = threading.Lock()
        self._routing_ipv6: set[NetworkID] = set()

    def need(self, network: NetworkSpec) -> None:
        """Switch on what a network needs: nothing, if it is internal. Again is fine."""
        if network.internal:
            return
        holder, reason = _holder(network.id), f"network {network.name} routes to the outside"
        switches = [sysctl.IP_FORWARD] if network.enable_ipv4 else []
        if network.enable_ipv6:
            switches.append(sysctl.IPV6_FORWARD)
        with self._lock:
            if network.enable_ipv6:
                # One network, so that a sweep over many lists the links once. Said again each
                # time: uplinks appear later too.
                if network.id == min(self._routing_ipv6, default=network.id):
                    self._keep_advertised_routes()
                self._routing_ipv6.add(network.id)
            self._guard(self._not_forwarding(switches))
            for switch in switches:
                self._settings.need(switch, "1", holder=holder, reason=reason)
            self._guard(self._not_forwarding())  # the settings may have refused

    def release(self, network_id: NetworkID) -> None:
        """Give up what a network needed. Forwarding goes back before accept_ra does.

        :raises TeardownError: something could not be put back.
        """
        teardown = Teardown("putting back the host's forwarding")
        with self._lock:
            with teardown.step():
                self._settings.release(_holder(network_id))
                self._routing_ipv6.discard(network_id)
                if not self._routing_ipv6:
                    self._settings.release(_RA_HOLDER)
            with teardown.step():
                self._guard(self._not_forwarding())
        teardown.finish()

    def _not_forwarding(self, wanted: Iterable[str] = ()) -> frozenset[tuple[str, str]]:
        """What did not forward before us; before these are switched on, what does not now.

        For IPv6 that is all interfaces: with the switch off none forwards, whatever its own
        setting says (net/ipv6/ip6_output.c, ip6_forward).
        """
        changed = self._settings.values()
        found = {
            (*interface, old)
            for name, (old, _) in changed.items()
            if (interface := sysctl.interface_of(name)) and sysctl.switch_of(name) in changed
        }
        for switch in wanted:
            if switch not in changed and sysctl.read(switch) == "0":
                family = "ipv4" if switch == sysctl.IP_FORWARD else "ipv6"
                states = sysctl.forwarding_interfaces(family)
                found |= {(family, name, state) for name, state in states.items()}
        return frozenset(
            (family, name)
            for family, name, state in found
            if name not in ("lo", "default") and (state == "0" or family == "ipv6")
        )

    def _keep_advertised_routes(self) -> None:
        for interface in self._uplinks():
            self._settings.need(
                f"net/ipv6/conf/{interface}/accept_ra",
                "2",
                holder=_RA_HOLDER,
                reason="a host that forwards keeps its default route only so",
            )

    def _uplinks(self) -> Iterator[str]:
        """Interfaces that take router advertisements: 1, or 2 since we or others set it."""
        for link in self._netlink.links():
            if link.master or link.name == "lo" or owner.parse(link.alias) is not None:
                continue
            try:
                if sysctl.read(f"net/ipv6/conf/{link.name}/accept_ra") in ("1", "2"):
                    yield link.name
            except KernelError:
                continue  # it went just now


def _holder(network_id: NetworkID) -> str:
    return f"network:{network_id}"
