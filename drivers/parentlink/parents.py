"""The links of the host that endpoints' links sit on: found, made, kept, removed.

A parent is one of three. A link of the host's is used as it is and never changed. ``eth0.100``,
where it is missing, is an 802.1Q link on ``eth0`` that we make and mark; several networks may
use it, and it goes with the last. Where no parent is given there is an isolated one of our
own: a dummy as Docker's, or an ifb on a kernel that has none (what is sent out of either is
lost; a bridge without ports was left because it has no carrier, and links on it none either).

What we make carries the mark of one network that uses it; if that one goes first, another's.
On the host itself our parents have no IPv6: the host is no part of those networks.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Sequence

from cnm.drivers.parentlink.options import split_vlan
from cnm.drivers.parentlink.record import NetworkRecord
from cnm.drivers.reaper import Reaper
from cnm.errors import (
    CNMError,
    Forbidden,
    InvalidParameter,
    KernelError,
    NotFound,
    Unavailable,
)
from cnm.runtime.kernel import owner, sysctl
from cnm.runtime.kernel.netlink import Link, Netlink
from cnm.types import NetworkID, Repair
from cnm.undo import Undo

log = logging.getLogger(__name__)

_ISOLATED_KINDS = ("dummy", "ifb")  # the first that the kernel has
_TAKES_ALL = ("bridge", "bond", "team")  # masters that take each frame before anybody else
_UPPERS = ("macvlan", "ipvlan")


class Parents:
    """The parents of one namespace, for one driver."""

    def __init__(self, netlink: Netlink, reaper: Reaper, driver: str) -> None:
        self._netlink = netlink
        self._reaper = reaper
        self._driver = driver
        self._mutex = threading.Lock()  # two networks may make or leave one parent at once

    def check(self, wanted: NetworkRecord) -> None:
        """:raises CNMError: the parent cannot be used, or cannot be made; nothing is changed."""
        if not self._netlink.knows_kind(self._driver):
            raise missing_feature(self._driver, self._driver)
        found = self._netlink.link(wanted.parent_name)
        if found is not None:
            self._refuse_unusable(wanted, found)
        elif not wanted.isolated:
            self._check_vlan(wanted.parent_name)

    def link(self, wanted: NetworkRecord) -> Link:
        """:raises Unavailable: the parent is gone."""
        found = self._netlink.link(wanted.parent_name)
        if found is None:
            raise Unavailable(
                f"the requested parent interface {wanted.parent_name} was not found on the "
                "Docker host"
            )
        return found

    def find(self, wanted: NetworkRecord) -> Link | None:
        """The parent, if it is there."""
        return self._netlink.link(wanted.parent_name)

    def trouble(self, wanted: NetworkRecord) -> str:
        """Why there is no parent now and none can be made; empty if all is well."""
        if wanted.isolated or self._netlink.index(wanted.parent_name) is not None:
            return ""
        try:
            self._check_vlan(wanted.parent_name)
        except InvalidParameter:
            return f"there is no interface {wanted.parent_name}"
        except CNMError as error:
            return str(error)
        return ""

    def ensure(self, wanted: NetworkRecord) -> list[Repair]:
        """Make the parent if it is ours to make, or put right what differs; what was done.

        :raises CNMError: as ``check``.
        """
        with self._mutex:
            found = self._netlink.link(wanted.parent_name)
            if found is None:
                self._create(wanted)
                return [Repair("link", wanted.parent_name, "created again")]
            self._refuse_unusable(wanted, found)
            return self._put_right(found) if _is_ours(found) else []

    def adopt(self, wanted: NetworkRecord, known: Sequence[NetworkID]) -> list[Repair]:
        """Mark a parent of ours as this network's, if the one it is marked for is unknown."""
        with self._mutex:
            found = self._netlink.link(wanted.parent_name)
            mark = owner.parse(found.alias) if found is not None else None
            if found is None or mark is None or NetworkID(mark[1]) in known:
                return []
            self._netlink.batch().set_link(found.index, alias=wanted.mark).commit()
            return [Repair("link", found.name, f"is now network {wanted.spec.name}'s")]

    def release(
        self, wanted: NetworkRecord, heirs: Callable[[NetworkRecord], Sequence[NetworkID]]
    ) -> None:
        """Remove the parent if we made it; give it to an heir if there is one. Gone is success.

        ``heirs`` is asked when no other network can make or leave the parent.
        """
        with self._mutex:
            found = self._netlink.link(wanted.parent_name)
            if found is None or found.alias != wanted.mark:
                return
            if others := heirs(wanted):
                mark = owner.network_mark(others[0])
                self._netlink.batch().set_link(found.index, alias=mark).commit()
            else:
                self._reaper.delete(found.index)

    # looking

    def _refuse_unusable(self, wanted: NetworkRecord, found: Link) -> None:
        if wanted.isolated and found.alias != wanted.mark:
            raise Forbidden(f"the host's link {found.name} has the name that our parent needs")
        if not wanted.isolated:
            _refuse_made_for_others(found)
        mtu = wanted.options.mtu
        if mtu is not None and mtu > found.mtu:
            raise InvalidParameter(
                f"MTU {mtu} is more than that of parent interface {found.name}: {found.mtu}"
            )
        master = self._netlink.link(found.master) if found.master else None
        if master is not None and master.kind in _TAKES_ALL:
            raise Forbidden(
                f"parent interface {found.name} is a port of {master.kind} {master.name}: use "
                f"parent={master.name}"
            )
        for kind in _UPPERS:
            if kind != self._driver:
                self._refuse_beside(found, kind)

    def _refuse_beside(self, found: Link, kind: str) -> None:
        for other in self._netlink.links(kind=kind):
            if other.peer_index == found.index:
                raise Forbidden(
                    f"parent interface {found.name} has the {kind} link {other.name}: no "
                    f"{self._driver} can be beside it"
                )

    def _check_vlan(self, name: str) -> tuple[Link, int]:
        lower_name, vlan = split_vlan(name)
        lower = self._netlink.link(lower_name)
        if lower is None:
            raise NotFound(f"-o parent interface was not found on the host: {lower_name}")
        if not self._netlink.knows_kind("vlan"):
            raise missing_feature(f"failed to create {name} vlan link", "vlan")
        if not lower.up:
            raise Unavailable(
                f"failed to enable {name} the {self._driver} parent link: {lower_name} is down"
            )
        for other in self._netlink.links(kind="vlan"):
            if (other.peer_index, other.vlan) == (lower.index, vlan):
                raise Forbidden(
                    f"VLAN {vlan} of {lower_name} is on link {other.name} already: use "
                    f"parent={other.name}"
                )
        return lower, vlan

    # making

    def _create(self, wanted: NetworkRecord) -> None:
        name = wanted.parent_name
        with Undo() as undo:
            undo.push(self._delete, name)
            if wanted.isolated:
                self._add_isolated(wanted)
            else:
                lower, vlan = self._check_vlan(name)
                self._netlink.batch().add_vlan(
                    name, parent=lower.index, vlan=vlan, alias=wanted.mark, up=False
                ).commit()
            _without_ipv6(name)
            self._netlink.batch().set_link(name, up=True).commit()

    def _add_isolated(self, wanted: NetworkRecord) -> None:
        for kind in _ISOLATED_KINDS:
            try:
                self._netlink.batch().add_bare(
                    wanted.parent_name, kind, mac=wanted.mac, up=False
                ).set_link(wanted.parent_name, alias=wanted.mark, missing_ok=True).commit()
            except KernelError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                continue
            return
        raise missing_feature("a network without parent", "dummy")

    def _delete(self, name: str) -> None:
        self._netlink.batch().delete_link(name).commit()

    def _put_right(self, found: Link) -> list[Repair]:
        repairs = []
        if _without_ipv6(found.name):
            repairs.append(Repair("sysctl", f"IPv6 of {found.name}", "off again"))
        lower = self._netlink.link(found.peer_index) if found.peer_index else None
        if not found.up and (lower is None or lower.up):
            self._netlink.batch().set_link(found.index, up=True).commit()
            repairs.append(Repair("link", found.name, "set up again"))
        return repairs


_MODULES = {"macvlan": "macvlan", "ipvlan": "ipvlan", "vlan": "8021q", "dummy": "dummy"}
_FEATURES = {
    "macvlan": "macvlan",
    "ipvlan": "ipvlan",
    "vlan": "802.1Q VLANs",
    "dummy": "dummy and no ifb links",
}


def missing_feature(what: str, kind: str) -> KernelError:
    """The refusal of what this kernel cannot do."""
    detail = f"this kernel has no {_FEATURES[kind]} (module {_MODULES[kind]})"
    return KernelError(errno.EOPNOTSUPP, what, detail)


def _refuse_made_for_others(found: Link) -> None:
    """Bridges of networks, endpoints' links, the host's way: others' records have them."""
    mark = owner.parse(found.alias)
    if mark is not None and mark[0] != owner.INSIDE and found.kind != "vlan":
        raise Forbidden(
            f"interface {found.name} belongs to {mark[0]} {mark[1][:12]}: it can be no parent"
        )


def _is_ours(found: Link) -> bool:
    mark = owner.parse(found.alias)
    return mark is not None and mark[0] == owner.NETWORK


def _without_ipv6(name: str) -> bool:
    """Whether anything had to be changed."""
    changed = False
    for key, value in (("accept_ra", "0"), ("disable_ipv6", "1")):
        setting = f"net/ipv6/conf/{name}/{key}"
        try:
            if sysctl.read(setting) != value:
                sysctl.write(setting, value)
                changed = True
        except KernelError as error:
            if error.errno != errno.ENOENT:  # a kernel without IPv6
                raise
    return changed
