"""A real dockerd uses our drivers and our IPAM, through the plugin directory.

Both live on one lab host: dockerd with its iptables rules, FORWARD's policy DROP and
bridge-nf-call-iptables, and our daemon beside it. Judged by the containers themselves, by
``ip`` and by a look into our database.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from livedaemon import LiveDaemon, run
from patience import patient
from peers.pair import HOST, ON_US, OUTSIDE, Pair, poll

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("dockerd"),
]


# W2: the user's walk


def test_a_network_of_ours_from_creation_to_removal(pair: Pair) -> None:
    identity = pair.network("blue")
    (bridge,) = pair.ours.ip("address", "show", "dev", f"br-{identity[:12]}")
    config = json.loads(pair.run("network", "inspect", "blue").stdout)[0]["IPAM"]["Config"]
    assert bridge["addr_info"][0]["local"] == config[0]["Gateway"]
    pair.sleeper("c1", "blue")
    document = json.loads(pair.run("network", "inspect", "blue").stdout)[0]
    (member,) = document["Containers"].values()
    octets = [int(part) for part in pair.address("c1", "blue").split(".")]
    assert member["MacAddress"] == "02:42:" + ":".join(f"{octet:02x}" for octet in octets)
    pair.sleeper("c2", "blue", "--network-alias", "two")
    assert pair.pings("c1", "c2")  # Docker's own resolver, our link
    assert pair.pings("c2", "c1")
    assert pair.pings("c1", "two")
    told = pair.ours.net("doctor").stdout  # no list of ours has it
    assert f"bridge: network {identity[:12]} of an engine" in told
    assert f"{config[0]['Subnet']}; 2 endpoints" in told
    pair.run("rm", "-f", "c1", "c2")
    pair.run("network", "rm", "blue")
    pair.nothing_left()


def test_a_container_has_what_was_asked_for(pair: Pair) -> None:
    pair.network(
        *("given", *ON_US, "--subnet", "10.61.0.0/16", "--ip-range", "10.61.5.0/24"),
        *("--aux-address", "router=10.61.5.1", "-o", "com.docker.network.driver.mtu=1400"),
    )
    wish = {  # the command sends a MAC address to newer engines only
        **{"Image": "busybox", "Cmd": ["/bin/sleep", "1d"], "MacAddress": "02:11:22:33:44:55"},
        "HostConfig": {"NetworkMode": "given"},
        "NetworkingConfig": {
            "EndpointsConfig": {"given": {"IPAMConfig": {"IPv4Address": "10.61.9.9"}}}
        },
    }
    pair.docker.api.call("POST", "/containers/create?name=c1", wish)
    pair.run("start", "c1")
    assert "10.61.9.9/16" in pair.inside("c1", "ip", "address").stdout
    link = pair.inside("c1", "ip", "link", "show", "eth0").stdout
    assert "02:11:22:33:44:55" in link
    assert "mtu 1400" in link
    taken = pair.run(
        "run",
        "--rm",
        "--network",
        "given",
        "--ip",
        "10.61.9.9",
        "busybox",
        "sleep",
        "0",
        check=False,
    )
    assert taken.returncode == 125
    assert "Address already in use" in taken.stderr
    pair.run("rm", "-f", "c1")
    pair.run("network", "rm", "given")
    pair.nothing_left()


def test_several_networks_connect_and_disconnect(pair: Pair) -> None:
    for name in ("blue", "red"):
        pair.network(name)
    pair.sleeper("c1", "blue")
    pair.sleeper("c2", "red")
    assert not pair.pings("c1", "c2")
    pair.run("network", "connect", "red", "c1")
    assert pair.pings("c1", "c2")
    pair.run("network", "disconnect", "red", "c1")
    assert not pair.pings("c1", pair.address("c2", "red"))
    pair.run("rm", "-f", "c1", "c2")
    pair.run("network", "rm", "blue", "red")
    pair.nothing_left()


def test_ipv6_and_docker_s_own_ipam(pair: Pair) -> None:
    pair.network("six", *ON_US, "--ipv6", "--subnet", "fd61::/64")
    pair.network("theirs", "-d", "cnm-bridge")
    pair.sleeper("c1", "six")
    pair.sleeper("c2", "six")
    assert pair.pings("c1", "fd61::3")
    pair.run("network", "connect", "theirs", "c1")
    pair.run("network", "connect", "theirs", "c2")
    assert pair.pings("c1", pair.address("c2", "theirs"))
    pair.run("rm", "-f", "c1", "c2")
    pair.run("network", "rm", "six", "theirs")
    pair.nothing_left()


def test_our_ipam_for_docker_s_own_bridge(pair: Pair) -> None:
    pair.network("plain", "-d", "bridge", "--ipam-driver", "cnm-ipam", "--subnet", "10.62.0.0/24")
    pair.sleeper("c1", "plain")
    assert pair.address("c1", "plain") == "10.62.0.2"
    overlapping = pair.run(
        *("network", "create", *ON_US, "--subnet", "10.62.0.0/16", "more"), check=False
    )
    assert "Pool overlaps with other one on this address space" in overlapping.stderr
    pair.run("rm", "-f", "c1")
    pair.run("network", "rm", "plain")
    pair.nothing_left()


def test_an_internal_network_has_no_way_out(pair: Pair) -> None:
    pair.network("inner", *ON_US, "--internal")
    pair.sleeper("c1", "inner")
    pair.sleeper("c2", "inner")
    assert pair.pings("c1", "c2")
    assert not pair.pings("c1", OUTSIDE)
    assert "default" not in pair.inside("c1", "ip", "route").stdout
    assert "docker_gwbridge" not in pair.links()
    pair.run("rm", "-f", "c1", "c2")
    pair.run("network", "rm", "inner")
    pair.nothing_left()


def test_what_we_refuse_the_user_reads(pair: Pair) -> None:
    for flags, text in (
        (("-o", "com.docker.network.bridge.nam=x"), "unknown option com.docker.network.bridge.nam"),
        (("--subnet", "127.0.0.0/24"), "loopback addresses"),
    ):
        done = pair.run("network", "create", *ON_US, *flags, "no", check=False)
        assert done.returncode == 1
        assert text in done.stderr
    pair.nothing_left()


# beside Docker's firewall


def test_traffic_passes_where_docker_drops_by_default(pair: Pair) -> None:
    netns = pair.ours.netns
    rules = run("ip", "netns", "exec", netns, "iptables", "-S", "FORWARD").stdout
    assert "-P FORWARD DROP" in rules
    filtered = run(
        "ip", "netns", "exec", netns, "sysctl", "-n", "net.bridge.bridge-nf-call-iptables"
    )
    assert filtered.stdout.strip() == "1"
    pair.network("blue")
    pair.sleeper("c1", "blue")
    pair.sleeper("c2", "blue")
    assert pair.pings("c1", pair.address("c2", "blue"))
    assert pair.pings("c1", OUTSIDE)
    assert pair.pings("c1", HOST)
    # a container of Docker's own network goes on as before
    pair.run("run", "--rm", "busybox", "ping", "-c1", "-W3", OUTSIDE)


# restarts and kills, of either side, in either order


@pytest.mark.parametrize("end", [LiveDaemon.stop, LiveDaemon.kill], ids=["stopped", "killed"])
def test_our_daemon_goes_and_comes_back(pair: Pair, end: Callable[[LiveDaemon], object]) -> None:
    pair.network("blue")
    pair.sleeper("c1", "blue")
    pair.sleeper("c2", "blue")
    end(pair.ours)
    assert pair.pings("c1", "c2")  # traffic does not need us
    pair.ours.start()
    assert pair.sweep() == []
    assert pair.pings("c1", "c2")
    pair.sleeper("c3", "blue")
    assert pair.pings("c3", "c1")
    assert len(pair.rows("guest_endpoints")) == 3
    pair.run("rm", "-f", "c1", "c2", "c3")
    pair.run("network", "rm", "blue")
    pair.nothing_left()


def test_a_call_waits_for_a_daemon_that_is_on_its_way_back(pair: Pair) -> None:
    pair.network("blue")
    pair.ours.kill()
    starting = subprocess.Popen(
        ["docker", "-H", f"unix://{pair.docker.socket}", "run", "--rm", "--network", "blue"]
        + ["busybox", "ip", "address", "show", "eth0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    pair.ours.start()
    said, _ = starting.communicate(timeout=patient(60))
    assert starting.returncode == 0
    assert "inet " in said
    pair.run("network", "rm", "blue")
    pair.nothing_left()


def test_containers_removed_while_we_are_away_leave_nothing(pair: Pair) -> None:
    pair.network("blue")
    pair.sleeper("c1", "blue")
    pair.sleeper("c2", "blue")
    pair.ours.kill()
    pair.run("rm", "-f", "c1")  # dockerd tries for half a minute to tell us, then forgets it
    pair.ours.start()
    pair.sweep()
    pair.sweep()
    assert len(pair.rows("guest_endpoints")) == 1
    assert pair.leases() == 2  # the gateway's, and c2's
    pair.sleeper("c3", "blue")
    assert pair.pings("c2", "c3")
    pair.run("rm", "-f", "c2", "c3")
    pair.run("network", "rm", "blue")
    pair.nothing_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_dockerd_goes_and_comes_back(pair: Pair, number: signal.Signals) -> None:
    pair.network("blue")
    pair.sleeper("stays", "blue", "--restart", "always")
    pair.sleeper("ends", "blue")
    pair.docker.end(number)
    pair.docker.again()
    pair.docker.wait()
    poll(lambda: pair.run("ps", "-q").stdout.count("\n") == 1, "the container is back")
    pair.sleeper("new", "blue")
    assert pair.pings("new", "stays")
    pair.run("start", "ends")
    assert pair.pings("ends", "new")
    pair.sweep()
    pair.sweep()
    assert len(pair.rows("guest_endpoints")) == 3
    assert pair.leases() == 4
    pair.run("rm", "-f", "stays", "ends", "new")
    pair.run("network", "rm", "blue")
    pair.nothing_left()


@pytest.mark.parametrize("first", ["dockerd", "ours"])
def test_both_are_killed(pair: Pair, first: str) -> None:
    pair.network("blue")
    pair.network("theirs", "-d", "cnm-bridge")
    pair.sleeper("c1", "blue", "--restart", "always")
    pair.sleeper("c2", "theirs")
    # who dies last is back first
    if first == "ours":
        pair.docker.end(signal.SIGKILL)
        pair.ours.kill()
        pair.ours.start()
        pair.docker.again()
    else:
        pair.ours.kill()
        pair.docker.end(signal.SIGKILL)
        pair.docker.again()
        pair.ours.start()
    pair.docker.wait()
    pair.run("start", "c2")
    poll(lambda: pair.run("ps", "-q").stdout.count("\n") == 2, "both containers are back")
    pair.sleeper("c3", "blue")
    assert pair.pings("c3", "c1")
    pair.run("network", "connect", "theirs", "c3")
    assert pair.pings("c3", pair.address("c2", "theirs"))
    pair.sweep()
    pair.sweep()
    assert len(pair.rows("guest_endpoints")) == 4
    pair.run("rm", "-f", "c1", "c2", "c3")
    pair.run("network", "rm", "blue", "theirs")
    pair.nothing_left()


def test_a_network_is_made_again_after_somebody_removed_its_bridge(pair: Pair) -> None:
    identity = pair.network("blue")
    pair.sleeper("c1", "blue")
    pair.sleeper("c2", "blue")
    run("ip", "-n", pair.ours.netns, "link", "delete", f"br-{identity[:12]}")
    assert not pair.pings("c1", pair.address("c2", "blue"))
    assert pair.sweep() != []
    assert pair.pings("c1", pair.address("c2", "blue"))


def test_uninstall_takes_the_engine_s_networks_too(pair: Pair) -> None:
    pair.network("blue")
    pair.sleeper("c1", "blue")
    pair.ours.stop()
    root, exec_root = str(pair.ours.root), str(pair.ours.exec_root)
    program = Path(pair.ours.command()[2])
    run(
        *("nsenter", f"--net=/run/netns/{pair.ours.netns}", str(program), "uninstall", "-f"),
        *("--root", root, "--exec-root", exec_root, "--config-file", str(pair.ours.config_file)),
    )
    assert pair.links() == {"lo", "docker0", "up0"}
    pair.ours.start()
    pair.run("rm", "-f", "c1")
    pair.run("network", "rm", "blue")  # we know nothing of it any more: that is success
    pair.nothing_left()


# W3: published ports


def fetch(pair: Pair, url: str, netns: str = "") -> bool:
    """Whether the web server answers somebody of a namespace; the host itself if none is named."""
    asked = f"import urllib.request as r; r.urlopen('http://{url}/sleep', timeout=3).read(1)"
    command = (sys.executable, "-c", asked)
    done = run("ip", "netns", "exec", netns or pair.ours.netns, *command, check=False)
    return not done.returncode


def web(pair: Pair, name: str, network: str, *flags: str) -> None:
    command = ("busybox", "/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/bin")
    pair.run("run", "-d", "--name", name, "--network", network, *flags, *command)
    serving(pair, name)


def serving(pair: Pair, name: str) -> None:
    """The server starts after its container."""
    listens = ("sh", "-c", "busybox netstat -ltn | busybox grep -q ':80 '")
    poll(lambda: not pair.inside(name, *listens, check=False).returncode, f"{name} listens")


def reached(pair: Pair, *containers: str) -> None:
    """Port 5005 from everywhere: outside, the host by all its names, containers."""
    assert fetch(pair, f"{HOST}:5005", pair.outside)
    for address in (HOST, "127.0.0.1", "[::1]"):
        assert fetch(pair, f"{address}:5005"), address
    for name in containers:
        asked = f"echo 'GET /sleep' | busybox timeout 5 busybox nc {HOST} 5005"
        assert "HTTP" in pair.inside(name, "sh", "-c", f"{asked} | busybox head -c 4").stdout


def test_published_ports(pair: Pair) -> None:
    pair.network("blue")
    web(pair, "web", "blue", "-p", "5005:80")
    pair.sleeper("neighbour", "blue")
    pair.sleeper("client", "bridge")  # on Docker's own network
    reached(pair, "client", "neighbour", "web")
    before = pair.links()
    taken = pair.run(
        *("run", "--rm", "--network", "blue", "-p", "5005:81", "busybox", "sleep", "1"), check=False
    )
    assert taken.returncode == 125
    assert "driver failed programming external connectivity on endpoint" in taken.stderr
    assert "Bind for 0.0.0.0:5005 failed: port is already allocated" in taken.stderr
    assert pair.links() == before
    pair.run("stop", "-t", "0", "web")
    assert not fetch(pair, f"{HOST}:5005", pair.outside)
    pair.run("start", "web")
    serving(pair, "web")
    reached(pair, "client", "neighbour", "web")
    pair.run("rm", "-f", "web", "neighbour", "client")
    assert not fetch(pair, f"{HOST}:5005", pair.outside)
    pair.run("network", "rm", "blue")
    pair.nothing_left()


def test_ports_on_one_address_in_ranges_and_twice(pair: Pair) -> None:
    pair.network("blue")
    web(pair, "web", "blue", "-p", "127.0.0.1:5006:80", "-p", "5010-5012:80", "-p", "5015:80/udp")
    web(pair, "more", "blue", "-p", "5010-5012:80")
    assert fetch(pair, "127.0.0.1:5006")
    assert not fetch(pair, f"{HOST}:5006", pair.outside)
    open_ports = [
        port for port in (5010, 5011, 5012) if fetch(pair, f"{HOST}:{port}", pair.outside)
    ]
    assert open_ports == [5010, 5011]
    pair.run("rm", "-f", "web", "more")
    pair.run("network", "rm", "blue")
    pair.nothing_left()


@pytest.mark.parametrize("side", ["ours", "dockerd", "both"])
def test_published_ports_survive_kills(pair: Pair, side: str) -> None:
    pair.network("blue")
    web(pair, "web", "blue", "-p", "5005:80", "--restart", "always")
    if side != "dockerd":
        pair.ours.kill()
        if side == "ours":
            assert fetch(pair, f"{HOST}:5005", pair.outside)
    if side != "ours":
        pair.docker.end(signal.SIGKILL)
        pair.docker.again()
    if side != "dockerd":
        pair.ours.start()
    if side != "ours":
        pair.docker.wait()
    poll(lambda: fetch(pair, f"{HOST}:5005", pair.outside), "the web server is back")
    reached(pair)
    pair.sweep()
    pair.sweep()
    assert len(pair.rows("guest_endpoints")) == 1
    pair.run("rm", "-f", "web")
    assert not fetch(pair, f"{HOST}:5005", pair.outside)
    web(pair, "web", "bridge", "-p", "5005:80")  # Docker's proxy finds the port free
    pair.run("rm", "-f", "web")
    pair.run("network", "rm", "blue")
    pair.nothing_left()
