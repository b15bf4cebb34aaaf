"""Published ports by real clients: docker's command and docker-py, our own commands, real packets.

Each way to reach a port is in ``tests/kernel``; here it is what clients ask and are told.
"""

from __future__ import annotations

import contextlib
import json
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from conftest import DaemonFactory
from livedaemon import Completed, LiveDaemon
from patience import patient
from peers.lan import CLIENT, HOST, HOST6, Lan, server

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(patient(120))]

BOTH = "80/tcp -> 0.0.0.0:5005\n80/tcp -> [::]:5005\n"
REFUSALS = [
    ("5005:65536", "invalid containerPort: 65536"),
    ("65536:80", "invalid hostPort: 65536"),
    ("5005:0", 'invalid port specification: "0"'),
    ("5000-5010:80-91", "invalid ranges specified for container and host Ports"),
    ("5005:80/foo", "invalid proto: foo"),
    ("300.0.0.1:5005:80", "invalid IP address: 300.0.0.1"),
]


@pytest.fixture
def lan(daemon: DaemonFactory) -> Iterator[Lan]:
    """A daemon on a host with a LAN; no container is left afterwards."""
    live = daemon()
    yield Lan(live)
    if not live.running:
        live.start()
    names = live.docker("ps", "-aq").stdout.split()
    if names:
        live.docker("rm", "-f", *names)
    assert held(live) == set()


def held(live: LiveDaemon) -> set[str]:
    """Ports that some process of the host holds, but for the resolver's."""
    lines = live.inside(live.netns, "ss", "-Htuln").stdout.splitlines()
    return {f"{line.split()[0]} {line.split()[4]}" for line in lines}


def web(lan: Lan, *flags: str, name: str = "web") -> None:
    """A container that serves."""
    lan.live.docker("run", "-d", "--name", name, *flags, "host", *server())
    lan.serving(name)


def attempt(live: LiveDaemon, name: str, *flags: str) -> Completed:
    return live.docker("run", "-d", "--name", name, *flags, "host", *server(), check=False)


def test_docker_publishes(lan: Lan) -> None:
    live = lan.live
    web(lan, "-p", "5005:80", "-p", "127.0.0.1:5006:80", "--expose", "81/udp")
    lines = "80/tcp -> 0.0.0.0:5005\n80/tcp -> [::]:5005\n80/tcp -> 127.0.0.1:5006\n"
    assert sorted(live.docker("port", "web").stdout.splitlines()) == sorted(lines.splitlines())
    assert live.cnm("port", "web").stdout == (
        "80/tcp -> 0.0.0.0:5005\n80/tcp -> 127.0.0.1:5006\n80/tcp -> [::]:5005\n"
    )
    assert live.docker("port", "web", "80").stdout.count(":5005\n") == 2
    shown = live.docker("ps", "--format", "{{.Ports}}").stdout
    for part in ("0.0.0.0:5005->80/tcp", "[::]:5005->80/tcp", "127.0.0.1:5006->80/tcp", "81/udp"):
        assert part in shown.replace(":::5005", "[::]:5005")
    assert live.cnm("ps", "--format", "{{.Ports}}").stdout == (
        "81/udp, 0.0.0.0:5005->80/tcp, 127.0.0.1:5006->80/tcp, [::]:5005->80/tcp\n"
    )
    assert lan.ask(HOST, 5005) == CLIENT
    assert lan.ask("127.0.0.1", 5006, netns=lan.host)
    assert lan.ask("::1", 5005, netns=lan.host)
    assert lan.ask(HOST6, 5005)
    assert lan.ask(HOST, 5006) == ""
    live.docker("stop", "-t", "0", "web")
    assert live.docker("port", "web").stdout == ""
    assert held(live) == set()
    live.docker("start", "web")
    lan.serving("web")
    assert lan.ask(HOST, 5005) == CLIENT


def test_filters(lan: Lan) -> None:
    live = lan.live
    web(lan, "-p", "5005:80", "--expose", "90-92/udp")
    web(lan, name="other")

    def found(*filters: str) -> set[str]:
        flags = [word for text in filters for word in ("--filter", text)]
        return set(live.docker("ps", "--format", "{{.Names}}", *flags).stdout.split())

    assert found("publish=80") == found("publish=70-85/tcp") == {"web"}
    assert found("publish=5005") == found("publish=80/udp") == set()
    assert found("expose=91/udp") == found("expose=80") == {"web"}
    assert found("publish=80", "name=other") == set()
    wrong = live.docker("ps", "--filter", "publish=1.2.3.4:80", check=False)
    assert "filter for 'publish' should not contain ':'" in wrong.stderr


def test_random_ports_ranges_and_publish_all(lan: Lan) -> None:
    live = lan.live
    web(lan, "-p", "80", "-p", "8000-8010:81", "-p", "6000-6002:90-92", "-p", "53:53/udp")
    ports = live.docker("port", "web").stdout.splitlines()
    assert {line for line in ports if line.startswith("9")} == {
        f"{90 + n}/tcp -> {host}:{6000 + n}" for n in range(3) for host in ("0.0.0.0", "[::]")
    }
    (random,) = {line.rpartition(":")[2] for line in ports if line.startswith("80/")}
    low, high = live.inside(
        live.netns, "cat", "/proc/sys/net/ipv4/ip_local_port_range"
    ).stdout.split()
    assert int(low) <= int(random) <= int(high)
    assert "81/tcp -> 0.0.0.0:8000" in ports
    assert "53/udp -> [::]:53" in ports
    assert lan.ask(HOST, int(random)) == CLIENT
    web(lan, "-p", "8000-8010:81", "-P", "--expose", "80", name="second")
    second = live.docker("port", "second").stdout.splitlines()
    assert "81/tcp -> 0.0.0.0:8001" in second
    (random,) = {line.rpartition(":")[2] for line in second if line.startswith("80/")}
    assert lan.ask(HOST, int(random)) == CLIENT


@pytest.mark.parametrize(("spec", "text"), REFUSALS)
def test_refusals(lan: Lan, spec: str, text: str) -> None:
    for program in (lan.live.docker, lan.live.cnm):
        done = program("run", "-d", "-p", spec, "host", "true", check=False)
        assert (done.returncode, done.stdout) == (125, "")
        if program == lan.live.cnm or "ontainer" in text or "proto" in text:
            assert text in done.stderr
    assert lan.live.docker("ps", "-aq").stdout == ""


def test_the_api_refuses_with_400(lan: Lan) -> None:
    live = lan.live
    for key, binding, text in (
        ("0/tcp", {}, 'invalid port specification: "0"'),
        ("65536", {}, 'invalid port specification: "65536"'),
        ("80/foo", {}, "invalid proto: foo"),
        ("80/tcp", {"HostPort": "65536"}, 'invalid port specification: "65536"'),
        ("80/tcp", {"HostIp": "nope"}, "invalid IP address: nope"),
    ):
        body = {"Image": "host", "Cmd": ["true"], "HostConfig": {"PortBindings": {key: [binding]}}}
        answer = live.http("POST", "/containers/create", body)
        assert (answer.status, answer.document["message"]) == (400, text)


def test_an_address_that_the_host_has_not(lan: Lan) -> None:
    live = lan.live
    live.docker("create", "--name", "web", "-p", "192.0.2.77:5005:80", "host", *server())
    before = live.ip("link")
    answer = live.http("POST", "/containers/web/start")
    assert answer.status == 400
    assert "192.0.2.77:5005" in answer.document["message"]
    assert live.ip("link") == before
    assert live.docker("inspect", "-f", "{{.State.Status}}", "web").stdout == "created\n"


def test_a_port_that_another_container_has(lan: Lan) -> None:
    live = lan.live
    web(lan, "-p", "5005:80")
    links = len(live.ip("link"))
    done = attempt(live, "second", "-p", "6001:81", "-p", "5005:80")
    assert done.returncode == 125
    assert "driver failed programming external connectivity on endpoint second (" in done.stderr
    assert "Bind for 0.0.0.0:5005 failed: port is already allocated" in done.stderr
    assert "(held by container web)" in done.stderr
    state = live.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "second").stdout
    assert state == "created 128\n"
    assert len(live.ip("link")) == links
    assert not any(":6001" in port for port in held(live))
    assert lan.ask(HOST, 5005) == CLIENT
    live.docker("rm", "-f", "web")
    live.docker("start", "second")
    assert lan.ask(HOST, 6001) == ""  # nobody listens on 81


def test_a_port_that_another_program_has(lan: Lan) -> None:
    live, other = lan.live, lan.occupy(5005)
    try:
        done = live.cnm("run", "--rm", "-p", "5005:80", "host", "true", check=False)
        assert done.returncode == 125
        assert "Bind for 0.0.0.0:5005 failed: port is already allocated (held by py" in done.stderr
        assert live.docker("ps", "-aq").stdout == ""
    finally:
        other.kill()
        other.communicate()


def test_two_at_once_want_one_port(lan: Lan) -> None:
    live = lan.live
    done: dict[str, Completed] = {}

    def start(name: str) -> None:
        done[name] = attempt(live, name, "-p", "5005:80")

    threads = [threading.Thread(target=start, args=(f"k{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [name for name, result in done.items() if result.returncode == 0]
    assert len(winners) == 1, done
    assert all(
        "port is already allocated" in result.stderr
        for name, result in done.items()
        if name not in winners
    )
    assert live.docker("port", winners[0]).stdout == BOTH
    lan.serving(winners[0])
    assert lan.ask(HOST, 5005) == CLIENT


def test_docker_py(lan: Lan) -> None:
    live = lan.live
    with contextlib.closing(docker.DockerClient(base_url=live.host)) as client:
        made = client.containers.run(
            "host",
            server(),
            name="web",
            detach=True,
            ports={"80/tcp": 5005, "81/tcp": ("127.0.0.1", 5006), "53/udp": None, "82": [83, 84]},
        )
        made.reload()
        both = ("0.0.0.0", "::")
        assert made.ports["80/tcp"] == [{"HostIp": ip, "HostPort": "5005"} for ip in both]
        assert made.ports["81/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "5006"}]
        assert len(made.ports["53/udp"]) == 2
        assert [item["HostPort"] for item in made.ports["82/tcp"]] == ["83", "83", "84", "84"]
        lan.serving("web")
        assert lan.ask(HOST, 5005) == CLIENT
        with pytest.raises(docker.errors.APIError, match="port is already allocated") as failed:
            client.containers.run("host", "true", ports={"80/tcp": 5005})
        assert failed.value.status_code == 500


def test_publish_on_a_container_that_runs(lan: Lan) -> None:
    live = lan.live
    web(lan)
    assert live.net("publish", "web", "5005:80").stdout == BOTH
    assert lan.ask(HOST, 5005) == CLIENT
    assert live.net("publish", "web", "5005:80", "127.0.0.1:5006:80").stdout.count("5005") == 2
    live.docker("restart", "-t", "0", "web")
    lan.serving("web")
    assert lan.ask(HOST, 5005) == CLIENT
    assert "5006" in live.docker("inspect", "-f", "{{json .HostConfig.PortBindings}}", "web").stdout
    live.net("unpublish", "web", "5005:80")
    assert lan.ask(HOST, 5005) == ""
    assert live.docker("port", "web").stdout == "80/tcp -> 127.0.0.1:5006\n"
    wrong = live.net("unpublish", "web", "99", check=False)
    text = "Error response from daemon: No public port '99/tcp' published for web\n"
    assert (wrong.returncode, wrong.stderr) == (1, text)
    live.net("unpublish", "web")
    assert held(live) == set()


def test_publish_on_an_adopted_namespace(lan: Lan) -> None:
    live = lan.live
    live.net("create", "red", "--subnet", "10.9.0.0/24")
    inner = live.adopt("box")
    said = live.net("publish", "box", "5005:80")
    assert said.stdout == ""
    assert "published when box runs on a network" in said.stderr
    live.net("connect", "red", "box")
    assert live.cnm("port", "box").stdout == BOTH
    with subprocess.Popen(["ip", "netns", "exec", inner, *server()]) as process:
        try:
            poll(lambda: lan.ask(HOST, 5005) == CLIENT, "an answer")
            live.kill()
            assert lan.ask(HOST, 5005) == CLIENT
            live.start()
            assert live.cnm("port", "box").stdout == BOTH
            assert lan.ask(HOST, 5005) == CLIENT
        finally:
            process.kill()
    live.cnm("release", "box")
    live.net("rm", "red")


def poll(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + patient(30)
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def test_ports_live_on_without_a_daemon(lan: Lan) -> None:
    live = lan.live
    web(lan, "-p", "5005:80", "-p", "80")
    ports = live.docker("port", "web").stdout
    live.kill()
    assert lan.ask(HOST, 5005) == CLIENT
    assert lan.ask("::1", 5005, netns=lan.host)  # by the helper
    live.start()
    assert live.docker("port", "web").stdout == ports
    assert live.http("POST", "/cnm/v1/sweep").document == {"Repairs": []}
    assert lan.ask(HOST, 5005) == CLIENT
    done = attempt(live, "second", "-p", "5005:80")
    assert "(held by container web)" in done.stderr


def test_no_socket_of_ours_is_abstract(lan: Lan) -> None:
    """CVE-2020-15257: containers with the host's network would reach it, whatever its mode."""
    live = lan.live
    live.net("create", "red")
    web(lan, "-p", "5005:80", "--network", "red")
    assert lan.ask("::1", 5005, netns=lan.host)  # the port helper serves, and so does the resolver
    seen = live.docker("run", "--rm", "--network", "host", "host", "cat", "/proc/net/unix").stdout
    paths = [words[7] for line in seen.splitlines() if len(words := line.split()) > 7]
    assert str(live.socket) in paths
    assert [path for path in paths if path.startswith("@")] == []
    held = [path for path in paths if path.startswith(str(live.exec_root))]
    assert len(held) >= 3  # the supervisor's, the resolver's and the port helper's
    for path in held:
        modes = [Path(place).stat().st_mode for place in (path, live.exec_root)]
        assert any(stat.S_IMODE(mode) & 0o007 == 0 for mode in modes), path
    live.docker("rm", "-f", "web")
    live.net("rm", "red")


def test_ports_move_with_the_default_route(lan: Lan) -> None:
    live = lan.live
    live.net("create", "red", "--subnet", "10.9.0.0/24")
    web(lan, "-p", "5005:80")
    live.net("connect", "--gw-priority", "5", "red", "web")
    assert lan.ask(HOST, 5005) == CLIENT
    live.net("disconnect", "red", "web")
    assert lan.ask(HOST, 5005) == CLIENT
    assert live.docker("port", "web").stdout == BOTH
    live.docker("rm", "-f", "web")
    live.net("rm", "red")


def test_firewall_shows_and_checks(lan: Lan) -> None:
    live = lan.live
    web(lan, "-p", "5005:80", "-p", "127.0.0.1:5006:80")
    rows = [
        json.loads(line)
        for line in live.net("firewall", "show", "--format", "json").stdout.splitlines()
    ]
    assert all(row["Table"].startswith("cnm") and row["Purpose"] for row in rows)
    assert any(row["Container"] == "web" and "5005" in row["Rule"] for row in rows)
    reach = [
        json.loads(line)
        for line in live.net("firewall", "check", "web", "--format", "json").stdout.splitlines()
    ]
    by_address = {
        (row["Address"], row["From"]): row["Reaches"] for row in reach if row["Port"] == "80/tcp"
    }
    origins = {origin for _, origin in by_address}
    assert any("LAN" in origin or "remote" in origin for origin in origins), origins

    def reaching(address: str) -> set[str]:
        found = (address, "yes")
        return {origin for (bound, origin), yes in by_address.items() if (bound, yes) == found}

    assert reaching("127.0.0.1:5006") < reaching("0.0.0.0:5005")
