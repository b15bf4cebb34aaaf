"""Our daemon uses a driver and an IPAM driver of somebody else, found where Docker's would be."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kernel.namespaces import Namespace, entered
from livedaemon import LiveDaemon, run
from peers.keys import make_keys, server_context
from peers.thirdparty import Document, ThirdParty

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(180)]

THIRD = "cnmt-third"
USES = ("-d", THIRD, "--ipam-driver", THIRD)
NOTHING: Document = {"networks": set(), "endpoints": set(), "joined": set(), "pools": {}}

# Where plugins are looked for is fixed: the daemon gets a /run of its own, with the named
# namespaces that there are and those that will be, and an /etc with one folder more.
_OWN_RUN = """
mkdir -p "$1/netns" "$1/plugins" "$1/specs" "$1/etc/docker/plugins"
mount -t overlay overlay -o "lowerdir=$1/etc:/etc" /etc
mount --bind "$1/specs" /etc/docker/plugins
mount --rbind /run/netns "$1/netns"
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/docker/plugins
mount --rbind "$1/netns" /run/netns
mount --bind "$1/plugins" /run/docker/plugins
shift
exec "$@"
"""


class PluginHost(LiveDaemon):
    """A daemon that finds plugins in a folder of the test's."""

    @property
    def plugins(self) -> Path:
        return self.folder / "plugins"

    @property
    def specs(self) -> Path:
        return self.folder / "specs"

    def command(self) -> list[str]:
        own_run = ["sh", "-ec", _OWN_RUN, "sh", str(self.folder)]
        return ["unshare", "--mount", "--propagation", "slave", *own_run, *super().command()]

    def links(self) -> set[str]:
        return {row["ifname"] for row in self.ip("link")}

    def endpoints(self) -> int:
        with closing(sqlite3.connect(f"file:{self.root}/cnm.db?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM endpoints").fetchone()[0])


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PluginHost]:
    with PluginHost(tmp_path_factory.mktemp("d"), ("--sweep-interval", "86400")) as live:
        yield live.start()


@pytest.fixture
def third(host: PluginHost) -> Iterator[ThirdParty]:
    """The plugin; afterwards it holds nothing, and nothing of it is on the host."""
    with ThirdParty(host.plugins, THIRD, host.netns) as plugin:
        yield plugin
    assert plugin.holds() == NOTHING
    assert host.links() == {"lo", "cnm0"}
    assert host.endpoints() == 0
    assert THIRD not in host.net("ls").stdout


@pytest.fixture
def box(host: PluginHost) -> Iterator[str]:
    """An adopted namespace, called ``box``."""
    netns = host.adopt("box")
    yield netns
    host.cnm("release", "box")
    assert [row["ifname"] for row in host.ip("link", netns=netns)] == ["lo"]


def test_a_whole_life(host: PluginHost, third: ThirdParty, box: str) -> None:
    peer = host.adopt("peer")
    host.net("create", *USES, "-o", "colour=blue", "theirs")
    assert third.calls == [
        *("Activate", "GetCapabilities", "GetCapabilities", "GetDefaultAddressSpaces"),
        *("RequestPool", "RequestAddress", "CreateNetwork"),
    ]
    (told,) = third.networks.values()
    assert told["Options"]["com.docker.network.generic"] == {"colour": "blue"}
    assert told["IPv4Data"][0]["Gateway"] == "10.88.0.1/24"
    third.calls.clear()
    host.net("connect", "theirs", "box")
    assert third.calls == ["RequestAddress", "CreateEndpoint", "Join"]
    host.net("connect", "theirs", "peer")
    (link,) = host.ip("address", "show", "dev", "third0", netns=box)
    assert link["address"].startswith("02:33:44:")
    assert link["addr_info"][0]["local"] == "10.88.0.2"
    assert {row["dst"] for row in host.ip("route", netns=box)} == {
        *("default", "10.88.0.0/24", "10.98.0.0/16")
    }
    host.inside(box, "ping", "-c1", "-W3", "10.88.0.3")
    host.inside(peer, "ping", "-c1", "-W3", "10.88.0.1")
    third.calls.clear()
    host.net("disconnect", "theirs", "box")
    assert third.calls == [
        *("RevokeExternalConnectivity", "Leave", "DeleteEndpoint", "ReleaseAddress")
    ]  # as dockerd, which had it publish nothing
    host.cnm("release", "peer")
    host.net("rm", "theirs")
    assert third.calls[-3:] == ["DeleteNetwork", "ReleaseAddress", "ReleasePool"]


def test_a_killed_daemon_finds_what_it_had(host: PluginHost, third: ThirdParty, box: str) -> None:
    host.net("create", *USES, "theirs")
    host.net("connect", "theirs", "box")
    host.kill()
    host.start()
    host.inside(box, "ping", "-c1", "-W3", "10.88.0.1")
    assert host.http("POST", "/cnm/v1/sweep").document["Repairs"] == []
    host.net("disconnect", "theirs", "box")
    host.net("rm", "theirs")


def test_a_plugin_that_is_restarted_is_waited_for(
    host: PluginHost, third: ThirdParty, box: str
) -> None:
    host.net("create", *USES, "theirs")
    third.die()
    back = threading.Timer(1.0, third.serve)
    back.start()
    host.net("connect", "theirs", "box")
    back.join()
    assert "Activate" not in third.calls[7:]
    host.net("disconnect", "theirs", "box")
    host.net("rm", "theirs")


def test_a_dead_plugin_costs_an_error_and_vetoes_no_removal(
    host: PluginHost, third: ThirdParty, box: str
) -> None:
    host.net("create", *USES, "theirs")
    host.net("connect", "theirs", "box")
    third.die()
    done = host.net("create", *USES, "more", check=False)
    assert done.returncode == 1
    assert f'plugin "{THIRD}"' in done.stderr
    assert "there is no such plugin any more" in done.stderr
    host.net("disconnect", "theirs", "box")
    host.net("rm", "theirs")
    assert "it is removed all the same" in host.log()
    third.serve()
    for identity in list(third.endpoints):  # what it was not told
        third.answer("NetworkDriver.Leave", {"EndpointID": identity})
        third.answer("NetworkDriver.DeleteEndpoint", {"EndpointID": identity})
    for identity in list(third.networks):
        third.answer("NetworkDriver.DeleteNetwork", {"NetworkID": identity})
    third.pools.clear()


def test_a_plugin_that_hangs(host: PluginHost, third: ThirdParty, box: str) -> None:
    host.net("create", *USES, "theirs")
    third.hangs = {"NetworkDriver.Join"}
    done = host.net("connect", "theirs", "box", check=False)
    assert done.returncode == 1
    assert "does not answer NetworkDriver.Join: no answer in 20 seconds" in done.stderr
    third.hangs = set()
    host.net("connect", "theirs", "box")  # it answers again
    host.net("disconnect", "theirs", "box")
    host.net("rm", "theirs")


NETWORK_LIES: list[tuple[str, object, str]] = [
    ("Plugin.Activate", {"Implements": ["VolumeDriver"]}, "does not implement"),
    ("NetworkDriver.GetCapabilities", {"Scope": "galaxy"}, "invalid capability"),
    ("NetworkDriver.CreateNetwork", {"Err": "no\nroom"}, "remote: no room"),
    ("NetworkDriver.CreateNetwork", (500, {"Err": "no"}), "NetworkDriver.CreateNetwork: no"),
    ("NetworkDriver.CreateNetwork", b"", "its answer is no JSON"),
    ("NetworkDriver.CreateNetwork", b"[1]", "its answer is no JSON object"),
    ("IpamDriver.GetDefaultAddressSpaces", {"LocalDefaultAddressSpace": 5}, "its answer: invalid"),
    ("IpamDriver.RequestPool", {"PoolID": "p", "Pool": "nonsense"}, "'nonsense' is no subnet"),
    ("IpamDriver.RequestPool", {"PoolID": "p", "Pool": "fd00::/64"}, "not what was asked for"),
    ("IpamDriver.RequestPool", {"PoolID": "p", "Pool": "127.0.0.0/8"}, "loopback addresses"),
    ("IpamDriver.RequestPool", {"PoolID": "p", "Pool": "172.17.0.0/24"}, "has no pool but"),
    ("IpamDriver.RequestPool", {"Error": "all taken"}, "remote: all taken"),
    ("IpamDriver.RequestAddress", {"Address": ""}, "no address returned"),
    ("IpamDriver.RequestAddress", {"Address": "10.1.1.1/24"}, "which is not in 10.88.0.0/24"),
]


@pytest.mark.parametrize(("method", "lie", "text"), NETWORK_LIES)
def test_lies_about_networks(
    host: PluginHost, third: ThirdParty, method: str, lie: object, text: str
) -> None:
    third.die()
    name = f"{THIRD}{NETWORK_LIES.index((method, lie, text))}"  # one that is not activated yet
    with ThirdParty(host.plugins, name, host.netns) as liar:
        liar.lies = {method: lie}
        done = host.net("create", "-d", name, "--ipam-driver", name, "theirs", check=False)
        assert done.returncode == 1
        assert text in done.stderr
        assert done.stderr.count("\n") == 1
        liar.lies.clear()
        if "RequestPool" in method:
            liar.pools.clear()  # it gave them under other names
        assert not any(liar.holds().values())


ENDPOINT_LIES: list[tuple[str, object, str]] = [
    (
        "CreateEndpoint",
        {"Interface": {"Address": "10.88.0.2/24"}},
        "driver modified interface address: endpoint interface IP present (10.88.0.2/24)",
    ),
    ("CreateEndpoint", {"Interface": {"MacAddress": "01:00:5e:00:00:01"}}, "invalid MacAddress"),
    ("Join", {"InterfaceName": {"SrcName": "nothere"}}, "No such device"),
    ("Join", {"InterfaceName": {"SrcName": "lo"}}, "link lo is in use on this host"),
    ("Join", {"InterfaceName": {"SrcName": "cnm0"}}, "link cnm0 is in use on this host"),
    ("Join", {"InterfaceName": {"SrcName": "../../x"}}, "invalid interface name"),
    ("Join", {"InterfaceName": {"SrcName": "x", "DstPrefix": "far-too-long-a"}}, "longer than 15"),
    ("Join", {"Gateway": "here"}, "invalid Gateway"),
    ("Join", {"Gateway": "fd00::1"}, "is not of IPv4"),
    ("Join", {"StaticRoutes": [{"Destination": "10.0.0.1/8"}]}, "is no subnet"),
    ("Join", {"StaticRoutes": "all"}, "its answer: invalid StaticRoutes"),
]


@pytest.mark.parametrize(("method", "lie", "text"), ENDPOINT_LIES)
def test_lies_about_endpoints(
    host: PluginHost, third: ThirdParty, box: str, method: str, lie: object, text: str
) -> None:
    host.net("create", *USES, "theirs")
    third.lies = {f"NetworkDriver.{method}": lie}
    done = host.net("connect", "theirs", "box", check=False)
    assert done.returncode == 1
    assert text in done.stderr
    third.lies.clear()
    assert not third.endpoints
    assert third.pools == {"here/10.88.0.0/24": {"10.88.0.1"}}
    assert host.endpoints() == 0
    host.net("rm", "theirs")


def test_an_address_that_is_given_twice(host: PluginHost, third: ThirdParty, box: str) -> None:
    host.adopt("second")
    host.net("create", *USES, "theirs")
    host.net("connect", "theirs", "second")
    third.lies = {"IpamDriver.RequestAddress": {"Address": "10.88.0.2/24"}}
    done = host.net("connect", "theirs", "box", check=False)
    assert "gave 10.88.0.2 twice: 10.88.0.2 belongs to container second" in done.stderr
    host.cnm("release", "second")
    third.lies.clear()
    host.net("rm", "theirs")


def test_a_driver_without_a_device(host: PluginHost, third: ThirdParty, box: str) -> None:
    host.net("create", *USES, "theirs")
    third.lies = {"NetworkDriver.Join": {"Gateway": "10.88.0.1"}}
    host.net("connect", "theirs", "box")
    assert [row["ifname"] for row in host.ip("link", netns=box)] == ["lo"]
    host.net("disconnect", "theirs", "box")
    host.net("rm", "theirs")


@pytest.mark.parametrize("name", ["nobody", "../x", "a/b", ".hidden", "x\ny", "n" * 129])
def test_names_that_no_plugin_has(host: PluginHost, name: str) -> None:
    """CVE-2021-20206: a name is no way to a file elsewhere."""
    answer = host.http("POST", "/networks/create", {"Name": "no", "Driver": name})
    assert (answer.status, answer.document) == (404, {"message": f'plugin "{name}" not found'})


def test_a_driver_of_ours_is_not_used_through_its_plugin(tmp_path: Path) -> None:
    flags = ("--sweep-interval", "86400", "--plugin-dir", "/run/docker/plugins")
    with PluginHost(tmp_path, flags) as host:
        host.start()
        done = host.net("create", "-d", "cnm-bridge", "again", check=False)
        assert "it is this daemon's own: name its driver without cnm-" in done.stderr


def test_one_that_is_reached_by_tls(
    host: PluginHost, box: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By a file in /etc/docker/plugins; it and we show each other certificates."""
    name, keys = "cnmt-secured", make_keys(tmp_path_factory.mktemp("keys"))
    run("ip", "-n", host.netns, "link", "set", "lo", "up")
    plugin = ThirdParty(host.plugins, name, host.netns)
    with entered(Namespace(host.netns)):
        port = plugin.serve_tls(server_context(keys, client=True))

    def trusting(authority: str) -> None:
        files = {"CAFile": authority, "CertFile": "client.pem", "KeyFile": "client.key"}
        trust = {field: str(keys / file) for field, file in files.items()}
        spec = {"Addr": f"https://localhost:{port}", "TLSConfig": trust}
        (host.specs / f"{name}.json").write_text(json.dumps(spec))

    create = ("create", "-d", name, "--ipam-driver", name, "secured")
    try:
        trusting("other.pem")
        refused = host.net(*create, check=False)
        assert refused.returncode == 1
        assert f'plugin "{name}" at tcp://localhost:{port} does not answer' in refused.stderr
        assert "TLS: certificate verify failed" in refused.stderr
        trusting("ca.pem")
        host.net(*create)
        host.net("connect", "secured", "box")
        assert len(plugin.joined) == 1
        host.net("disconnect", "secured", "box")
        host.net("rm", "secured")
        assert plugin.holds() == NOTHING
    finally:
        plugin.die()
        (host.specs / f"{name}.json").unlink()
    assert host.links() == {"lo", "cnm0"}
