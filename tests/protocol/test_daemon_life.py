"""The daemon as a process: start, refusals, signals, restart, removal."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import Forked
from livedaemon import PROGRAMS, LiveDaemon, run
from patience import ON_SECOND_KERNEL, patient

pytestmark = pytest.mark.kernel

Make = Callable[..., LiveDaemon]


def refused(live: LiveDaemon) -> str:
    """The line of a daemon that does not start."""
    live.spawn()
    assert live.wait_for_exit() == 1
    line = live.log().splitlines()[-1]
    assert line.startswith("cnm daemon: cannot start: ")
    return line.removeprefix("cnm daemon: cannot start: ")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"still waiting for {what}"
        time.sleep(0.02)


def test_it_says_when_it_is_ready_and_stops_cleanly(daemon: Make) -> None:
    live = daemon()
    assert f"info cnm daemon ready on {live.host}" in live.log()
    assert (live.exec_root / "cnm.pid").read_text() == f"{live.pid}\n"
    assert stat.S_IMODE(live.socket.stat().st_mode) == 0o660
    assert stat.S_IMODE(live.root.stat().st_mode) == 0o700
    assert live.stop() == 0
    assert not live.socket.exists()
    assert not (live.exec_root / "cnm.pid").exists()
    assert all(len(line.split(" ", 2)) == 3 for line in live.log().splitlines())


def test_a_service_manager_is_told(daemon: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    live = daemon(start=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(20)
        path = live.folder / "notify"
        manager.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        live.start()
        assert manager.recv(100) == b"READY=1"
        live.send(signal.SIGHUP)
        assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(100) == b"READY=1"
        live.stop()
        assert manager.recv(100) == b"STOPPING=1"


def test_a_stop_ends_event_streams(daemon: Make) -> None:
    live = daemon()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(live.socket))
        client.sendall(b"GET /events HTTP/1.1\r\nHost: cnm\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert live.stop() == 0
        while client.recv(4096):
            pass


def test_networks_outlive_a_restart_and_a_kill(daemon: Make) -> None:
    live = daemon()
    network_id = live.net("create", "lasting").stdout.strip()
    device = f"br-{network_id[:12]}"
    index = live.ip("link", "show", "dev", device)[0]["ifindex"]
    live.kill()
    assert live.socket.exists()
    live.start()
    assert live.net("inspect", "lasting", "--format", "{{.Id}}").stdout.strip() == network_id
    live.restart()
    assert live.ip("link", "show", "dev", device)[0]["ifindex"] == index


def test_one_daemon_a_network_namespace(daemon: Make) -> None:
    first = daemon()
    second = daemon(netns=first.netns, start=False)
    assert refused(second) == (
        f"a daemon (pid {first.pid}) manages this network namespace already: stop it first"
    )
    daemon()  # in another namespace is fine


def test_one_daemon_a_root(daemon: Make) -> None:
    first, second = daemon(), daemon(start=False)
    second.root = first.root
    assert refused(second) == (
        f"{first.root} is in use by a daemon (pid {first.pid}): stop it first"
    )


def test_a_socket_that_is_served(daemon: Make) -> None:
    first, second = daemon(), daemon(start=False)
    second.socket = first.socket
    assert refused(second) == f"{first.host} is served by a running daemon (pid {first.pid})"
    assert first.http("GET", "/_ping").status == 200


def test_a_path_that_is_no_socket(daemon: Make) -> None:
    live = daemon(start=False)
    live.socket.write_text("mine")
    assert refused(live).endswith("exists and is no socket: remove it or name another")
    assert live.socket.read_text() == "mine"


def test_a_damaged_database_is_left_alone(daemon: Make) -> None:
    live = daemon(start=False)
    live.root.mkdir()
    database = live.root / "cnm.db"
    database.write_bytes(b"this is no database, whatever it was" * 100)
    before = database.read_bytes()
    assert refused(live).startswith(f"database {database} is damaged")
    assert database.read_bytes() == before


def test_a_newer_database_is_left_alone(daemon: Make) -> None:
    live = daemon()
    live.stop()
    database = live.root / "cnm.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 999")
    before = database.read_bytes()
    message = refused(live)
    assert "has schema 999" in message
    assert "use a newer cnm" in message
    assert database.read_bytes() == before


def test_a_root_that_cannot_be_made(daemon: Make) -> None:
    live = daemon(start=False)
    live.root = Path("/proc/nowhere")
    assert refused(live) == "/proc/nowhere: No such file or directory"


def test_no_root_user() -> None:
    done = run("setpriv", "--reuid", "65534", str(PROGRAMS / "cnm"), "daemon", check=False)
    assert done.returncode == 1
    assert done.stderr == "cnm daemon: cannot start: it needs root: run it with sudo\n"


@pytest.mark.parametrize(
    ("document", "end"),
    [
        ('{"foo": 1}', "the following directives don't match any configuration option: foo"),
        ('{"exec-root": "/x"}', "exec-root: (from flag: {run}, from file: /x)"),
        ('{"metrics-addr": "x"}', 'metrics-addr: "x": must be IP:PORT'),
    ],
)
def test_a_bad_configuration(daemon: Make, document: str, end: str) -> None:
    live = daemon(start=False)
    live.config_file.write_text(document)
    message = refused(live)
    assert message.startswith(f"unable to configure the cnm daemon with file {live.config_file}: ")
    assert message.endswith(end.replace("{run}", str(live.exec_root)))


def test_a_configuration_can_be_checked_alone(daemon: Make) -> None:
    live = daemon(start=False)
    done = live.cnm("daemon", "--validate", "--config-file", str(live.config_file))
    assert done.stdout == "configuration OK\n"


def test_a_hang_up_reads_the_configuration_again(daemon: Make) -> None:
    live = daemon()
    live.config_file.write_text(json.dumps({"debug": True, "labels": ["a=b"], "mtu": 1400}))
    live.send(signal.SIGHUP)
    wait_for(lambda: "configuration read again" in live.log(), "the reload")
    info = live.http("GET", "/info").document
    assert (info["Debug"], info["Labels"]) == (True, ["a=b"])
    assert (
        "mtu has changed: it takes effect at the next start, on the network bridge if nothing"
        " uses it then" in live.log()
    )
    live.config_file.write_text("{")
    live.send(signal.SIGHUP)
    wait_for(lambda: "the old configuration stays" in live.log(), "the refused reload")
    assert live.http("GET", "/info").document["Debug"] is True


def test_the_sweep_puts_back_what_was_removed_by_hand(daemon: Make) -> None:
    live = daemon("--sweep-interval", "1")
    run("ip", "-n", live.netns, "link", "del", "cnm0")
    wait_for(lambda: any(link["ifname"] == "cnm0" for link in live.ip("link", "show")), "the sweep")
    wait_for(lambda: "repaired " in live.log(), "its line in the log")


def test_a_route_on_our_subnet_is_told(daemon: Make) -> None:
    live = daemon()
    live.net("create", "--subnet", "10.90.0.0/24", "office")
    run("ip", "-n", live.netns, "link", "add", "vpn0", "type", "veth", "peer", "name", "vpn1")
    run("ip", "-n", live.netns, "link", "set", "vpn0", "up")
    run("ip", "-n", live.netns, "route", "add", "10.90.0.0/16", "dev", "vpn0")
    wait_for(lambda: "10.90.0.0/16" in live.log(), "the warning")
    (line,) = (line for line in live.log().splitlines() if "10.90.0.0/16" in line)
    assert " warn " in line
    assert "office" in line


def test_a_disconnect_does_not_mind_another_interface_missing(daemon: Make) -> None:
    live = daemon()
    netns = live.adopt("c1")
    for network in ("aa", "bb"):
        live.net("create", network)
        live.net("connect", network, "c1")
    run("ip", "-n", netns, "link", "delete", "eth1")
    live.net("disconnect", "aa", "c1")
    assert "eth0" not in [link["ifname"] for link in live.ip("link", "show", netns=netns)]


def uninstall(live: LiveDaemon, *flags: str, netns: str = "") -> tuple[int, str]:
    roots = ("--root", str(live.root), "--exec-root", str(live.exec_root), "-H", live.host)
    words = ("uninstall", *roots, "--config-file", str(live.config_file), *flags)
    space = netns or live.netns
    if ON_SECOND_KERNEL:
        with tempfile.TemporaryFile() as said:
            status = Forked(("cnm", *words), space, said).wait(patient(50))
            said.seek(0)
            return status, said.read().decode()
    inside = ("nsenter", f"--net=/run/netns/{space}", str(PROGRAMS / "cnm"))
    done = run(*inside, *words, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.both_kernels
def test_uninstall_leaves_nothing(daemon: Make) -> None:
    live = daemon(start=False)
    bare = live.ip("link", "show"), rules(live), forwarding(live)
    live.start()
    netns = live.namespace("c1")
    adopted = {"Name": "c1", "Netns": f"/run/netns/{netns}"}
    for path, wish in (
        ("/cnm/v1/adopt", adopted),
        ("/networks/create", {"Name": "blue"}),
        ("/networks/blue/connect", {"Container": "c1"}),
    ):
        answer = live.http("POST", path, wish)
        assert answer.status < 300, answer
    live.kill()
    assert uninstall(live, "-f") == (
        0,
        f"removed; the configuration file {live.config_file} is left to you\n",
    )
    assert (live.ip("link", "show"), rules(live), forwarding(live)) == bare
    assert [link["ifname"] for link in live.ip("link", "show", netns=netns)] == ["lo"]
    assert not live.root.exists()
    assert not live.exec_root.exists()


def test_uninstall_asks_first_and_not_while_the_daemon_runs(daemon: Make) -> None:
    live = daemon()
    live.net("create", "blue")
    status, text = uninstall(live, "-f")
    assert status == 1
    assert f"(pid {live.pid})" in text
    assert "stop it first" in text
    live.kill()
    assert uninstall(live) == (1, question(live) + "nothing was removed\n")
    assert live.root.exists()


def test_uninstall_in_another_namespace_is_refused(daemon: Make) -> None:
    live = daemon()
    live.net("create", "blue")
    links = [link["ifname"] for link in live.ip("link", "show")]
    live.kill()
    status, text = uninstall(live, "-f", netns=live.namespace("elsewhere"))
    assert status == 1
    assert "are in another network namespace: run uninstall in that one" in text
    assert [link["ifname"] for link in live.ip("link", "show")] == links
    assert live.root.exists()


def test_uninstall_goes_by_marks_if_the_database_is_damaged(daemon: Make) -> None:
    live = daemon()
    live.net("create", "blue")
    live.kill()
    for path in live.root.glob("cnm.db-*"):
        path.unlink()
    (live.root / "cnm.db").write_bytes(b"garbage" * 1000)
    status, text = uninstall(live, "-f")
    assert status == 1, text
    assert "is damaged" in text
    assert "removed; the configuration" not in text
    assert text.splitlines()[-1] == (
        "cnm uninstall: all else is removed, but net.ipv4.ip_forward could not be put back: what"
        " it was before cnm was in the damaged database; set it to 0 if nothing else needs it"
    )
    assert [link["ifname"] for link in live.ip("link", "show")] == ["lo"]
    assert rules(live) == ""
    assert not live.root.exists()


@pytest.mark.parametrize("damaged", [False, True], ids=["store", "damaged"])
def test_uninstall_ends_containers_and_their_supervisor(daemon: Make, damaged: bool) -> None:
    live = daemon()
    live.cnm("run", "-d", "--name", "c1", "host", "sleep", "1000")
    live.cnm("run", "-d", "--restart", "always", "--name", "c2", "host", "sleep", "1000")
    live.stop()
    if damaged:
        for path in live.root.glob("cnm.db-*"):
            path.unlink()
        (live.root / "cnm.db").write_bytes(b"garbage" * 1000)
    status, text = uninstall(live, "-f")
    assert status == int(damaged), text
    wait_for(lambda: str(live.exec_root) not in processes(), "the supervisor's end")
    assert not live.root.exists()
    assert not live.exec_root.exists()
    assert [link["ifname"] for link in live.ip("link", "show")] == ["lo"]


def processes() -> str:
    return run("ps", "-eo", "args").stdout


def question(live: LiveDaemon) -> str:
    return (
        "This removes every network of cnm on this host, gives adopted containers back and"
        f" deletes {live.root} and {live.exec_root}. Continue? [y/N] "
    )


def rules(live: LiveDaemon) -> str:
    return live.inside(live.netns, "nft", "-s", "list", "ruleset").stdout


def forwarding(live: LiveDaemon) -> str:
    return live.inside(live.netns, "sysctl", "-n", "net.ipv4.ip_forward").stdout
