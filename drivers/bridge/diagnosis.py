"""What the bridge driver needs of the kernel, tried out in a namespace made for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_interface

from cnm.drivers.bridge import firewall, hostfirewalls
from cnm.drivers.bridge.hostfirewalls import CHAIN, Barrier
from cnm.errors import KernelError
from cnm.runtime.kernel import sysctl
from cnm.runtime.kernel.netlink import OUR_PROTOCOL, Netlink
from cnm.runtime.kernel.nft import LibNft
from cnm.runtime.kernel.scratch import in_scratch_namespace

Finding = tuple[str, bool | str, str]

WARNING = "warning"
_ADDRESS = ip_interface("192.0.2.1/24")  # TEST-NET-1, RFC 5737
_REMEMBERED = "addresses on adopted bridges are removed with their network"


def diagnose() -> Sequence[Finding]:
    """(feature, works here or "warning", detail) for each."""
    findings: list[Finding] = in_scratch_namespace(_in_scratch)
    others, left = _others_that_drop()
    return [*findings, *others, _filtered_bridges(left)]


def _in_scratch() -> list[Finding]:
    nft = LibNft()
    try:
        with Netlink() as netlink:
            return [
                _tried("bridge", lambda: netlink.batch().add_bridge("probe").commit()),
                _tried("veth", lambda: _make_pair(netlink)),
                _remembers_addresses(netlink),
                _tried("nft inet: NAT and isolation", lambda: _write_routed(nft)),
                _tried("nft bridge: ICC, RA guard", lambda: nft.replace(firewall.switched_table())),
                _tried("IPv6", lambda: _read("net/ipv6/conf/all/forwarding")),
            ]
    finally:
        nft.close()


def _tried(feature: str, attempt: Callable[[], object]) -> Finding:
    try:
        attempt()
    except KernelError as error:
        return feature, False, str(error)
    return feature, True, "works"


def _make_pair(netlink: Netlink) -> None:
    netlink.batch().add_veth("probe0", peer_name="probe1", peer_ns_fd=None).commit()


def _write_routed(nft: LibNft) -> None:
    nft.replace(firewall.routed_table(()))


def _read(name: str) -> None:
    sysctl.read(name)


def _remembers_addresses(netlink: Netlink) -> Finding:
    try:
        index = netlink.index("lo") or 0
        netlink.batch().add_address(index, _ADDRESS, protocol=OUR_PROTOCOL).commit()
        kept = any(held.protocol == OUR_PROTOCOL for held in netlink.addresses(index))
    except KernelError as error:
        return _REMEMBERED, False, str(error)
    return _REMEMBERED, kept, "works" if kept else "not before Linux 5.18: they stay"


def _others_that_drop() -> tuple[list[Finding], list[Barrier]]:
    """What chains of others drop by default; those of them that cut containers off."""
    nft = LibNft()
    try:
        found = [(item, hostfirewalls.is_closed(nft, item)) for item in hostfirewalls.barriers(nft)]
    finally:
        nft.close()
    left = [
        item
        for item, closed in found
        if item.chain.hook == "forward" and (closed or not item.is_mended)
    ]
    return [_dropped(item, closed=closed) for item, closed in found], left


def _dropped(barrier: Barrier, *, closed: bool) -> Finding:
    feature = f"other firewalls: {barrier}"
    if barrier.is_mended and not closed:
        return feature, True, f"drops what is routed; our networks are accepted by {CHAIN}"
    if barrier.chain.hook != "forward":
        trouble = "drops what is sent to the host: containers reach it only where that accepts"
    elif closed:
        trouble = (
            "drops what is routed, and lets nobody else change its table: put the networks' "
            "bridges into a zone that forwards (docs/firewall.md)"
        )
    else:
        trouble = (
            "drops what is routed unless it says otherwise: accept the networks' bridges there"
        )
    return feature, WARNING, trouble


def _filtered_bridges(dropping: Sequence[Barrier]) -> Finding:
    """Good to know when packets within one network are missing."""
    feature = "packets within a network pass other programs' rules"
    try:
        on = sysctl.read("net/bridge/bridge-nf-call-iptables") != "0"
    except KernelError:
        on = False  # br_netfilter is not loaded
    if not on:
        return feature, True, "no"
    if dropping:
        table = f"{dropping[0].chain.family} {dropping[0].chain.table}"
        return feature, WARNING, f"yes: bridge-nf-call-iptables is on, and table {table} drops"
    return feature, True, "yes: bridge-nf-call-iptables is on; another's DROP cuts containers off"
