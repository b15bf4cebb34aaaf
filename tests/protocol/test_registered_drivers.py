"""A driver becomes a plugin by being registered: another distribution's, with no word for it."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from livedaemon import LiveDaemon
from peers import engine, pinkdriver
from peers.engine import Engine

pytestmark = pytest.mark.kernel

ENTRY_POINTS = """\
[cnm.drivers]
pink = pinkdriver:create
[cnm.ipam_drivers]
pink = pinkdriver:create_ipam
"""


class WithPink(LiveDaemon):
    """A daemon beside which that distribution is installed."""

    def command(self) -> list[str]:
        return ["env", f"PYTHONPATH={self.folder / 'site'}", *super().command()]

    def install(self) -> None:
        """As pip leaves it behind."""
        site = self.folder / "site"
        about = site / "cnmt_pink-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: cnmt-pink\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(ENTRY_POINTS)
        shutil.copy(pinkdriver.__file__, site / "pinkdriver.py")


def test_a_life_on_a_registered_driver(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder: Path = tmp_path_factory.mktemp("d")  # short: paths of sockets are limited
    plugins = folder / "plugins"
    with WithPink(folder, ("--plugin-dir", str(plugins))) as live:
        live.install()
        live.start()
        network = Engine(plugins / "cnm-pink.sock", "NetworkDriver")
        ipam = Engine(plugins / "cnm-ipam-pink.sock", "IpamDriver")
        with closing(network), closing(ipam):
            life(live, network, ipam)
        assert {row["ifname"] for row in live.ip("link")} == {"lo", "cnm0"}


def life(live: LiveDaemon, network: Engine, ipam: Engine) -> None:
    assert network.call("Plugin.Activate") == {"Implements": ["NetworkDriver"]}
    capabilities = network.call("GetCapabilities")
    assert capabilities["GwAllocChecker"] is False
    spaces = ipam.call("GetDefaultAddressSpaces")
    assert spaces["LocalDefaultAddressSpace"] == "cnm-PinkLocal"
    pool = ipam.call("RequestPool", {"AddressSpace": "cnm-PinkLocal", "Pool": "", "SubPool": ""})
    assert pool["Pool"] == "10.91.0.0/24"
    wish = {"PoolID": pool["PoolID"], "Address": "", "Options": {}}
    address = ipam.call("RequestAddress", wish)["Address"]
    assert address == "10.91.0.1/24"
    network_id, endpoint_id = engine.identity(), engine.identity()
    wrong = {"com.docker.network.generic": {"colour": "blue"}}
    body = engine.create_network(network_id, pool["Pool"], more=wrong)
    assert network.say("CreateNetwork", body).document["Err"] == "only pink is pink"
    network.call("CreateNetwork", engine.create_network(network_id, pool["Pool"]))
    network.call("CreateEndpoint", engine.create_endpoint(network_id, endpoint_id, address))
    ids = {"NetworkID": network_id, "EndpointID": endpoint_id}
    assert network.call("EndpointOperInfo", ids) == {"Value": {"colour": "pink"}}
    joined = network.call("Join", {**ids, "SandboxKey": "/x", "Options": {}})
    assert joined["InterfaceName"] == {"SrcName": f"pink{endpoint_id[:7]}", "DstPrefix": "eth"}
    assert f"pink{endpoint_id[:7]}" in {row["ifname"] for row in live.ip("link")}
    ports = {"com.docker.network.portmap": [{"Proto": 6, "Port": 80, "HostPort": 8080}]}
    said = network.say("ProgramExternalConnectivity", {**ids, "Options": ports})
    assert said.status == 404  # to an engine: it has no such call
    network.call("Leave", ids)
    network.call("DeleteEndpoint", ids)
    network.call("DeleteNetwork", {"NetworkID": network_id})
    ipam.call("ReleaseAddress", {"PoolID": pool["PoolID"], "Address": "10.91.0.1"})
    ipam.call("ReleasePool", {"PoolID": pool["PoolID"]})
