"""The host's forwarding sysctls: on while a network routes to the outside, then as before.

A host that forwards IPv6 stops believing router advertisements (accept_ra 1), and so
would lose its own default route: its interfaces get accept_ra 2 first, as long as any
network routes IPv6. That is shared between networks, hence the lock: without it a
network that goes could put accept_ra back while another comes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from cnm.errors import KernelError
from cnm.hostapi import HostSettings
from cnm.runtime.kernel import owner, sysctl
from cnm.runtime.kernel.netlink import Netlink
from cnm.types import NetworkID, NetworkSpec

_FORWARD_IPV4 = "net/ipv4/ip_forward"
_FORWARD_IPV6 = "net/ipv6/conf/all/forwarding"
_RA_HOLDER = "bridge:router-advertisements"


class Forwarding:
    """What the networks of a driver need of the host's routing."""

    def __init__(self, settings: HostSettings, netlink: Netlink) -> None:
        self._settings = settings
        self._netlink = netlink
        self._lock = threading.Lock()
        self._routing_ipv6: set[NetworkID] = set()

    def need(self, network: NetworkSpec) -> None:
        """Switch on what a network needs: nothing, if it is internal. Again is fine."""
        if network.internal:
            return
        holder, reason = _holder(network.id), f"network {network.name} routes to the outside"
        if network.enable_ipv4:
            self._settings.need(_FORWARD_IPV4, "1", holder=holder, reason=reason)
        if network.enable_ipv6:
            with self._lock:
                if not self._routing_ipv6:
                    self._keep_advertised_routes()
                self._routing_ipv6.add(network.id)
                self._settings.need(_FORWARD_IPV6, "1", holder=holder, reason=reason)

    def release(self, network_id: NetworkID) -> None:
        """Give up what a network needed. Forwarding goes back before accept_ra does."""
        self._settings.release(_holder(network_id))
        with self._lock:
            if network_id not in self._routing_ipv6:
                return
            self._routing_ipv6.discard(network_id)
            if not self._routing_ipv6:
                self._settings.release(_RA_HOLDER)

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
