"""A real dockerd's containers by our ipvlan driver and on VLANs, on the second kernel.

One test: dockerd takes half a minute to start there. What macvlan has of it runs on this kernel,
in ``test_dockerd_on_lan.py``.
"""

from __future__ import annotations

import json

import pytest
from kernel.drivers.frames import captured, macs, tags
from kernel.drivers.lab import Place
from kernel.namespaces import Namespace
from livedaemon import run
from patience import patient
from peers.pair import OUTSIDE, Pair

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.needs("ipvlan", "vlan"),
    pytest.mark.timeout(patient(300)),
    pytest.mark.xdist_group("dockerd"),
]

IPVLAN = ("-d", "cnm-ipvlan", "--ipam-driver", "cnm-ipam")
ON_LAN = ("--subnet", "192.0.2.0/24", "--ip-range", "192.0.2.128/25", "--gateway", OUTSIDE)
TRUNK_HOST = "10.64.0.9"


def mac_of(pair: Pair, link: str) -> str:
    (row,) = pair.ours.ip("link", "show", "dev", link)
    return str(row["address"])


def test_containers_on_ipvlan_and_on_vlans(pair: Pair) -> None:
    outside = Place(Namespace(pair.outside))
    run(
        *("ip", "-n", pair.outside, "link", "add", "eth0.100", "link", "eth0"),
        *("type", "vlan", "id", "100"),
    )
    run("ip", "-n", pair.outside, "address", "add", f"{TRUNK_HOST}/24", "dev", "eth0.100")
    run("ip", "-n", pair.outside, "link", "set", "eth0.100", "up")

    pair.network("lan", *IPVLAN, *ON_LAN, "-o", "parent=up0")
    trunk = ("--subnet", "10.64.0.0/24", "-o", "parent=up0.100", "-o", "ipvlan_mode=l2")
    pair.network("trunk", *IPVLAN, *trunk)
    refused = pair.run("network", "create", *IPVLAN, "-o", "parent=up0", "more", check=False)
    assert refused.returncode == 1
    assert "is already using parent interface up0" in refused.stderr
    pair.sleeper("c1", "lan")
    pair.sleeper("c2", "lan")
    pair.sleeper("c3", "trunk")

    (document,) = json.loads(pair.run("network", "inspect", "lan").stdout)
    assert document["Options"] == {"parent": "up0"}
    assert pair.address("c1", "lan") == "192.0.2.128"
    with captured(outside, "eth0", "icmp[0] == 8 or (vlan and icmp[0] == 8)") as frames:
        assert pair.pings("c1", OUTSIDE)
        assert pair.pings("c3", TRUNK_HOST)
    assert {source for source, _ in macs(frames)} == {mac_of(pair, "up0")}
    assert tags(frames) == {0, 100}
    assert pair.pings("c1", pair.address("c2", "lan"))
    assert outside.pings(pair.address("c2", "lan"))
    assert not pair.pings("c3", pair.address("c1", "lan"))

    address = pair.address("c1", "lan")
    pair.ours.kill()
    assert outside.pings(address)
    pair.ours.start()
    assert pair.sweep() == []
    pair.run("restart", "-t", "0", "c1")
    assert outside.pings(pair.address("c1", "lan"))
    pair.run("rm", "-f", "c1", "c2", "c3")
    pair.run("network", "rm", "lan", "trunk")
    pair.nothing_left()
