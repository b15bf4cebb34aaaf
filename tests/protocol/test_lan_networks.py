"""macvlan and ipvlan as their users see them: commands, documents, daemons that come and go."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from kernel.drivers.frames import captured, macs, tags
from kernel.drivers.lab import Place
from kernel.namespaces import Namespace
from livedaemon import LiveDaemon, run

from cnm.netlab.features import Features

pytestmark = pytest.mark.kernel

Make = Callable[..., LiveDaemon]

CREATE = ("create", "-d", "macvlan", "--subnet=10.7.0.0/24", "--ip-range=10.7.0.128/25")


class Lan:
    """A daemon on a host whose ``lan0`` leads to a peer at 10.7.0.9."""

    def __init__(self, daemon: LiveDaemon) -> None:
        self.daemon = daemon
        self.peer = daemon.namespace("peer")
        self.plug()

    def plug(self) -> None:
        """Have the wire, new."""
        host = ("ip", "-n", self.daemon.netns)
        peer = ("ip", "-n", self.peer)
        run(
            *host, "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", self.peer
        )
        run(*host, "link", "set", "lan0", "up")
        run(*host, "address", "add", "10.7.0.1/24", "dev", "lan0")
        run(*peer, "link", "set", "eth0", "up")
        run(*peer, "address", "add", "10.7.0.9/24", "dev", "eth0")

    def inspect(self, name: str) -> Any:
        """The document of a network."""
        return json.loads(self.daemon.net("inspect", name).stdout)[0]

    def pings(self, namespace: str, target: str) -> bool:
        """Whether one of three echo requests is answered."""
        command = ("ping", "-n", "-q", "-c", "3", "-i", "0.05", "-W", "1", target)
        return self.daemon.inside(namespace, *command, check=False).returncode == 0

    def sweep(self) -> list[str]:
        """What the daemon repaired just now."""
        rows = self.daemon.http("POST", "/cnm/v1/sweep").document["Repairs"]
        return [f"{row['Kind']} {row['Name']}: {row['Action']}" for row in rows]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """The daemon is told by the kernel, and puts right what it can."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"still waiting for {what}"
        time.sleep(0.05)


@pytest.fixture
def lan(daemon: Make) -> Lan:
    return Lan(daemon("--sweep-interval", "86400"))


def test_a_container_is_a_station_of_the_lan(lan: Lan) -> None:
    """W4, on a parent without VLAN: address of the range, MAC of its own, gateway as asked for."""
    net = lan.daemon.net
    net(
        *CREATE,
        "--gateway=10.7.0.254",
        "--aux-address",
        "nas=10.7.0.128",
        "-o",
        "parent=lan0",
        "lan",
    )
    box = lan.daemon.adopt("mactainer1")
    net("connect", "lan", "mactainer1")
    document = lan.inspect("lan")
    assert document["IPAM"]["Config"] == [
        {
            "Subnet": "10.7.0.0/24",
            "IPRange": "10.7.0.128/25",
            "Gateway": "10.7.0.254",
            "AuxiliaryAddresses": {"nas": "10.7.0.128"},
        }
    ]
    assert document["Options"] == {"parent": "lan0"}
    assert (document["Driver"], document["Scope"]) == ("macvlan", "local")
    (member,) = document["Containers"].values()
    assert member["IPv4Address"] == "10.7.0.129/24"
    assert member["MacAddress"] == "02:42:0a:07:00:81"
    assert lan.pings(lan.peer, "10.7.0.129")
    assert lan.pings(box, "10.7.0.9")
    (route,) = lan.daemon.ip("route", "show", "default", netns=box)
    assert (route["gateway"], route["dev"]) == ("10.7.0.254", "eth0")


def test_there_is_no_ipv6_unless_asked_for(lan: Lan) -> None:
    """CVE-2024-32473: the LAN's router would number the container."""
    lan.daemon.net(*CREATE, "-o", "parent=lan0", "lan")
    lan.daemon.net("create", "-d", "macvlan", "--ipv6", "--subnet=fd07::/64", "six")
    box = lan.daemon.adopt("box")
    lan.daemon.net("connect", "lan", "box")
    lan.daemon.net("connect", "six", "box")

    def setting(interface: str, name: str) -> str:
        path = f"/proc/sys/net/ipv6/conf/{interface}/{name}"
        return lan.daemon.inside(box, "cat", path).stdout.strip()

    assert (setting("eth0", "disable_ipv6"), setting("eth0", "accept_ra")) == ("1", "0")
    assert (setting("eth1", "disable_ipv6"), setting("eth1", "accept_ra")) == ("0", "0")
    assert lan.daemon.ip("-6", "address", "show", "dev", "eth0", netns=box) == []
    assert lan.daemon.ip("-4", "route", "show", "default", netns=box) == []


def test_it_lives_on_without_the_daemon_and_is_known_again(lan: Lan) -> None:
    lan.daemon.net(*CREATE, "-o", "parent=lan0", "-o", "host_access=true", "lan")
    box = lan.daemon.adopt("box")
    lan.daemon.net("connect", "lan", "box")
    address = lan.inspect("lan")["Containers"].popitem()[1]["IPv4Address"].split("/")[0]
    assert lan.pings(lan.daemon.netns, address)
    lan.daemon.kill()
    assert lan.pings(lan.daemon.netns, address)
    assert lan.pings(lan.peer, address)
    lan.daemon.start()
    assert lan.sweep() == []
    assert "repaired" not in lan.daemon.log()
    lan.daemon.net("disconnect", "lan", "box")
    assert [item["ifname"] for item in lan.daemon.ip("link", "show", netns=box)] == ["lo"]
    lan.daemon.net("rm", "lan")
    names = {item["ifname"] for item in lan.daemon.ip("link", "show")}
    assert names == {"lo", "cnm0", "lan0"}
    assert lan.pings(lan.daemon.netns, "10.7.0.9")


def test_the_parent_goes_and_comes_back(lan: Lan) -> None:
    """A card that is pulled, a driver that is loaded again: the network is put back."""
    lan.daemon.net(*CREATE, "--gateway=10.7.0.254", "-o", "parent=lan0", "lan")
    box = lan.daemon.adopt("box")
    lan.daemon.net("connect", "lan", "box")
    run("ip", "-n", lan.daemon.netns, "link", "delete", "lan0")
    assert lan.sweep() == []
    assert "network lan waits for its parent: there is no interface lan0" in lan.daemon.log()
    doctor = lan.daemon.net("doctor", check=False).stdout
    assert "macvlan: parent lan0" in doctor
    assert "is gone: lan wait for it" in doctor
    done = lan.daemon.net("disconnect", "lan", "box", check=False)
    assert done.returncode == 0, done.stderr
    done = lan.daemon.net("connect", "lan", "box", check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "Error response from daemon: the requested parent interface lan0 was not found on the "
        "Docker host\n"
    )
    lan.plug()
    lan.daemon.net("connect", "lan", "box")
    run("ip", "-n", lan.daemon.netns, "link", "delete", "lan0")
    lan.plug()
    wait_for(lambda: lan.pings(lan.peer, "10.7.0.128"), "the container on its LAN")
    assert lan.sweep() == []
    assert lan.pings(lan.peer, "10.7.0.128")
    (route,) = lan.daemon.ip("route", "show", "default", netns=box)
    assert (route["gateway"], route["dev"]) == ("10.7.0.254", "eth0")


@pytest.mark.parametrize(
    "parent",
    [
        pytest.param("dm", id="isolated"),
        # eight commands and a daemon: half a minute there
        pytest.param("lan0.100", id="VLAN", marks=[pytest.mark.needs("vlan"), pytest.mark.slow]),
    ],
)
def test_a_parent_of_ours_is_deleted_by_hand(parent: str, lan: Lan) -> None:
    """At once, with no sweep: it is made again, and its containers are on it."""
    create = ("create", "-d", "macvlan", "--subnet=10.17.0.0/24", "--ip-range=10.17.0.128/25")
    options = () if parent == "dm" else ("-o", f"parent={parent}")
    identity = lan.daemon.net(*create, *options, "lan").stdout.strip()
    name = f"dm-{identity[:12]}" if parent == "dm" else parent
    boxes = [lan.daemon.adopt(box) for box in ("one", "two")]
    for box in ("one", "two"):
        lan.daemon.net("connect", "lan", box)
    assert lan.pings(boxes[0], "10.17.0.129")
    run("ip", "-n", lan.daemon.netns, "link", "delete", name)
    wait_for(lambda: lan.pings(boxes[0], "10.17.0.129"), "the container")
    wait_for(lambda: f"link {name}: created again" in lan.daemon.log(), "the log line")
    assert lan.sweep() == []
    for box in ("one", "two"):
        lan.daemon.net("disconnect", "lan", box)
    lan.daemon.net("rm", "lan")
    assert name not in {item["ifname"] for item in lan.daemon.ip("link", "show")}


def test_a_parent_that_goes_is_told_at_once(lan: Lan) -> None:
    lan.daemon.net(*CREATE, "-o", "parent=lan0", "lan")
    run("ip", "-n", lan.daemon.netns, "link", "delete", "lan0")
    said = "network lan waits for its parent: there is no interface lan0"
    wait_for(lambda: said in lan.daemon.log(), "the log line")


def test_a_bridge_network_beside_it(lan: Lan) -> None:
    """Two interfaces; the way out is the one that has a gateway."""
    lan.daemon.net(*CREATE, "-o", "parent=lan0", "lan")
    lan.daemon.net("create", "inner")
    box = lan.daemon.adopt("box")
    lan.daemon.net("connect", "lan", "box")
    lan.daemon.net("connect", "inner", "box")
    (route,) = lan.daemon.ip("route", "show", "default", netns=box)
    assert route["dev"] == "eth1"
    assert lan.pings(box, "10.7.0.9")


HAS = Features().has


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-d", "macvlan", "-o", "parent=lo"), "loopback interface is not a valid macvlan parent"),
        (
            ("-d", "macvlan", "-o", "parent=lan0.5000"),
            "vlan id must be between 1-4094, received: 5000",
        ),
        (
            ("-d", "macvlan", "-o", "parent=cnm0"),
            "interface cnm0 belongs to network ",
        ),
        (
            ("-d", "macvlan", "-o", "parnt=lan0"),
            "unknown option parnt for driver macvlan: did you mean parent?",
        ),
        (
            ("-d", "macvlan", "-o", "parent=lan0.00100"),
            "unable to parse a valid vlan id from: 00100 (ex. eth0.10 for vlan 10)",
        ),
        (("-d", "macvlan", "-o", "parent=lan0.4095"), "vlan id must be between 1-4094"),
        (
            ("-d", "ipvlan", "-o", "parent=lan0."),
            "invalid subinterface vlan name lan0., example formatting is eth0.10"
            if HAS("ipvlan")
            else "this kernel has no ipvlan (module ipvlan)",
        ),
        (("-d", "macvlan", "-o", "parent=lan0.0"), "vlan id must be between 1-4094, received: 0"),
        (
            ("-d", "macvlan", "-o", "parent=.100"),
            "invalid subinterface vlan name .100, example formatting is eth0.10",
        ),
        (
            ("-d", "macvlan", "-o", "parent=a-long-parent.100"),
            'invalid interface name "a-long-parent.100" for parent: longer than 15 characters',
        ),
        (
            ("-d", "macvlan", "-o", "parent=lan0", "--aux-address", "nas=10.9.0.1")
            + ("--gateway", "10.9.0.1"),
            "Address already in use",
        ),
        (
            ("-d", "macvlan", "-o", "parent=eth7.5"),
            "-o parent interface was not found on the host: eth7",
        ),
        (
            ("-d", "macvlan", "-o", "parent=lan0", "-o", "macvlan_mode=fast"),
            "requested macvlan mode 'fast' is not valid, 'bridge' mode is the macvlan driver",
        ),
        (
            ("-d", "macvlan", "-o", "parent=lan0", "-o", "host_access=true"),
            "host_access needs an address of the host in 10.9.0.0/24: give lan0 one",
        ),
    ]
    + ([] if HAS("ipvlan") else [(("-d", "ipvlan"), "this kernel has no ipvlan (module ipvlan)")])
    + (
        []
        if HAS("vlan")
        else [
            (
                ("-d", "macvlan", "-o", "parent=lan0.100"),
                "failed to create lan0.100 vlan link: this kernel has no 802.1Q VLANs",
            )
        ]
    ),
)
def test_refusals_are_one_line_and_leave_nothing(
    arguments: tuple[str, ...], told: str, lan: Lan
) -> None:
    links = lan.daemon.ip("link", "show")
    done = lan.daemon.net("create", "--subnet=10.9.0.0/24", *arguments, "bad", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error response from daemon: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert lan.daemon.ip("link", "show") == links
    assert lan.daemon.net("ls", "-q", "--filter", "name=bad").stdout == ""
    lan.daemon.net("create", "--subnet=10.9.0.0/24", "good")  # the subnet is free again


def test_addresses_that_a_container_cannot_have(lan: Lan) -> None:
    """W4 gone wrong, one mistake after another; then it is put on the LAN, and seen there."""
    net = lan.daemon.net
    net(
        *CREATE, "--gateway=10.7.0.254", "--aux-address", "nas=10.7.0.200", "-o", "parent=lan0", "w"
    )
    lan.daemon.adopt("first")
    net("connect", "--ip", "10.7.0.130", "w", "first")
    box = lan.daemon.adopt("box")
    (peer,) = [item["address"] for item in lan.daemon.ip("link", "show", "eth0", netns=lan.peer)]
    taken = "Address already in use: 10.7.0"
    for address, told in {
        "10.7.0.254": f"{taken}.254 is the gateway of network w",
        "10.7.0.200": f"{taken}.200 is auxiliary address nas of network w",
        "10.7.0.130": f"{taken}.130 belongs to container first",
        "10.7.0.9": f"{taken}.9 belongs to {peer} on lan0",
        "10.7.0.1": f"{taken}.1 belongs to",  # the host itself
        "10.7.0.255": "address 10.7.0.255 is the broadcast address of 10.7.0.0/24",
        "10.8.0.1": "no configured subnet or ip-range contain the IP address 10.8.0.1",
    }.items():
        done = net("connect", "--ip", address, "w", "box", check=False)
        assert (done.returncode, told in done.stderr) == (1, True), done.stderr
        assert [item["ifname"] for item in lan.daemon.ip("link", "show", netns=box)] == ["lo"]
    with captured(Place(Namespace(lan.peer)), "eth0", "icmp[0] == 8") as frames:
        net("connect", "w", "box")
        assert lan.pings(box, "10.7.0.9")
    assert macs(frames) == {("02:42:0a:07:00:80", peer)}
    assert tags(frames) == {0}


@pytest.mark.parametrize("mode", ["passthru", "bridge"])
def test_networks_that_cannot_share_a_parent(mode: str, lan: Lan) -> None:
    other = "bridge" if mode == "passthru" else "passthru"
    first = ("-d", "macvlan", "-o", "parent=lan0", "-o", f"macvlan_mode={mode}", "first")
    lan.daemon.net("create", *first)
    second = ("-d", "macvlan", "-o", "parent=lan0", "-o", f"macvlan_mode={other}", "second")
    done = lan.daemon.net("create", *second, check=False)
    assert done.returncode == 1
    assert "macvlan network first is already using parent interface lan0" in done.stderr
    assert lan.daemon.net("ls", "-q", "--filter", "name=second").stdout == ""
    lan.daemon.net("rm", "first")
    lan.daemon.net("create", *second)


def test_the_kernels_gaps_are_shown(lan: Lan) -> None:
    told = lan.daemon.net("doctor", check=False).stdout
    assert "macvlan: macvlan" in told
    assert "macvlan: 802.1Q sub-interfaces" in told
    assert "ipvlan: ipvlan" in told


def test_a_parent_is_not_for_two_drivers(lan: Lan) -> None:
    lan.daemon.net(*CREATE, "-o", "parent=lan0", "lan")
    done = lan.daemon.net("create", "-d", "ipvlan", "-o", "parent=lan0", "other", check=False)
    assert "network lan is already using parent interface lan0" in done.stderr
    lan.daemon.restart()
    done = lan.daemon.net("create", "-d", "ipvlan", "-o", "parent=lan0", "other", check=False)
    assert "network lan is already using parent interface lan0" in done.stderr
    lan.daemon.net("rm", "lan")
