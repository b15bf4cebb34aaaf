"""What a lab needs of the kernel and the machine, asked before anything is made."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable

from cnm.errors import KernelError
from cnm.netlab import impair
from cnm.netlab.errors import LabError
from cnm.netlab.model import Lab, Link
from cnm.runtime.kernel.netlink import Netlink
from cnm.runtime.kernel.scratch import in_scratch_namespace

_ABSENT = (errno.EOPNOTSUPP, errno.ENODEV, errno.EINVAL)
_ELSEWHERE = "run it on the second kernel: netlab vm -- netlab up FILE"
_PROGRAMS = {
    "docker": ("dockerd", "docker.io"),
    "etcd": ("etcd", "etcd-server"),
}


def check(lab: Lab) -> None:
    """Refuse a lab that cannot work here.

    :raises LabError: what is missing, and what to do.
    """
    if os.geteuid() != 0:
        raise LabError("a lab needs root: run it with sudo")
    _check_programs(lab)
    _check_file_systems()
    for switch in lab.switches:
        if switch.filtering and not in_scratch_namespace(_can_filter):
            raise LabError(
                f"{lab.path}: switches.{switch.name}: VLANs need a kernel with "
                f"CONFIG_BRIDGE_VLAN_FILTERING: {_ELSEWHERE}"
            )
    for link in lab.links:
        _check_impairment(lab, link)
        for end in link.ends:
            if end.subinterfaces and not in_scratch_namespace(_can_tag):
                raise LabError(
                    f"{lab.path}: {end}: vlans need a kernel with 802.1Q (module 8021q): "
                    f"{_ELSEWHERE}"
                )


def _check_impairment(lab: Lab, link: Link) -> None:
    if link.impairment is None:
        return
    try:
        impair.check(link.impairment)
    except LabError as error:
        raise LabError(f"{lab.path}: link {link.name}: {error}") from None


def _check_programs(lab: Lab) -> None:
    for host in lab.hosts:
        for daemon in host.daemons:
            program, package = _PROGRAMS.get(daemon.kind, ("", ""))
            if program and shutil.which(program) is None:
                raise LabError(
                    f"{lab.path}: hosts.{host.name}.{daemon.kind}: no {program}: "
                    f"install it (Debian: {package})"
                )


def _check_file_systems() -> None:
    with open("/proc/filesystems", encoding="ascii") as file:
        known = {line.split()[-1] for line in file}
    if "overlay" not in known and not _loads("overlay"):
        raise LabError("a lab needs a kernel with overlayfs (modprobe overlay)")


def _loads(module: str) -> bool:
    """Whether the kernel has a module that is not loaded; mount(2) loads it."""
    folder = f"/lib/modules/{os.uname().release}"
    try:
        with open(f"{folder}/modules.dep", encoding="utf-8") as file:
            return any(f"/{module}.ko" in line.partition(":")[0] for line in file)
    except OSError:
        return False


def _can_filter() -> bool:
    with Netlink() as netlink:
        return _works(lambda: netlink.batch().add_bridge("switch", vlan_filtering=True).commit())


def _can_tag() -> bool:
    with Netlink() as netlink:
        netlink.batch().add_veth("one", peer_name="other", peer_ns_fd=None).commit()
        parent = netlink.index("one")
        assert parent is not None
        return _works(lambda: netlink.batch().add_vlan("tagged", parent=parent, vlan=1).commit())


def _works(change: Callable[[], None]) -> bool:
    try:
        change()
    except KernelError as error:
        if error.errno in _ABSENT:
            return False
        raise
    return True
