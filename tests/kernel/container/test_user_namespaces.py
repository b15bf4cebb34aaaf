"""A container whose root is an ordinary user of the host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel.container.stage import Stage, until

from cnm.errors import StartFailed
from cnm.idmap import IdMap, IdRange
from cnm.runtime.sandbox import NamespaceSandboxes
from cnm.runtimeapi import Bind, Security, Tmpfs
from cnm.types import SandboxKey

pytestmark = pytest.mark.kernel

BASE = 700_000  # of users; groups are others, so that the two cannot be mixed up
GROUP_BASE = 800_000
IDS = IdMap((IdRange(0, BASE, 65536),), (IdRange(0, GROUP_BASE, 65536),))


@pytest.fixture
def mapped(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a specification says of a user namespace of its own."""
    provider = NamespaceSandboxes()
    key = SandboxKey(str(tmp_path / "netns"))
    provider.create(key, IDS)
    yield {"network_namespace": str(key), "ids": IDS}
    provider.remove(key)
    provider.close()


def owner(path: Path) -> tuple[int, int]:
    info = path.lstat()
    return info.st_uid, info.st_gid


def test_who_is_who(stage: Stage, mapped: dict[str, Any]) -> None:
    script = "cat /proc/self/uid_map /proc/self/gid_map; id; exec sleep 1d"
    spec = stage.start("sh", "-c", script, **mapped)
    pid = stage.runtime.status(spec.id).pid
    until("it has said who it is", lambda: "uid=" in stage.output(spec))
    until("it sleeps", lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    shown = stage.output(spec).split("\n")
    assert [line.split() for line in shown[:2]] == [
        ["0", str(BASE), "65536"],
        ["0", str(GROUP_BASE), "65536"],
    ]
    assert shown[2].startswith("uid=0(root) gid=0(root)")
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"Uid:\t{BASE}\t{BASE}\t{BASE}\t{BASE}\n" in status
    assert f"Gid:\t{GROUP_BASE}\t{GROUP_BASE}\t{GROUP_BASE}\t{GROUP_BASE}\n" in status
    assert f"Groups:\t{GROUP_BASE} \n" in status
    assert "CapEff:\t00000000a80425fb\n" in status
    assert "CapBnd:\t00000000a80425fb\n" in status


def test_files_of_the_image_and_of_its_own(stage: Stage, mapped: dict[str, Any]) -> None:
    """On the disk nothing depends on the map: the same layers serve any other."""
    script = (
        "stat -c '%u:%g' /etc/passwd /root; echo x >> /etc/passwd; touch /new;"
        " chown web:www /new; chown 70000 /new 2>/dev/null || echo refused; stat -c '%u:%g' /new"
    )
    spec = stage.start("sh", "-ec", script, working_directory="/made/here", **mapped)
    assert stage.runtime.wait(spec.id) == 0, stage.output(spec)
    assert stage.output(spec).split() == ["0:0", "0:0", "refused", "1000:1001"]
    upper = Path(spec.root.upper)
    assert owner(upper / "etc/passwd") == owner(upper / "made/here") == (0, 0)
    assert owner(upper / "new") == (1000, 1001)


def test_binds_belong_to_the_host(stage: Stage, mapped: dict[str, Any], tmp_path: Path) -> None:
    """As Docker's: what the host's root has is nobody's inside; what is written is the map's."""
    closed, opened = tmp_path / "closed", tmp_path / "opened"
    for folder in (closed, opened):
        folder.mkdir()
    secret = closed / "secret"
    secret.write_text("s")
    secret.chmod(0o600)
    os.chown(opened, BASE + 1000, GROUP_BASE)
    binds = (
        Bind(str(closed), "/closed"),
        Bind(str(opened), "/opened"),
        Bind(str(tmp_path / "made"), "/made", make_source=True),
    )
    script = (
        "stat -c '%u' /closed /opened /made; ! cat /closed/secret 2>/dev/null;"
        " ! touch /closed/x 2>/dev/null; ! chown 0 /closed 2>/dev/null; touch /opened/y /made/z"
    )
    assert stage.shell(script, binds=binds, **mapped).split() == ["65534", "1000", "0"]
    assert owner(opened / "y") == owner(tmp_path / "made/z") == (BASE, GROUP_BASE)


def test_mapped_binds_belong_to_whom_they_belong(
    stage: Stage, mapped: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    os.chown(tmp_path / "file", 1000, 1001)
    made = Bind(str(tmp_path), "/data", mapped=True)
    script = "stat -c '%u:%g' /data /data/file; touch /data/new"
    shown = stage.shell(script, binds=(made,), tmpfs=(Tmpfs("/t"),), **mapped)
    assert shown.split() == ["0:0", "1000:1001"]
    assert owner(tmp_path / "new") == (0, 0)


def test_devices_terminals_and_memory(stage: Stage, mapped: dict[str, Any]) -> None:
    script = (
        "stat -c '%u:%g %a' /dev /dev/null /dev/shm; echo x > /dev/null; wc -c < /dev/null;"
        " touch /dev/shm/x; ! mknod /tmp/disk b 254 0; stat -c %u /run/t"
    )
    shown = stage.shell(f"({script}) 2>&1", tmpfs=(Tmpfs("/run/t"),), **mapped)
    assert shown.splitlines() == [
        *("0:0 755", "0:0 666", "0:0 1777", "0"),
        *("mknod: /tmp/disk: Operation not permitted", "0"),
    ]
    spec = stage.start("sh", "-c", "tty; stat -c '%u:%g' $(tty); tty -s", tty=True, **mapped)
    assert stage.runtime.wait(spec.id) == 0
    assert stage.output(spec).split() == ["/dev/pts/0", "0:5"]


def test_a_user_of_the_image(stage: Stage, mapped: dict[str, Any]) -> None:
    script = "id -u; grep -E '^(Uid|CapEff)' /proc/self/status; echo x > /dev/stdout; ls -d $HOME"
    spec = stage.start("sh", "-ec", script, user="web", **mapped)
    assert stage.runtime.wait(spec.id) == 0, stage.output(spec)
    lines = stage.output(spec).splitlines()
    assert lines[0] == "1000"
    assert lines[1].split() == ["Uid:", *["1000"] * 4]
    assert lines[2:] == ["CapEff:\t0000000000000000", "x", "/home/web"]


def test_a_user_that_is_not_in_the_map(stage: Stage, mapped: dict[str, Any]) -> None:
    spec = stage.spec("true", user="70000", **mapped)
    stage.runtime.create(spec)
    with pytest.raises(StartFailed, match="user 70000 is not in the user namespace"):
        stage.runtime.start(spec.id)


@pytest.mark.parametrize(
    ("capability", "command"),
    [("NET_ADMIN", "ip link set lo mtu 1400"), ("SYS_ADMIN", "hostname other")],
)
def test_its_network_and_name_are_its_roots(
    stage: Stage, mapped: dict[str, Any], capability: str, command: str
) -> None:
    assert stage.run("sh", "-c", command, **mapped)[0] != 0
    assert stage.run("sh", "-c", command, security=Security((capability,)), **mapped)[0] == 0


def test_mounts_with_the_right_to_mount(stage: Stage, mapped: dict[str, Any]) -> None:
    """Its root may mount what is new, and not take apart or open what we have mounted."""
    script = """
        mount -t tmpfs new /tmp && umount /tmp
        for path in /proc/timer_list /sys/firmware /proc/sys /dev /etc/held; do
            ! umount $path
        done
        ! mount -o remount,rw /sys; ! mount -o remount,rw,bind /proc/sys
        ! mount -o remount,rw,bind /etc/held
        ! echo 1 > /proc/sys/kernel/panic; ! echo h > /proc/sysrq-trigger"""
    held = Bind("/etc/hostname", "/etc/held", read_only=True)
    security = Security(("SYS_ADMIN",), seccomp="unconfined")
    stage.shell(f"({script}) 2>&1", security=security, binds=(held,), **mapped)


def test_low_ports_and_ping_without_rights(stage: Stage, mapped: dict[str, Any]) -> None:
    """As anybody in the container, on the machine's own programs."""
    script = (
        "import socket; listener = socket.create_server(('127.0.0.1', 80));"
        " socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close();"
        " print(listener.getsockname()[1])"
    )
    code, output = stage.run("python3", "-c", script, lower=("/",), user="1234:1234", **mapped)
    assert (code, output) == (0, "80\n")


def test_an_exec_is_in_the_namespace_too(stage: Stage, mapped: dict[str, Any]) -> None:
    spec = stage.start("sleep", "1d", **mapped)
    script = "cat /proc/self/uid_map; touch /exec; id -u; grep CapEff /proc/self/status; tty"
    code, data = stage.execute(spec, "sh", "-ec", script, tty=True)
    assert code == 0
    assert data.split()[:4] == [b"0", b"%d" % BASE, b"65536", b"0"]
    assert b"CapEff:\t00000000a80425fb\r\n/dev/pts/0" in data
    assert owner(Path(spec.root.upper) / "exec") == (0, 0)
    pid = stage.runtime.status(spec.id).pid
    for user in ("web", ""):
        _, data = stage.execute(spec, "readlink", "/proc/self/ns/user", user=user)
        assert data.decode().strip() == os.readlink(f"/proc/{pid}/ns/user")
    assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")


def test_sysctls_of_all_its_namespaces(stage: Stage, mapped: dict[str, Any]) -> None:
    wanted = {
        "net.ipv4.ip_forward": "1",
        "kernel.shmmni": "17",
        "kernel.msgmax": "9000",
        "fs.mqueue.msg_max": "19",
    }
    script = "cd /proc/sys; cat net/ipv4/ip_forward kernel/shmmni kernel/msgmax fs/mqueue/msg_max"
    assert stage.shell(script, sysctls=wanted, **mapped).split() == list(wanted.values())


def test_the_image_host(stage: Stage, mapped: dict[str, Any]) -> None:
    """The machine's own files, as theirs whose they are; what is written stays with us."""
    probe = Path(f"/etc/cnm-{os.getpid()}")
    script = f"stat -c '%u:%g' /etc/passwd /root; touch {probe}; dpkg -S /bin/sh >/dev/null"
    assert stage.shell(script, lower=("/",), **mapped).split() == ["0:0", "0:0"]
    assert not probe.exists()


def test_a_file_system_that_cannot_be_mapped(
    stage: Stage, mapped: dict[str, Any], tmp_path: Path
) -> None:
    place = tmp_path / "ramfs"
    place.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", str(place)], check=True)
    try:
        spec = stage.spec("true", lower=(str(place), str(stage.root)), **mapped)
        stage.runtime.create(spec)
        text = (
            f"{place} cannot be shown in a user namespace: its file system has no idmapped mounts"
        )
        with pytest.raises(StartFailed, match=text):
            stage.runtime.start(spec.id)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_network_namespace_of_the_hosts_users(stage: Stage, tmp_path: Path) -> None:
    provider, key = NamespaceSandboxes(), SandboxKey(str(tmp_path / "plain"))
    provider.create(key)
    spec = stage.spec("true", network_namespace=str(key), ids=IDS)
    stage.runtime.create(spec)
    with pytest.raises(StartFailed, match="belongs to no user namespace of its own"):
        stage.runtime.start(spec.id)
    provider.remove(key)
    provider.close()


def test_two_share_a_namespace_by_their_network(stage: Stage, mapped: dict[str, Any]) -> None:
    pids = [stage.runtime.status(stage.start("sleep", "1d", **mapped).id).pid for _ in range(2)]
    for kind in ("user", "net"):
        assert len({os.readlink(f"/proc/{pid}/ns/{kind}") for pid in pids}) == 1
    assert len({os.readlink(f"/proc/{pid}/ns/mnt") for pid in pids}) == 2


def test_it_outlives_its_supervisor(stage: Stage, mapped: dict[str, Any]) -> None:
    spec = stage.start("sh", tty=True, open_stdin=True, **mapped)
    before = stage.runtime.status(spec.id)
    former = stage.supervisor_pid()
    os.kill(former, signal.SIGKILL)
    until("it is gone", lambda: not os.path.exists(f"/proc/{former}"))
    assert stage.runtime.status(spec.id) == before
    assert stage.execute(spec, "id", "-u") == (0, b"0\n")
    with stage.runtime.attach(spec.id, stdin=True, stdout=True, stderr=True) as stream:
        stream.sendall(b"exit 3\n")
        assert b"exit 3" in b"".join(iter(lambda: stream.recv(65536), b""))


def held_by_processes(kind: str, inode: str) -> list[str]:
    links = Path("/proc").glob(f"[0-9]*/ns/{kind}")
    found = []
    for link in links:
        try:
            found += [link.parts[2]] if os.readlink(link) == inode else []
        except OSError:
            continue
    return found


def test_nobody_is_left_in_it(stage: Stage, mapped: dict[str, Any]) -> None:
    spec = stage.start("sleep", "1d", **mapped)
    pid = stage.runtime.status(spec.id).pid
    inode = os.readlink(f"/proc/{pid}/ns/user")
    assert held_by_processes("user", inode) == [str(pid)]
    stage.runtime.destroy(spec.id)
    assert held_by_processes("user", inode) == []


def test_a_process_of_ours_that_dies_leaves_no_maker() -> None:
    """What makes the namespaces ends with who asked for them."""
    code = (
        "import os, sys; from cnm.idmap import *; from cnm.runtime.kernel import userns\n"
        f"ids = IdMap((IdRange(0, {BASE}, 10),), (IdRange(0, {BASE}, 10),))\n"
        "with userns.network_of_its_own(ids) as made:\n"
        "    print(os.fstat(made).st_ino, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9
    inode = f"net:[{done.stdout.strip()}]"
    until("its maker is gone", lambda: held_by_processes("net", inode) == [])
