"""What such a driver needs of the kernel, and whether its networks' parents are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cnm.drivers.parentlink.record import NetworkRecord
from cnm.runtime.kernel.netlink import Netlink

Finding = tuple[str, bool | str, str]

WARNING = "warning"


def diagnose(netlink: Netlink, kind: str, networks: Sequence[NetworkRecord]) -> Sequence[Finding]:
    """(feature, works here or "warning", detail). What nobody has asked for yet is no failure."""
    findings = [
        _kind(netlink, kind, kind, f"networks of this driver are refused (module {kind})"),
        _kind(
            netlink,
            "vlan",
            "802.1Q sub-interfaces",
            "a parent such as eth0.100 must be there already (module 8021q)",
        ),
    ]
    return [*findings, *_parents(netlink, networks)]


def _kind(netlink: Netlink, kind: str, feature: str, trouble: str) -> Finding:
    if netlink.knows_kind(kind):
        return feature, True, "works"
    return feature, WARNING, f"this kernel has none: {trouble}"


def _parents(netlink: Netlink, networks: Sequence[NetworkRecord]) -> Iterator[Finding]:
    users: dict[str, list[str]] = {}
    for known in networks:
        users.setdefault(known.parent_name, []).append(known.spec.name)
    for parent, names in sorted(users.items()):
        link = netlink.link(parent)
        if link is None:
            trouble = f"is gone: {', '.join(sorted(names))} wait for it"
        elif not link.up:
            trouble = f"is down: nothing passes {', '.join(sorted(names))}"
        else:
            continue
        yield f"parent {parent}", WARNING, trouble
