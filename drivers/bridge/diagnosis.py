"""What the bridge driver needs of the kernel, tried out in a namespace made for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_interface

from cnm.drivers.bridge import firewall
from cnm.drivers.bridge.others import CHAIN, mends
from cnm.errors import KernelError
from cnm.runtime.kernel import sysctl
from cnm.runtime.kernel.netlink import OUR_PROTOCOL, Netlink
from cnm.runtime.kernel.nft import BaseChain, LibNft
from cnm.runtime.kernel.scratch import in_scratch_namespace

Finding = tuple[str, bool | str, str]

WARNING = "warning"
_ADDRESS = ip_interface("192.0.2.1/24")  # TEST-NET-1, RFC 5737
_REMEMBERED = "addresses on adopted bridges are removed with their network"


def diagnose() -> Sequence[Finding]:
    """(feature, works here or "warning", detail) for each."""
    findings: list[Finding] = in_scratch_namespace(_in_scratch)
    dropping = _others_that_drop()
    forwarding = [chain for chain in dropping if chain.hook == "forward" and not mends(chain)]
    return [*findings, *map(_dropped, dropping), _filtered_bridges(forwarding)]


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


def _others_that_drop() -> list[BaseChain]:
    """Chains of others that drop by default what is routed, or what is sent to the host."""
    nft = LibNft()
    try:
        return [
            chain
            for chain in nft.base_chains()
            if chain.hook in ("forward", "input")
            and chain.policy == "drop"
            and chain.table != firewall.TABLE
        ]
    finally:
        nft.close()


def _dropped(chain: BaseChain) -> Finding:
    feature = f"other firewalls: table {chain.family} {chain.table}, chain {chain.name}"
    if mends(chain):
        return feature, True, f"drops what is routed; our networks are accepted by {CHAIN}"
    if chain.hook == "forward":
        trouble = (
            "drops what is routed unless it says otherwise: accept the networks' bridges there"
        )
    else:
        trouble = "drops what is sent to the host: containers reach it only where that accepts"
    return feature, WARNING, trouble


def _filtered_bridges(dropping: Sequence[BaseChain]) -> Finding:
    """Good to know when packets within one network are missing."""
    feature = "packets within a network pass other programs' rules"
    try:
        on = sysctl.read("net/bridge/bridge-nf-call-iptables") != "0"
    except KernelError:
        on = False  # br_netfilter is not loaded
    if not on:
        return feature, True, "no"
    if dropping:
        table = f"{dropping[0].family} {dropping[0].table}"
        return feature, WARNING, f"yes: bridge-nf-call-iptables is on, and table {table} drops"
    return feature, True, "yes: bridge-nf-call-iptables is on; another's DROP cuts containers off"
