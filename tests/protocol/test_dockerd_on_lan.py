"""A real dockerd's containers on the LAN by our macvlan driver, a plugin.

Here the engine moves the links into its containers and back itself. Judged by the machine
outside, by frames on its wire, by ``ip`` and by a look into our database.
"""

from __future__ import annotations

import json
import signal

import pytest
from kernel.drivers.frames import captured, macs, tags
from kernel.drivers.lab import Place
from kernel.namespaces import Namespace
from livedaemon import run
from peers.pair import HOST, OUTSIDE, Pair, poll

from cnm.netlab.features import Features

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("dockerd"),
]

ON_LAN = (
    *("-d", "cnm-macvlan", "--ipam-driver", "cnm-ipam"),
    *("--subnet", "192.0.2.0/24", "--ip-range", "192.0.2.128/25", "--gateway", OUTSIDE),
)
PARENT = ("-o", "parent=up0")


def outside(pair: Pair) -> Place:
    return Place(Namespace(pair.outside))


def test_containers_are_stations_of_the_lan(pair: Pair) -> None:
    """W4 on a parent without VLAN, by Docker's own commands."""
    pair.network("lan", *ON_LAN, *PARENT)
    pair.sleeper("c1", "lan")
    pair.sleeper("c2", "lan")
    (document,) = json.loads(pair.run("network", "inspect", "lan").stdout)
    assert document["IPAM"]["Config"] == [
        {"Subnet": "192.0.2.0/24", "IPRange": "192.0.2.128/25", "Gateway": OUTSIDE}
    ]
    assert document["Options"] == {"parent": "up0"}
    first = pair.address("c1", "lan")
    assert first == "192.0.2.128"
    member = next(item for item in document["Containers"].values() if item["Name"] == "c1")
    assert member["MacAddress"] == "02:42:c0:00:02:80"
    with captured(outside(pair), "eth0", "icmp[0] == 8") as frames:
        assert pair.pings("c1", OUTSIDE)
        assert pair.pings("c1", "c2")  # neighbours do not need the wire
    assert {source for source, _ in macs(frames)} == {member["MacAddress"]}
    assert tags(frames) == {0}
    assert outside(pair).pings(first)
    assert f"default via {OUTSIDE} dev eth0" in pair.inside("c1", "ip", "route").stdout
    assert pair.links() == {"lo", "docker0", "cnm0", "up0"}  # all of it is in the containers
    assert pair.sweep() == []
    pair.run("restart", "-t", "0", "c1")
    assert outside(pair).pings(pair.address("c1", "lan"))
    pair.run("rm", "-f", "c1", "c2")
    pair.run("network", "rm", "lan")
    pair.nothing_left()


def test_connect_and_disconnect(pair: Pair) -> None:
    """The engine brings the link back before it gives it up."""
    pair.network("lan", *ON_LAN, *PARENT)
    pair.sleeper("c1", "bridge")
    for _ in range(2):
        pair.run("network", "connect", "--ip", "192.0.2.200", "lan", "c1")
        assert outside(pair).pings("192.0.2.200")
        pair.run("network", "disconnect", "lan", "c1")
        assert not outside(pair).pings("192.0.2.200")
        assert pair.links() - {"lo", "docker0", "cnm0", "up0"} == {
            row["ifname"] for row in pair.ours.ip("link") if row.get("master") == "docker0"
        }
    pair.run("rm", "-f", "c1")
    pair.run("network", "rm", "lan")
    pair.nothing_left()


def test_two_networks_on_one_parent_and_an_isolated_one(pair: Pair) -> None:
    pair.network("lan", *ON_LAN, *PARENT)
    other = ("-d", "cnm-macvlan", "--ipam-driver", "cnm-ipam", "--subnet", "10.63.0.0/24")
    pair.network("beside", *other, *PARENT)
    identity = pair.network("alone", "-d", "cnm-macvlan", "--ipam-driver", "cnm-ipam")
    assert pair.ours.ip("link", "show", "dev", f"dm-{identity[:12]}")
    pair.sleeper("c1", "alone")
    pair.sleeper("c2", "alone")
    pair.sleeper("c3", "beside")
    assert pair.pings("c1", "c2")
    assert not pair.pings("c1", OUTSIDE)
    assert not pair.pings("c3", pair.address("c1", "alone"))
    pair.run("rm", "-f", "c1", "c2", "c3")
    pair.run("network", "rm", "lan", "beside", "alone")
    pair.nothing_left()


def test_the_host_reaches_the_engines_containers(pair: Pair) -> None:
    """Which Docker's own macvlan driver does not offer."""
    pair.network("lan", *ON_LAN, *PARENT, "-o", "host_access=true")
    pair.sleeper("c1", "lan")
    host = Place(Namespace(pair.ours.netns))
    address = pair.address("c1", "lan")
    assert host.pings(address)
    assert pair.pings("c1", HOST)
    assert outside(pair).pings(HOST)
    pair.sweep()
    assert host.pings(address)
    pair.run("rm", "-f", "c1")
    pair.run("network", "rm", "lan")
    pair.nothing_left()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("-o", "parent=up0", "-o", "macvlan_mode=fast"), "requested macvlan mode 'fast' is not"),
        (("-o", "parent=eth7.5"), "-o parent interface was not found on the host: eth7"),
        (("-o", "parent=up0.4095"), "vlan id must be between 1-4094, received: 4095"),
        (
            ("-o", "parent=up0", "-o", "macvlan_mode=passthru"),
            "cannot use mode passthru, macvlan network {lan} is already using parent interface up0",
        ),
    ],
)
def test_what_we_refuse_the_user_reads(options: tuple[str, ...], told: str, pair: Pair) -> None:
    identity = pair.network("lan", *ON_LAN, *PARENT)
    wish = ("-d", "cnm-macvlan", "--ipam-driver", "cnm-ipam", "--subnet", "10.63.0.0/24")
    done = pair.run("network", "create", *wish, *options, "bad", check=False)
    assert done.returncode == 1
    assert told.format(lan=identity[:12]) in done.stderr  # engines do not tell plugins names
    assert len(done.stderr.strip().splitlines()) == 1
    pair.run("network", "rm", "lan")
    pair.nothing_left()


def test_a_kernel_without_ipvlan_is_told(pair: Pair) -> None:
    wish = ("-d", "cnm-ipvlan", "--ipam-driver", "cnm-ipam", *PARENT, "lan")
    done = pair.run("network", "create", *wish, check=False)
    if Features().has("ipvlan"):
        assert done.returncode == 0
        pair.run("network", "rm", "lan")
    else:
        assert "this kernel has no ipvlan (module ipvlan)" in done.stderr
    pair.nothing_left()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_our_daemon_goes_and_comes_back(end: str, pair: Pair) -> None:
    pair.network("lan", *ON_LAN, *PARENT)
    pair.sleeper("c1", "lan")
    address = pair.address("c1", "lan")
    getattr(pair.ours, end)()
    assert outside(pair).pings(address)  # traffic does not need us
    pair.ours.start()
    assert pair.sweep() == []
    assert outside(pair).pings(address)
    pair.sleeper("c2", "lan")
    assert pair.pings("c1", "c2")
    assert len(pair.rows("guest_endpoints")) == 2
    pair.run("rm", "-f", "c1", "c2")
    pair.run("network", "rm", "lan")
    pair.nothing_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_dockerd_goes_and_comes_back(number: signal.Signals, pair: Pair) -> None:
    """With it go the containers and, inside, their links: nobody tells us if it was killed."""
    pair.network("lan", *ON_LAN, *PARENT)
    pair.sleeper("stays", "lan", "--restart", "always")
    pair.sleeper("ends", "lan")
    pair.docker.end(number)
    pair.docker.again()
    pair.docker.wait()
    poll(lambda: pair.run("ps", "-q").stdout.count("\n") == 1, "the container is back")
    assert outside(pair).pings(pair.address("stays", "lan"))
    pair.run("start", "ends")
    assert pair.pings("ends", "stays")
    pair.sweep()
    pair.sweep()
    assert len(pair.rows("guest_endpoints")) == 2
    pair.run("rm", "-f", "stays", "ends")
    pair.run("network", "rm", "lan")
    pair.nothing_left()


def test_the_parent_goes_and_comes_back(pair: Pair) -> None:
    """The kernel takes the containers' links along; the engine's next start makes new ones."""
    pair.network("lan", *ON_LAN, *PARENT)
    pair.sleeper("c1", "lan")
    run("ip", "-n", pair.ours.netns, "link", "delete", "up0")
    pair.wire()
    pair.run("restart", "-t", "0", "c1")
    assert outside(pair).pings(pair.address("c1", "lan"))
    pair.run("rm", "-f", "c1")
    pair.run("network", "rm", "lan")
    pair.nothing_left()
