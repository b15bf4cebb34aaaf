"""From inside: no way to the host, and exactly Docker's rights."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel.container.stage import Stage, new_id, until

from cnm.errors import InvalidParameter, StartFailed
from cnm.runtime.container import devices, rootfs, syscalls
from cnm.runtimeapi import Bind, Propagation, ResourceLimit, Security, Tmpfs

pytestmark = pytest.mark.kernel

LIBC = ctypes.CDLL(None)
HIDDEN_SIGNALS = (32, 33)  # glibc's own, for its threads

STATUS = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status"


@pytest.fixture
def netns() -> Iterator[str]:
    """A network namespace, as the core makes one for a container."""
    name = f"cnmct{new_id()[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield f"/run/netns/{name}"
    subprocess.run(["ip", "netns", "del", name], check=True)


def status(text: str) -> dict[str, str]:
    return dict(line.split(":\t") for line in text.splitlines())


def test_the_capabilities_are_dockers_fourteen(stage: Stage) -> None:
    found = status(stage.shell(STATUS))
    assert found["CapPrm"] == found["CapEff"] == found["CapBnd"] == "00000000a80425fb"
    assert found["CapInh"] == found["CapAmb"] == "0000000000000000"
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("0", "2")


@pytest.mark.parametrize(
    ("security", "bounding"),
    [
        (Security(cap_drop=("ALL",)), 0),
        (Security(cap_drop=("ALL",), cap_add=("NET_RAW",)), 1 << 13),
        (Security(cap_add=("cap_net_admin",)), 0xA80425FB | 1 << 12),
        (Security(cap_drop=("MKNOD",)), 0xA80425FB & ~(1 << 27)),
    ],
)
def test_capabilities_added_and_dropped(stage: Stage, security: Security, bounding: int) -> None:
    assert int(status(stage.shell(STATUS, security=security))["CapBnd"], 16) == bounding


def test_a_user_has_none_of_them(stage: Stage) -> None:
    found = status(stage.shell(STATUS, user="1000"))
    assert found["CapPrm"] == found["CapEff"] == "0000000000000000"
    assert found["CapBnd"] == "00000000a80425fb"


def test_no_new_privileges_and_no_filter(stage: Stage) -> None:
    security = Security(no_new_privileges=True, seccomp="unconfined")
    found = status(stage.shell(STATUS, security=security))
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "0")
    found = status(stage.shell(STATUS, security=Security(no_new_privileges=True), user="web"))
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize(
    "forbidden",
    [
        "echo 1 > /proc/sys/kernel/panic",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        "echo h > /proc/sysrq-trigger",
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /proc/sys",
        "umount /proc/keys",
        "mkdir /sys/fs/cgroup/memory/mine",
        "unshare -m true",
        "unshare -U true",
        "mknod /tmp/disk b 254 0 && cat /tmp/disk",
        "mknod /tmp/mem c 1 1 && cat /tmp/mem",
        "hostname other",
        "! date -s 2001-01-01 2>&1 | grep -q 'not permitted'",
        "ls /proc/1/root/run/netns",
        "chroot /proc/1/root/../.. test -e /usr/bin/dockerd",
    ],
)
def test_what_root_inside_cannot_do(stage: Stage, forbidden: str) -> None:
    code, output = stage.run("/bin/sh", "-c", f"({forbidden}) 2>&1")
    assert code != 0, output


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list"])
def test_what_tells_of_the_host_is_masked(stage: Stage, path: str) -> None:
    if os.path.exists(path):
        assert stage.shell(f"cat {path}") == ""


def test_only_its_own_mounts_and_processes_are_there(stage: Stage) -> None:
    mounts = stage.shell("cat /proc/self/mountinfo")
    sources = {line.split(" - ")[1].split(" ")[0] for line in mounts.splitlines()}
    allowed = {"overlay", "proc", "tmpfs", "devpts", "mqueue", "sysfs", "cgroup", "cgroup2"}
    assert sources <= allowed
    assert str(stage.folder) not in mounts
    assert stage.shell("ls -d /proc/[0-9]* | wc -l").strip() <= "4"
    assert stage.shell("cat /proc/self/cgroup | grep -v blkio").count("/..") == 0


# The classic way out of a chroot: a directory that stays behind, and "..". CAP_SYS_CHROOT is
# among Docker's capabilities.
CLIMB = """
import os, sys
os.mkdir("/tmp/pit")
os.chroot("/tmp/pit")
for _ in range(50):
    os.chdir("..")
os.chroot(".")
print(os.listdir(sys.argv[1]))
"""


def test_nothing_is_behind_the_root(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    code, output = stage.run(
        "python3", "-c", CLIMB, str(tmp_path), lower=("/",), hidden_paths=(str(tmp_path),)
    )
    assert (code, output) == (0, "[]\n")


def test_mounts_stay_inside_where_the_host_shares_its_own(shared: Path, busybox_root: Path) -> None:
    """Under systemd every mount is shared: what is mounted in a copy comes back to the host."""

    def mounts() -> list[str]:  # of this test; others come and go beside it
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if str(shared) in line]

    stage = Stage(shared / "later", busybox_root)
    before = mounts()
    data = Bind(str(shared), "/data")
    spec = stage.start("sleep", "1d", binds=(data,), tmpfs=(Tmpfs("/data/later"),))
    assert stage.execute(spec, "ls", "-A", "/data/later") == (0, b"")
    assert mounts() == before
    stage.close()


def test_a_link_in_the_image_leads_nowhere_outside(stage: Stage, tmp_path: Path) -> None:
    """Paths of the image are followed inside of it, whatever they say."""
    layer = tmp_path / "layer"
    layer.mkdir()
    victim = tmp_path / "victim"
    victim.mkdir()
    (layer / "data").symlink_to(f"../../../../../..{victim}")
    lower = (str(layer), str(stage.root))
    stage.run("true", lower=lower, binds=(Bind(str(tmp_path), "/data/here"),))
    assert list(victim.iterdir()) == []


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_a_link_in_place_of_a_mount_point_is_refused(
    stage: Stage, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).symlink_to("/etc")
    spec = stage.spec("true", lower=(str(tmp_path), str(stage.root)))
    stage.runtime.create(spec)
    with pytest.raises(StartFailed, match="must be mounted on ordinary directory"):
        stage.runtime.start(spec.id)


def test_nothing_is_bound_over_proc(stage: Stage, tmp_path: Path) -> None:
    spec = stage.spec("true", binds=(Bind(str(tmp_path), "/proc/sys"),))
    stage.runtime.create(spec)
    with pytest.raises(StartFailed, match="it is /proc/sys"):
        stage.runtime.start(spec.id)


def test_the_interpreter_cannot_be_written_by_being_run(stage: Stage, tmp_path: Path) -> None:
    """CVE-2019-5736: the command is ``/proc/self/exe``, that is, us."""
    spec = stage.start("sleep", "1d")
    exe = f"/proc/{stage.supervisor_pid()}/exe"
    assert os.path.samefile(exe, sys.executable)
    assert os.statvfs(exe).f_flag & os.ST_RDONLY
    assert stage.runtime.status(spec.id).pid


def test_binds(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from outside")
    made = tmp_path / "made"
    binds = (
        Bind(str(tmp_path / "file"), "/etc/resolv.conf", read_only=True),
        Bind(str(made), "/data/deep", make_source=True),
    )
    script = "cat /etc/resolv.conf; echo x > /data/deep/y; ! (: > /etc/resolv.conf) 2>/dev/null"
    assert stage.shell(script, binds=binds) == "from outside"
    assert (made / "y").read_text() == "x\n"


def test_the_masks_are_ours_whatever_dev_is(stage: Stage, tmp_path: Path) -> None:
    """CVE-2025-31133: what is bound over /dev has a link where /dev/null should be."""
    (tmp_path / "null").symlink_to("/proc/sys/kernel/domainname")
    masked = next(path for path in rootfs.MASKED if os.path.isfile(path))
    script = f"cat {masked}; stat -c '%F' {masked}"
    output = stage.shell(script, binds=(Bind(str(tmp_path), "/dev"),))
    assert output == "character special file\n"


def test_tmpfs(stage: Stage) -> None:
    made = (
        Tmpfs("/home/web", ("size=64k",)),
        Tmpfs("/new/dir", ("mode=700", "exec")),
        Tmpfs("/tmp", ("ro",)),
    )
    script = (
        "awk '$3 == \"tmpfs\" && $2 ~ /home|new|tmp/ {print $2, $4}' /proc/mounts;"
        " stat -c '%a %u' /home/web /new/dir; ls -A /home/web"
    )
    assert stage.shell(script, tmpfs=made, read_only=True).splitlines() == [
        "/tmp ro,nosuid,nodev,noexec,relatime,mode=755",
        "/home/web rw,nosuid,nodev,noexec,relatime,size=64k,mode=755",
        "/new/dir rw,nosuid,nodev,relatime,mode=700",
        "755 0",
        "700 0",
    ]


def test_a_tmpfs_in_a_bind_and_a_bind_in_a_tmpfs(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    shown = stage.shell(
        "echo x > /t/b/file; echo y > /t/b/inner/lost; ls /t/b /t/b/inner",
        binds=(Bind(str(tmp_path), "/t/b"),),
        tmpfs=(Tmpfs("/t/b/inner"), Tmpfs("/t")),
    )
    assert shown.split() == ["/t/b:", "file", "inner", "/t/b/inner:", "lost"]
    assert (tmp_path / "file").read_text() == "x\n"
    assert list((tmp_path / "inner").iterdir()) == []


@pytest.mark.parametrize(
    ("mounted", "text"),
    [
        ({"binds": (Bind("/etc/passwd", "/etc"),)}, "mount a directory onto a file"),
        ({"binds": (Bind("/etc", "/etc/passwd"),)}, "mount a directory onto a file"),
        ({"tmpfs": (Tmpfs("/etc/passwd"),)}, "mount a directory onto a file"),
        ({"tmpfs": (Tmpfs("/proc/sys"),)}, "it is /proc/sys"),
        ({"tmpfs": (Tmpfs("/x", ("size=bogus",)),)}, "invalid argument .size=bogus."),
    ],
)
def test_what_cannot_be_mounted(stage: Stage, mounted: dict[str, Any], text: str) -> None:
    spec = stage.spec("true", **mounted)
    stage.runtime.create(spec)
    with pytest.raises(StartFailed, match=f'error mounting ".*" to rootfs at ".*": .*{text}'):
        stage.runtime.start(spec.id)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A mount whose later mounts others may see."""
    place = tmp_path / "shared"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=True)
    subprocess.run(["mount", "--make-shared", str(place)], check=True)
    (place / "later").mkdir()
    yield place
    subprocess.run(["umount", "-R", str(place)], check=True)


def test_a_bind_that_follows_its_source(stage: Stage, shared: Path) -> None:
    binds = (
        Bind(str(shared), "/slave", propagation=Propagation.SLAVE),
        Bind(str(shared), "/private"),
    )
    spec = stage.start("sleep", "1d", binds=binds)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(shared / "later")], check=True)
    (shared / "later" / "file").touch()
    assert stage.execute(spec, "ls", "/slave/later", "/private/later")[1].split() == [
        *(b"/private/later:", b"/slave/later:", b"file"),
    ]
    stage.runtime.kill(spec.id, signal.SIGKILL)
    stage.runtime.wait(spec.id)


def test_a_bind_that_has_nothing_to_follow(stage: Stage, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], check=True)
    subprocess.run(["mount", "--make-private", str(tmp_path)], check=True)
    try:
        wanted = Bind(str(tmp_path), "/x", propagation=Propagation.SLAVE)
        with pytest.raises(InvalidParameter, match="but it is not a shared or slave mount"):
            stage.runtime.create(stage.spec("true", binds=(wanted,)))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_bind_without_what_is_mounted_in_it(stage: Stage, shared: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(shared / "later")], check=True)
    (shared / "later" / "file").touch()
    binds = (Bind(str(shared), "/all"), Bind(str(shared), "/one", recursive=False))
    assert stage.shell("ls /all/later /one/later", binds=binds).split() == [
        *("/all/later:", "file", "/one/later:"),
    ]


def test_the_first_group_is_among_the_others(stage: Stage) -> None:
    """CVE-2022-36109: or a file that is closed to a group would be open to its member."""
    script = "grep -E '^(Gid|Groups)' /proc/self/status"
    assert stage.shell(script, user="web").split() == [
        *("Gid:", "1001", "1001", "1001", "1001", "Groups:", "1001", "1002"),
    ]


@contextlib.contextmanager
def ignored(*numbers: int) -> Iterator[None]:
    """Signals ignored by this process, by the kernel's own call: glibc keeps some to itself."""
    call = {"x86_64": 13, "aarch64": 134}[os.uname().machine]
    ignore = struct.pack("=QQQQ", 1, 0, 0, 0)  # SIG_IGN, flags, restorer, mask
    kept = {number: ctypes.create_string_buffer(32) for number in numbers}
    for number, old in kept.items():
        assert LIBC.syscall(call, number, ignore, old, ctypes.c_size_t(8)) == 0
    try:
        yield
    finally:
        for number, old in kept.items():
            assert LIBC.syscall(call, number, old, None, ctypes.c_size_t(8)) == 0


def test_signals_are_as_the_kernel_has_them(stage: Stage) -> None:
    """Whatever who started the daemon ignores: a shell ignores interrupts for its background."""
    with ignored(signal.SIGUSR2, *HIDDEN_SIGNALS):
        own = status(Path("/proc/self/status").read_text())["SigIgn"]
        assert all(int(own, 16) >> number - 1 & 1 for number in HIDDEN_SIGNALS)
        spec = stage.start("sleep", "60")
        shown = [
            stage.execute(spec, "grep", "-E", "^Sig(Ign|Blk)", f"/proc/{process}/status")
            for process in ("1", "self")  # the first process, and the exec's own
        ]
    clean = f"SigBlk:\t{'0' * 16}\nSigIgn:\t{'0' * 16}\n"
    assert shown == [(0, clean.encode())] * 2


# keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING), by number: Python has no name for it
SESSION_KEYRING = """
import ctypes, os
number = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
print(ctypes.CDLL(None).syscall(number, 0, -3, 0))
"""


def test_the_keys_of_who_started_us_stay_ours(stage: Stage) -> None:
    syscalls.join_new_keyring()  # of this process, and so of the supervisor that it starts
    words = ("python3", "-c", SESSION_KEYRING)
    ours = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    _, theirs = stage.run(*words, lower=("/",), security=Security(privileged=True))
    assert int(ours) > 0
    assert int(theirs) > 0
    assert ours != theirs


def test_hidden_paths(stage: Stage, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    output = stage.shell(f"ls -A {tmp_path} | wc -l", lower=("/",), hidden_paths=(str(tmp_path),))
    assert output.strip() == "0"


def test_a_read_only_root(stage: Stage) -> None:
    script = "! touch /x 2>/dev/null; echo > /dev/shm/y; touch /data/z"
    data = Bind(str(stage.folder), "/data")
    assert stage.shell(script, read_only=True, binds=(data,)) == ""


def test_devices(stage: Stage) -> None:
    output = stage.shell(
        "for d in null zero full random urandom tty; do stat -c '%n %a %t %T' /dev/$d; done;"
        "stat -c %a /dev/shm; df -k /dev/shm | tail -1; head -c 4 /dev/zero | wc -c",
        shm_size_bytes=1 << 20,
    )
    assert "/dev/null 666 1 3\n" in output
    assert "/dev/tty 666 5 0\n1777\n" in output
    assert " 1024 " in output
    assert output.endswith("4\n")


def openable() -> tuple[int, int]:
    """A device that the host's root can open, and that is none of a container's."""
    allowed = {(rule.major, rule.minor) for rule in devices.DEFAULT}
    for path in sorted(Path("/dev").iterdir()):
        info = path.stat()
        numbers = os.major(info.st_rdev), os.minor(info.st_rdev)
        if stat.S_ISCHR(info.st_mode) and numbers not in allowed and numbers[0] == 10:  # misc
            try:
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
            except OSError:
                continue
            return numbers
    raise AssertionError("the host has no device to try with")


def test_a_node_may_be_made_and_not_opened(stage: Stage) -> None:
    major, minor = openable()
    script = f"mknod /node c {major} {minor} && echo made; : < /node"
    code, output = stage.run("/bin/sh", "-c", script)
    assert (code != 0, "made\n" in output, "not permitted" in output) == (True, True, True)
    free = Security(privileged=True)
    assert stage.run("/bin/sh", "-c", script, security=free)[0] == 0


def test_privileged(stage: Stage) -> None:
    script = f"{STATUS}; mount -t tmpfs none /tmp; ls /dev; echo 1 > /proc/sys/vm/stat_interval"
    output = stage.shell(script, security=Security(privileged=True))
    with open("/proc/self/status", encoding="ascii") as file:
        ours = status("".join(line for line in file if line.startswith("CapPrm")))["CapPrm"]
    assert f"CapEff:\t{ours}" in output
    assert "Seccomp:\t0" in output
    disks = [name for name in os.listdir("/dev") if stat.S_ISBLK(os.stat(f"/dev/{name}").st_mode)]
    assert all(name in output for name in disks)


def test_names_and_environment(stage: Stage) -> None:
    output = stage.shell(
        "hostname; dnsdomainname 2>/dev/null || true; pwd; env | sort",
        hostname="box",
        domainname="example.org",
        working_directory="/made/here",
        environment=("A=1", "A=2", "B=x y", "PATH=/bin"),
    )
    assert output.splitlines()[0] == "box"
    assert "/made/here\nA=2\nB=x y\nHOME=/root\nHOSTNAME=box\nPATH=/bin\nPWD=/made/here" in output


@pytest.mark.parametrize(
    ("user", "groups", "identity", "home"),
    [
        ("", (), "uid=0(root) gid=0(root)", "/root"),
        ("web", (), "uid=1000(web) gid=1001(www) groups=1001(www),1002(extra)", "/home/web"),
        ("1000", (), "uid=1000(web) gid=1001(www) groups=1001(www),1002(extra)", "/home/web"),
        ("web:extra", (), "uid=1000(web) gid=1002(extra)", "/home/web"),
        ("4321", (), "uid=4321 gid=0(root)", "/"),
        ("4321:77", ("extra",), "uid=4321 gid=77 groups=77,1002(extra)", "/"),
    ],
)
def test_users(stage: Stage, user: str, groups: tuple[str, ...], identity: str, home: str) -> None:
    output = stage.shell("id; echo $HOME", user=user, groups=groups).splitlines()
    assert output[0].startswith(identity)
    assert output[1] == home


def test_resource_limits(stage: Stage) -> None:
    limits = (ResourceLimit("nofile", 123, 456),)
    assert stage.shell("ulimit -n; ulimit -Hn", resource_limits=limits).split() == ["123", "456"]


def test_a_network_namespace_and_its_sysctls(stage: Stage, netns: str) -> None:
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    output = stage.shell(
        "readlink /proc/self/ns/net; cd /proc/sys; cat net/ipv4/ip_unprivileged_port_start"
        " net/ipv4/ping_group_range net/ipv4/ip_forward kernel/shmmni; ls /sys/class/net",
        network_namespace=netns,
        sysctls={"net.ipv4.ip_forward": "1", "kernel.shmmni": "111"},
    ).split()
    inode = os.stat(netns).st_ino
    assert output[:6] == [f"net:[{inode}]", "0", "0", "2147483647", "1", "111"]
    assert "lo" in output[6:]
    assert "eth0" not in output[6:]
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before
    assert Path("/proc/sys/kernel/shmmni").read_text() != "111\n"


def test_a_user_may_take_low_ports_in_its_own_network(stage: Stage, netns: str) -> None:
    spec = stage.start(
        "sh", "-c", "nc -l -p 80", user="web", network_namespace=netns,
    )  # fmt: skip
    listening = ["ip", "netns", "exec", os.path.basename(netns), "ss", "-Hltn"]

    def listens() -> bool:
        found = subprocess.run(listening, check=True, capture_output=True, text=True)
        return ":80 " in found.stdout

    until("it listens", listens)
    stage.runtime.destroy(spec.id)
