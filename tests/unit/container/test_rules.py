"""Pure rules: limits, capabilities, sysctls, users, environment."""

from __future__ import annotations

import pytest

from cnm.errors import InvalidParameter
from cnm.runtime.container import (
    accounts,
    capabilities,
    cgroup,
    limits,
    mountinfo,
    mountoptions,
    syscalls,
)
from cnm.runtime.container.plan import DEFAULT_PATH, environment
from cnm.runtimeapi import Limits, Security

MB = 1 << 20
_CLOSED = syscalls.MS_NOEXEC | syscalls.MS_NOSUID | syscalls.MS_NODEV


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (Limits(memory_bytes=6 * MB - 1), "Minimum memory limit allowed is 6MB"),
        (Limits(memory_swap_bytes=6 * MB), "always set the Memory limit"),
        (
            Limits(memory_bytes=8 * MB, memory_swap_bytes=7 * MB),
            "should be larger than memory limit",
        ),
        (
            Limits(cpus=2.5),
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (Limits(cpus=0.001), "range of CPUs is from 0.01"),
        (Limits(pids=-2), "invalid pids limit"),
    ],
)
def test_limits_that_make_no_sense(asked: Limits, text: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        limits.check_limits(asked, 2)
    assert text in str(refused.value)


@pytest.mark.parametrize(
    "asked",
    [
        Limits(),
        Limits(memory_bytes=6 * MB),
        Limits(memory_bytes=6 * MB, memory_swap_bytes=-1),
        Limits(cpus=2.0, pids=-1),
    ],
)
def test_limits_that_do(asked: Limits) -> None:
    limits.check_limits(asked, 2)


def test_what_limits_become_in_either_version() -> None:
    asked = Limits(memory_bytes=8 * MB, cpus=1.5, pids=7)
    every = frozenset({"memory", "cpu", "pids"})
    assert dict(cgroup.settings(asked, every)) == {
        "memory.limit_in_bytes": str(8 * MB),
        "memory.memsw.limit_in_bytes": str(16 * MB),
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "150000",
        "pids.max": "7",
    }
    assert dict(cgroup.settings(asked, frozenset())) == {
        "memory.max": str(8 * MB),
        "memory.swap.max": str(8 * MB),
        "cpu.max": "150000 100000",
        "pids.max": "7",
    }
    free = Limits(memory_bytes=8 * MB, memory_swap_bytes=-1)
    assert dict(cgroup.settings(free, frozenset()))["memory.swap.max"] == "max"
    assert cgroup.settings(Limits(), every) == cgroup.settings(Limits(), frozenset()) == []


MOUNTINFO = """\
30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
35 30 0:27 / /elsewhere rw - cgroup cgroup rw,cpu,cpuacct
"""


def test_hierarchies_that_are_joined() -> None:
    assert cgroup.hierarchies(MOUNTINFO) == (
        cgroup.Hierarchy("/sys/fs/cgroup/cpu,cpuacct", frozenset({"cpu", "cpuacct"})),
        cgroup.Hierarchy("/sys/fs/cgroup/systemd", frozenset({"name=systemd"})),
        cgroup.Hierarchy("/sys/fs/cgroup/unified", frozenset()),
    )


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        (Security(), 0xA80425FB),
        (Security(cap_add=("SYS_ADMIN",)), 0xA80425FB | 1 << 21),
        (Security(cap_drop=("CAP_CHOWN",)), 0xA80425FA),
        (Security(cap_add=("ALL",)), capabilities.ALL),
        (Security(cap_add=("ALL",), cap_drop=("CHOWN",)), capabilities.ALL - 1),
        (Security(cap_drop=("all",), cap_add=("chown",)), 1),
        (Security(privileged=True, cap_drop=("ALL",)), capabilities.ALL),
    ],
)
def test_capabilities(security: Security, expected: int) -> None:
    assert capabilities.granted(security) == expected


def test_names_of_capabilities() -> None:
    assert capabilities.names_of(1 | 1 << 13) == ["CAP_CHOWN", "CAP_NET_RAW"]
    with pytest.raises(InvalidParameter, match='invalid CapAdd: unknown capability: "CAP_FLY"'):
        capabilities.granted(Security(cap_add=("cap_fly",)))


@pytest.mark.parametrize(
    "name",
    ["kernel.panic", "vm.swappiness", "fs.file-max", "kernel.shmmax/../panic", "net.../kernel.x"],
)
def test_sysctls_of_the_host_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameter, match="is not allowed"):
        limits.effective_sysctls({name: "1"}, own_network=True)


def test_sysctls_of_the_container() -> None:
    asked = {"net.ipv4.ip_unprivileged_port_start": "80", "fs.mqueue.msg_max": "9"}
    assert limits.effective_sysctls(asked, own_network=True) == {
        "net.ipv4.ip_unprivileged_port_start": "80",
        "net.ipv4.ping_group_range": "0 2147483647",
        "fs.mqueue.msg_max": "9",
    }
    with pytest.raises(InvalidParameter, match="not allowed in host network namespace"):
        limits.effective_sysctls(asked, own_network=False)
    assert limits.effective_sysctls({"kernel.shmmni": "5"}, own_network=False) == {
        "kernel.shmmni": "5"
    }


PASSWD = "root:x:0:0::/root:/bin/sh\ndamaged\n123:x:77:88::/odd:\nann:x:5:6::/home/ann:\n"
GROUP = "root:x:0:\nstaff:x:50:ann,bob\nann:x:6:\n"


@pytest.mark.parametrize(
    ("wanted", "more", "expected"),
    [
        ("", (), accounts.Account(0, 0, (0,), "/root")),
        ("ann", (), accounts.Account(5, 6, (6, 50), "/home/ann")),
        ("5", (), accounts.Account(5, 6, (6, 50), "/home/ann")),
        ("ann:root", (), accounts.Account(5, 0, (0,), "/home/ann")),
        ("123", (), accounts.Account(77, 88, (88,), "/odd")),
        ("9:9", ("staff", "4", "staff"), accounts.Account(9, 9, (9, 50, 4), "/")),
    ],
)
def test_users(wanted: str, more: tuple[str, ...], expected: accounts.Account) -> None:
    assert accounts.resolve(wanted, more, PASSWD, GROUP) == expected


@pytest.mark.parametrize("wanted", ["eve", "ann:eve", "4294967295"])
def test_users_that_are_not_there(wanted: str) -> None:
    with pytest.raises(accounts.UnknownUser):
        accounts.resolve(wanted, (), PASSWD, GROUP)


def test_options_of_a_tmpfs() -> None:
    assert mountoptions.tmpfs(()) == (_CLOSED, {})
    asked = ("rw", "exec", "size=1m", "ro", "mode=700", "size=2m", "rprivate")
    expected = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
    assert mountoptions.tmpfs(asked) == (expected, {"size": "2m", "mode": "700"})


@pytest.mark.parametrize(
    ("word", "shown"),
    [("bogus=1", '["bogus" "1"]'), ("shared", '["shared"]'), ("ro=1", '["ro" "1"]')],
)
def test_options_that_a_tmpfs_does_not_have(word: str, shown: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        mountoptions.tmpfs((word,))
    assert str(refused.value) == f"invalid tmpfs option {shown}"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc", ("/", False)),
        ("/srv", ("/srv", True)),
        ("/srv/a b/c", ("/srv/a b", False)),
        ("/srv/a", ("/srv", True)),
        ("/srvx", ("/", False)),
        ("/mnt/x", ("/mnt", True)),
    ],
)
def test_the_mount_that_holds_a_path(path: str, expected: tuple[str, bool]) -> None:
    text = """\
22 1 8:1 / / rw - ext4 /dev/a rw
23 22 8:2 / /srv rw shared:5 - ext4 /dev/b rw
24 23 8:3 / /srv/a\\040b rw - ext4 /dev/c rw
25 22 8:4 / /mnt rw - ext4 /dev/d rw
26 25 8:5 / /mnt rw master:7 - ext4 /dev/e rw
"""
    assert mountinfo.holder(text, path) == expected


def test_environment() -> None:
    found = environment(("A=1", "TERM=vt100", "A=2", "E=", "HOSTNAME"), "box", tty=True)
    assert found == {"PATH": DEFAULT_PATH, "TERM": "vt100", "A": "2", "E": ""}
