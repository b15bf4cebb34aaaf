"""Hosts, routers, switches and links: made, mended, and gone without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kernel.namespaces import poll
from lab.remains import remains

from cnm.netlab.errors import HostCommandFailed, LabError
from cnm.netlab.lab import Lab

Netlab = Callable[..., Lab]

ROUTED = """\
hosts:
  left:
    links:
      - {to: sw1, addresses: [10.1.0.2/24, "fd01::2/64"], mtu: 1400, mac: "02:00:00:00:00:02"}
    routes: [{via: 10.1.0.1}, {via: "fd01::1"}]
    nameservers: [10.1.0.53]
    search: [lab.example]
    sysctls: {net.ipv4.conf.eth0.arp_announce: 2}
  right:
    links: [{to: r1, addresses: [10.2.0.2/24, "fd02::2/64"], name: wan,
             peer: {interface: lan, addresses: [10.2.0.1/24, "fd02::1/64"]}}]
    routes: [{to: 10.1.0.0/16, via: 10.2.0.1, metric: 7}, {to: "fd01::/64", via: "fd02::1"}]
routers:
  r1:
    links: [{to: sw2, addresses: [10.1.0.1/24, "fd01::1/64"]}]
switches:
  sw1: {links: [{to: sw2}]}
  sw2:
"""

PAIR = """\
hosts:
  one: {links: [{to: two, addresses: 10.0.0.1/24, peer: {addresses: 10.0.0.2/24}}]}
  two:
"""


def ip(netns: str, *arguments: str) -> Any:
    done = subprocess.run(
        ["ip", "-n", netns, "-j", "-d", *arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout or "[]")


def link(netns: str, name: str) -> Any:
    return ip(netns, "link", "show", "dev", name)[0]


def addresses(netns: str, name: str) -> set[str]:
    info = ip(netns, "address", "show", "dev", name)[0]["addr_info"]
    return {f"{each['local']}/{each['prefixlen']}" for each in info if each["scope"] == "global"}


def routes(netns: str) -> set[tuple[str, str, int | None]]:
    found = ip(netns, "-4", "route") + ip(netns, "-6", "route")
    return {
        (each["dst"], each["gateway"], each.get("metric")) for each in found if "gateway" in each
    }


def pings(lab: Lab, host: str, target: str, *options: str) -> bool:
    done = lab[host].run("ping", "-c", "2", "-i", "0.1", "-W", "2", *options, target, check=False)
    return done.returncode == 0


@pytest.fixture(scope="module")
def routed(netlab_module: Netlab) -> Lab:
    return netlab_module(ROUTED)


def test_links_addresses_and_routes_are_what_the_file_says(routed: Lab) -> None:
    left, right, router = (f"{routed.name}.{host}" for host in ("left", "right", "r1"))
    eth0 = link(left, "eth0")
    assert (eth0["mtu"], eth0["address"], eth0["operstate"]) == (1400, "02:00:00:00:00:02", "UP")
    assert addresses(left, "eth0") == {"10.1.0.2/24", "fd01::2/64"}
    assert addresses(right, "eth0") == {"10.2.0.2/24", "fd02::2/64"}
    assert addresses(router, "eth0") == {"10.1.0.1/24", "fd01::1/64"}
    assert addresses(router, "lan") == {"10.2.0.1/24", "fd02::1/64"}
    assert {route[:2] for route in routes(left)} == {
        ("default", "10.1.0.1"),
        ("default", "fd01::1"),
    }
    assert ("10.1.0.0/16", "10.2.0.1", 7) in routes(right)
    ports = ip(f"{routed.name}.switches", "link")
    masters = {each["ifname"]: each.get("master") for each in ports}
    assert masters["left.eth0"] == "sw1"
    assert masters["r1.eth0"] == "sw2"
    assert {masters["sw1.1"], masters["sw2.1"]} == {"sw1", "sw2"}


def test_packets_go_over_switches_and_the_router(routed: Lab) -> None:
    assert pings(routed, "left", "10.2.0.2")
    assert pings(routed, "left", "fd02::2")
    assert pings(routed, "right", "left")  # by /etc/hosts
    trace = routed["left"].run("ping", "-c", "1", "-t", "1", "-W", "2", "10.2.0.2", check=False)
    assert "10.1.0.1" in trace.stdout  # who says that the time is exceeded
    assert not pings(routed, "left", "10.2.0.2", "-M", "do", "-s", "1400")  # 28 bytes too many


def test_a_host_that_is_no_router_does_not_forward(routed: Lab) -> None:
    forwarding = "/proc/sys/net/ipv4/ip_forward"
    assert routed["left"].run("cat", forwarding).stdout == "0\n"
    assert routed["r1"].run("cat", forwarding).stdout == "1\n"


def test_a_host_is_a_machine_of_its_own(routed: Lab) -> None:
    left = routed["left"]
    assert left.run("hostname").stdout == "left\n"
    assert left.run("cat", "/etc/resolv.conf").stdout == (
        "nameserver 10.1.0.53\nsearch lab.example\n"
    )
    assert "10.2.0.2 right\n" in left.run("cat", "/etc/hosts").stdout
    assert left.run("cat", "/proc/sys/net/ipv4/conf/eth0/arp_announce").stdout == "2\n"
    for place in ("run", "etc", "var/lib", "var/lib/cnm", "var/log", "opt"):
        left.run("touch", f"/{place}/left-was-here")
        assert (left.root / place / "left-was-here").exists()
        assert not Path("/", place, "left-was-here").exists()
        assert not (routed["right"].root / place / "left-was-here").exists()
    processes = left.run("ps", "-e", "-o", "pid=,comm=").stdout.split()
    assert processes[:2] == ["1", "sleep"]
    assert len(processes) == 4  # and ps itself


def test_commands_on_a_host(routed: Lab) -> None:
    left = routed["left"]
    assert left.run("cat", input="what is typed").stdout == "what is typed"
    failed = left.run("sh", "-c", "echo no >&2; exit 3", check=False)
    assert (failed.returncode, failed.stderr) == (3, "no\n")
    with pytest.raises(HostCommandFailed, match="left: sh -c 'exit 3': exit status 3: no output"):
        left.run("sh", "-c", "exit 3")
    with pytest.raises(LabError, match="left: no-such-program: No such file or directory"):
        left.run("no-such-program")
    with pytest.raises(LabError, match=r"left: sleep 3600: not done after 0.1 s"):
        left.run("sleep", "3600", timeout_s=0.1)
    with pytest.raises(LabError, match=r'has no host "middle" \(it has: left, right, r1\)'):
        routed["middle"]


def test_up_twice_is_up_once(routed: Lab) -> None:
    pids = [host.pid for host in routed]
    indexes = [each["ifindex"] for each in ip(f"{routed.name}.switches", "link")]
    assert routed.up() == []
    assert [host.pid for host in routed] == pids
    assert [each["ifindex"] for each in ip(f"{routed.name}.switches", "link")] == indexes


def remove_link(lab: Lab) -> None:
    subprocess.run(["ip", "-n", f"{lab.name}.right", "link", "del", "eth0"], check=True)


def remove_address(lab: Lab) -> None:
    command = ["ip", "-n", f"{lab.name}.left", "address", "del", "10.1.0.2/24", "dev", "eth0"]
    subprocess.run(command, check=True)


def take_down(lab: Lab) -> None:
    subprocess.run(["ip", "-n", f"{lab.name}.switches", "link", "set", "sw2", "down"], check=True)
    subprocess.run(["ip", "-n", f"{lab.name}.left", "link", "set", "eth0", "down"], check=True)


def release_port(lab: Lab) -> None:
    command = ["ip", "-n", f"{lab.name}.switches", "link", "set", "left.eth0", "nomaster"]
    subprocess.run(command, check=True)


def remove_switch(lab: Lab) -> None:
    subprocess.run(["ip", "-n", f"{lab.name}.switches", "link", "del", "sw2"], check=True)


def remove_pin(lab: Lab) -> None:
    subprocess.run(["ip", "netns", "del", f"{lab.name}.left"], check=True)


def kill_host(lab: Lab) -> None:
    pid = lab["r1"].pid
    os.kill(pid, signal.SIGKILL)
    poll(lambda: not os.path.exists(f"/proc/{pid}"), "its end")


@pytest.mark.parametrize(
    ("break_it", "made"),
    [
        (remove_link, ["link wan"]),
        (remove_address, []),
        (take_down, []),
        (release_port, []),
        (remove_switch, ["switch sw2"]),
        (remove_pin, []),
        (kill_host, ["host r1", "link r1:eth0", "link wan"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_up_mends_what_is_missing(
    routed: Lab, break_it: Callable[[Lab], None], made: list[str]
) -> None:
    break_it(routed)
    assert sorted(routed.up()) == sorted(made)
    assert pings(routed, "left", "10.2.0.2")
    assert pings(routed, "right", "fd01::2")


def test_an_interface_of_somebody_else_is_left_alone(netlab: Netlab) -> None:
    lab = netlab(PAIR)
    one = f"{lab.name}.one"
    subprocess.run(["ip", "-n", one, "link", "del", "eth0"], check=True)
    subprocess.run(["ip", "-n", one, "link", "add", "eth0", "type", "bridge"], check=True)
    with pytest.raises(LabError, match='one has an interface "eth0" that is not the lab\'s'):
        lab.up()
    assert link(one, "eth0")["linkinfo"]["info_kind"] == "bridge"


def test_a_file_that_has_changed_is_refused_while_its_lab_is_up(netlab: Netlab) -> None:
    lab = netlab(PAIR)
    other = Lab.parse(PAIR.replace("10.0.0.2", "10.0.0.3"), Path("lab.yaml")).renamed(lab.name)
    with pytest.raises(LabError, match=f"take it down first: netlab down {lab.name}"):
        other.up()
    with_checks = f"{PAIR}checks: [{{ping: {{from: one, to: two}}}}]\n"
    assert Lab.parse(with_checks, Path("lab.yaml")).renamed(lab.name).up() == []


def test_down_leaves_nothing(netlab: Netlab) -> None:
    lab = netlab(ROUTED)
    background = lab["left"].popen("sleep", "81234.5")
    lab["r1"].run("sh", "-c", "setsid sleep 81234.5 >/dev/null 2>&1 &")
    found = remains(lab.name, "81234.5")
    for kind in ("netns", "mount", "process", "file"):
        assert any(item.startswith(kind) for item in found), found
    assert lab.down() is True
    assert remains(lab.name, "81234.5") == []
    assert background.wait(10) == -signal.SIGKILL
    assert lab.down() is False


def test_down_does_not_wait_for_those_who_do_not_wait_for_their_children(netlab: Netlab) -> None:
    lab = netlab(PAIR)
    abandoned = lab["one"].popen("sleep", "81234.6")
    subprocess.run([sys.executable, "-m", "cnm.netlab", "down", lab.name], check=True, timeout=20)
    assert [item for item in remains(lab.name) if "81234.6" not in item] == []
    assert abandoned.wait(10) == -signal.SIGKILL


def test_a_lab_whose_name_begins_like_anothers_is_not_touched(netlab: Netlab) -> None:
    lab = netlab(PAIR)
    foreign = f"{lab.name}.foreign"
    subprocess.run(["ip", "netns", "add", foreign], check=True)
    try:
        with Lab.parse(PAIR, Path("lab.yaml")).renamed(f"{lab.name}2") as other:
            assert pings(other, "one", "two")
        assert pings(lab, "one", "two")
        lab.down()
        assert remains(lab.name)[:1] == [f"netns {foreign}"]  # it carries no mark of the lab
    finally:
        subprocess.run(["ip", "netns", "del", foreign], check=True)
    assert remains(lab.name) == []


def test_labs_side_by_side_do_not_meet(netlab: Netlab) -> None:
    here, there = netlab(PAIR), netlab(PAIR)
    assert pings(here, "one", "10.0.0.2")
    there["two"].run("ip", "link", "set", "eth0", "down")
    assert pings(here, "one", "10.0.0.2")
    assert not pings(there, "one", "10.0.0.2")
    there.down()
    assert pings(here, "one", "10.0.0.2")


def test_a_ring_of_switches_does_not_drown(netlab: Netlab) -> None:
    lab = netlab("""\
hosts:
  one: {links: [{to: sw1, addresses: 10.0.0.1/24}]}
  two: {links: [{to: sw3, addresses: 10.0.0.2/24}]}
switches:
  sw1: {links: [{to: sw2}]}
  sw2: {links: [{to: sw3}]}
  sw3: {links: [{to: sw1}]}
""")
    # two times two seconds until 802.1D lets ports forward
    poll(lambda: pings(lab, "one", "10.0.0.2"), "the tree to let packets pass", 30)
    states = {port["ifname"]: port for port in ip(lab.netns, "link")}
    blocked = [
        name
        for name, port in states.items()
        if port.get("linkinfo", {}).get("info_slave_data", {}).get("state") == "blocking"
    ]
    assert len(blocked) == 1
