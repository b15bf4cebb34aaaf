"""The plugin sockets by the protocol's letter: recorded requests of old and new engines."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import DaemonFactory
from livedaemon import LiveDaemon
from peers import engine
from peers.engine import Engine, Said

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

TABLES = ("guest_networks", "guest_endpoints", "guest_pools")


class Served:
    """A daemon that serves plugins, and an engine's connections to it."""

    def __init__(self, live: LiveDaemon, folder: Path) -> None:
        self.live = live
        self.folder = folder
        self.network = Engine(folder / "cnm-bridge.sock", "NetworkDriver")
        self.ipam = Engine(folder / "cnm-ipam.sock", "IpamDriver")

    def close(self) -> None:
        self.network.close()
        self.ipam.close()

    def links(self) -> set[str]:
        return {row["ifname"] for row in self.live.ip("link")}

    def rows(self, *tables: str) -> int:
        with closing(sqlite3.connect(f"file:{self.live.root}/cnm.db?mode=ro", uri=True)) as db:
            return sum(
                int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
                for table in tables or TABLES
            )

    def sweep(self) -> list[str]:
        answer = self.live.http("POST", "/cnm/v1/sweep").document
        return [f"{row['Kind']} {row['Name']}: {row['Action']}" for row in answer["Repairs"]]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("p")
    flags = ("--sweep-interval", "86400", "--plugin-dir", str(folder))
    with LiveDaemon(tmp_path_factory.mktemp("d"), flags) as live:
        with closing(Served(live.start(), folder)) as served:
            yield served


@pytest.fixture
def served(serving: Served) -> Iterator[Served]:
    """It ends with nothing of an engine's."""
    yield serving
    assert serving.rows() == 0
    assert serving.links() == {"lo", "cnm0"}
    assert serving.sweep() == []


def network(served: Served, pool: str = "10.70.0.0/24", gateway: str = "10.70.0.1/24") -> str:
    identity = engine.identity()
    served.network.call("CreateNetwork", engine.create_network(identity, pool, gateway))
    return identity


# what is there


def test_sockets_of_each_driver_for_root_alone(served: Served) -> None:
    found = {path.name: path for path in served.folder.iterdir()}
    drivers = {f"cnm-{name}.sock" for name in ("bridge", "macvlan", "ipvlan")}
    assert found.keys() == {*drivers, "cnm-ipam.sock"}
    for path in found.values():
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "host", ["", "/run/docker/plugins/cnm-bridge.sock", "plugin.moby.localhost"]
)
def test_handshake_whatever_the_host_header(served: Served, host: str) -> None:
    old = Engine(served.folder / "cnm-bridge.sock", "NetworkDriver", host)
    assert old.call("Plugin.Activate") == {"Implements": ["NetworkDriver"]}
    assert old.call("GetCapabilities") == {
        "Scope": "local",
        "ConnectivityScope": "local",
        "GwAllocChecker": True,
    }
    old.close()
    assert served.ipam.call("Plugin.Activate") == {"Implements": ["IpamDriver"]}
    assert served.ipam.call("GetCapabilities") == {
        "RequiresMACAddress": False,
        "RequiresRequestReplay": False,
    }
    assert served.ipam.call("GetDefaultAddressSpaces") == {
        "LocalDefaultAddressSpace": "cnm-LocalDefault",
        "GlobalDefaultAddressSpace": "cnm-GlobalDefault",
    }


# the tables of calls, in a newer engine's order


def test_a_life_as_docker_29_tells_it(served: Served) -> None:
    box = served.live.namespace("box")
    check = {"Options": {"com.docker.network.enable_ipv4": True, "com.docker.network.generic": {}}}
    assert served.network.call("GwAllocCheck", check) == {"SkipIPv4": False, "SkipIPv6": False}
    served.ipam.call("GetDefaultAddressSpaces")  # again before each pool
    asked = {"AddressSpace": "cnm-LocalDefault", "Pool": "", "SubPool": "", "V6": False}
    pool = served.ipam.call("RequestPool", {**asked, "Options": {}})
    gateway = served.ipam.call(
        "RequestAddress",
        {
            "PoolID": pool["PoolID"],
            "Address": "",
            "Options": {"RequestAddressType": "com.docker.network.gateway"},
        },
    )["Address"]
    network_id, endpoint_id = engine.identity(), engine.identity()
    body = engine.create_network(network_id, pool["Pool"], gateway)
    body["IPv4Data"][0]["AddressSpace"] = "cnm-LocalDefault"
    assert served.network.call("CreateNetwork", body) == {}
    assert served.network.call("CreateNetwork", body) == {}  # repeated
    options = {"com.docker.network.endpoint.name": "web"}  # of 29
    wish = {"PoolID": pool["PoolID"], "Address": "", "Options": options}
    address = served.ipam.call("RequestAddress", wish)["Address"]
    create = engine.create_endpoint(
        *(network_id, endpoint_id, address),
        more={
            "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1",
            "com.docker.network.endpoint.ifname": "eth7",
            "com.docker.network.endpoint.dnsservers": ["9.9.9.9"],
        },
    )
    chosen = served.network.call("CreateEndpoint", create)
    assert chosen["Interface"].keys() == {"MacAddress"}
    assert served.network.call("CreateEndpoint", create) == chosen  # repeated
    ids = {"NetworkID": network_id, "EndpointID": endpoint_id}
    join = {
        **ids,
        "SandboxKey": "/var/run/docker/netns/4a533f1c3967",  # of nobody: never entered
        "Options": {
            "com.docker.network.endpoint.exposedports": [],
            "com.docker.network.portmap": [],
        },
    }
    joined = served.network.call("Join", join)
    assert joined["Gateway"] == gateway.partition("/")[0]
    assert joined["InterfaceName"] == {
        "SrcName": f"vp{endpoint_id[:7]}",
        "DstPrefix": "eth",
    }
    assert served.network.call("Join", join) == joined  # repeated
    engine.move_in(served.live.netns, f"vp{endpoint_id[:7]}", box, "eth0", address)
    served.live.inside(box, "ping", "-c1", "-W3", joined["Gateway"])
    program = {
        **ids,
        "Options": {
            "com.docker.network.portmap": [],
            "com.docker.network.driver.private.no_proxy_6to4": True,
        },
    }
    assert served.network.call("ProgramExternalConnectivity", program) == {}
    value = served.network.call("EndpointOperInfo", ids)["Value"]
    assert all(isinstance(item, str) for item in value.values())
    for _ in range(2):  # each of them repeated
        assert served.network.call("RevokeExternalConnectivity", ids) == {}
        assert served.network.call("Leave", ids) == {}
    engine.take_out(served.live.netns, f"vp{endpoint_id[:7]}", box, "eth0")
    release = {"PoolID": pool["PoolID"], "Address": address.partition("/")[0]}
    for _ in range(2):
        assert served.network.call("DeleteEndpoint", ids) == {}
        assert served.ipam.call("ReleaseAddress", release) == {}
        last = {"PoolID": pool["PoolID"], "Address": gateway.partition("/")[0]}
        assert served.ipam.call("ReleaseAddress", last) == {}
    for _ in range(2):
        assert served.ipam.call("ReleasePool", {"PoolID": pool["PoolID"]}) == {}
        assert served.network.call("DeleteNetwork", {"NetworkID": network_id}) == {}


def test_the_recorded_network_of_20_10(served: Served) -> None:
    body: engine.Document = {
        "NetworkID": engine.identity(),
        "Options": {
            "com.docker.network.enable_ipv6": False,
            "com.docker.network.generic": {"k1": "v1"},
        },
        "IPv4Data": [
            {
                "AddressSpace": "LocalDefault",
                "Pool": "10.50.0.0/24",
                "Gateway": "10.50.0.1/24",
                "AuxAddresses": {"r1": "10.50.0.9/24"},
            }
        ],
        "IPv6Data": [],
    }
    served.network.call("CreateNetwork", body)
    ids = {"NetworkID": body["NetworkID"], "EndpointID": engine.identity()}
    create = {
        **ids,
        "Interface": {
            "Address": "10.50.0.2/24",
            "AddressIPv6": "",
            "MacAddress": "02:11:22:33:44:55",
        },
        "Options": {"com.docker.network.endpoint.macaddress": "AhEiM0RV"},
    }
    assert served.network.call("CreateEndpoint", create) == {"Interface": {}}
    served.network.call("Join", {**ids, "SandboxKey": "/x", "Options": {}})
    (link,) = served.live.ip("link", "show", "dev", f"vp{ids['EndpointID'][:7]}")
    assert link["address"] == "02:11:22:33:44:55"
    assert "UP" not in link["flags"]
    served.network.call("DeleteNetwork", {"NetworkID": body["NetworkID"]})  # takes all along


def test_keys_match_whatever_their_case_and_unknown_ones_are_ignored(served: Served) -> None:
    body = engine.create_network(engine.identity(), "10.71.0.0/24", "10.71.0.1/24")
    odd = {key.lower(): value for key, value in body.items()} | {
        "Later": {"x": 1},
        "IPv6Data": None,
    }
    served.network.call("CreateNetwork", odd)
    served.network.call("DeleteNetwork", {"NetworkID": body["NetworkID"]})


def test_an_internal_network_has_no_gateway_and_needs_none(served: Served) -> None:
    identity = engine.identity()
    more = {"com.docker.network.internal": True}
    body = engine.create_network(identity, "10.72.0.0/24", "10.72.0.1/24", more)
    served.network.call("CreateNetwork", body)
    ids = {"NetworkID": identity, "EndpointID": engine.identity()}
    served.network.call(
        "CreateEndpoint", engine.create_endpoint(identity, ids["EndpointID"], "10.72.0.2/24")
    )
    joined = served.network.call("Join", {**ids, "SandboxKey": "/x", "Options": {}})
    assert "Gateway" not in joined
    assert joined["DisableGatewayService"] is True
    served.network.call("DeleteNetwork", {"NetworkID": identity})


# IPAM


def test_a_second_choice_is_another_pool(served: Served) -> None:
    asked = {"AddressSpace": "cnm-LocalDefault", "Pool": "", "SubPool": "", "Options": {}}
    found = [served.ipam.call("RequestPool", asked) for _ in range(3)]
    assert len({item["PoolID"] for item in found}) == 3
    own = served.live.net("inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}")
    assert own.stdout.strip() not in {item["Pool"] for item in found}
    for item in found:
        served.ipam.call("ReleasePool", {"PoolID": item["PoolID"]})


def test_a_cut_off_creation_can_be_made_again(served: Served) -> None:
    asked = {"AddressSpace": "cnm-LocalDefault", "Pool": "10.73.0.0/24", "SubPool": ""}
    first = served.ipam.call("RequestPool", asked)
    wish = {
        "PoolID": first["PoolID"],
        "Address": "10.73.0.1",
        "Options": {"RequestAddressType": "com.docker.network.gateway"},
    }
    served.ipam.call("RequestAddress", wish)
    # the engine is killed here, and its user does it again
    assert served.ipam.call("RequestPool", asked) == first
    assert served.ipam.call("RequestAddress", wish)["Address"] == "10.73.0.1/24"
    served.ipam.call("RequestAddress", {"PoolID": first["PoolID"], "Address": "", "Options": None})
    again = served.ipam.say("RequestPool", asked)  # now somebody uses it
    assert "Pool overlaps with other one on this address space" in again.document["Error"]
    served.ipam.call("ReleasePool", {"PoolID": first["PoolID"]})


def test_pools_of_our_own_networks_are_not_an_engine_s(served: Served) -> None:
    template = "{{(index .IPAM.Config 0).Subnet}}"
    subnet = served.live.net("inspect", "bridge", "--format", template).stdout.strip()
    assert served.ipam.call("ReleasePool", {"PoolID": f"LocalDefault/{subnet}"}) == {}
    wish = {"PoolID": f"LocalDefault/{subnet}", "Address": "", "Options": {}}
    assert "not found" in served.ipam.say("RequestAddress", wish).document["Error"]
    asked = {"AddressSpace": "cnm-LocalDefault", "Pool": subnet, "SubPool": ""}
    assert "Pool overlaps" in served.ipam.say("RequestPool", asked).document["Error"]
    body = engine.create_network(engine.identity(), subnet)
    refused = served.network.say("CreateNetwork", body)
    assert "of network bridge" in refused.document["Err"]


# what an engine has forgotten


def test_the_same_address_under_a_new_id_takes_the_old_one_down(served: Served) -> None:
    identity = network(served)
    old, new = engine.identity(), engine.identity()
    for endpoint in (old, new):
        ids = {"NetworkID": identity, "EndpointID": endpoint}
        body = engine.create_endpoint(identity, endpoint, "10.70.0.2/24")
        served.network.call("CreateEndpoint", body)
        served.network.call("Join", {**ids, "SandboxKey": "/x", "Options": {}})
    assert f"veth{new[:7]}" in served.links()
    assert f"veth{old[:7]}" not in served.links()
    assert served.rows("guest_endpoints") == 1
    served.network.call("DeleteNetwork", {"NetworkID": identity})


@pytest.mark.parametrize("killed", [False, True])
def test_a_restart_keeps_what_an_engine_has(
    daemon: DaemonFactory, tmp_path: Path, killed: bool
) -> None:
    live = daemon("--sweep-interval", "86400", "--plugin-dir", str(tmp_path))
    with closing(Served(live, tmp_path)) as served:
        restarted(served, live.namespace("box"), killed=killed)


def restarted(served: Served, box: str, *, killed: bool) -> None:
    live = served.live
    identity = network(served)
    endpoint = engine.identity()
    ids = {"NetworkID": identity, "EndpointID": endpoint}
    served.network.call(
        "CreateEndpoint", engine.create_endpoint(identity, endpoint, "10.70.0.2/24")
    )
    joined = served.network.call("Join", {**ids, "SandboxKey": "/x", "Options": {}})
    engine.move_in(live.netns, joined["InterfaceName"]["SrcName"], box, "eth0", "10.70.0.2/24")
    before = live.ip("link")
    if killed:
        live.kill()
        assert os.listdir(served.folder)  # of the dead one: replaced
    else:
        live.stop()
        assert os.listdir(served.folder) == []
    live.start()
    assert live.ip("link") == before
    live.inside(box, "ping", "-c1", "-W3", "10.70.0.1")
    # without a handshake, as an engine that knows us goes on
    served.network.call("Leave", ids)
    served.network.call("DeleteEndpoint", ids)
    served.network.call("DeleteNetwork", {"NetworkID": identity})
    assert served.rows() == 0
    assert served.links() == {"lo", "cnm0"}


def test_a_second_daemon_does_not_take_the_folder(daemon: DaemonFactory, served: Served) -> None:
    other = daemon("--plugin-dir", str(served.folder), start=False)
    other.spawn()
    assert other.wait_for_exit() == 1
    assert f"served by a running daemon (pid {served.live.pid})" in other.log()


# malformed requests


MALFORMED: list[tuple[bytes, int, str]] = [
    (b"{", 400, "invalid JSON"),
    (b"[]", 400, "invalid JSON: must be an object"),
    (b'"x"', 400, "invalid JSON: must be an object"),
    (b"\xff\xfe", 400, "invalid JSON"),
    (b"[" * 50_000, 400, "invalid JSON"),
    (b"", 400, "the request has no body (a call that was cut off?): try it again"),
    (b"{}", 400, "NetworkID is missing"),
    (b'{"NetworkID": 5}', 400, "invalid NetworkID"),
    (b'{"NetworkID": "../../etc"}', 400, "invalid NetworkID"),
    (b'{"NetworkID": "%s\\n"}' % (b"a" * 64), 400, "invalid NetworkID"),
    (b'{"NetworkID": "%s", "IPv4Data": {}}' % (b"a" * 64), 400, "invalid IPv4Data"),
    (
        b'{"NetworkID": "%s", "IPv4Data": [{"Pool": "x"}]}' % (b"a" * 64),
        *(400, "invalid Pool: 'x' is no subnet"),
    ),
    (
        b'{"NetworkID": "%s", "IPv4Data": [{"Pool": "fd00::/64"}]}' % (b"a" * 64),
        *(400, "is not of IPv4"),
    ),
    (
        b'{"NetworkID": "%s", "IPv4Data": [{"Pool": "10.1.0.0/24", "Gateway": "10.2.0.1/24"}]}'
        % (b"a" * 64),
        *(400, "10.2.0.1 is not in 10.1.0.0/24"),
    ),
    (
        b'{"NetworkID": "%s", "IPv4Data": [{"Pool": "127.0.0.0/8"}]}' % (b"a" * 64),
        *(400, "loopback addresses"),
    ),
    (
        b'{"NetworkID": "%s", "Options": {"com.docker.network.generic": {"a": []}}}' % (b"a" * 64),
        *(400, "invalid Options.com.docker.network.generic.a"),
    ),
    (b" " * ((1 << 20) + 1), 400, "too long"),
]


@pytest.mark.parametrize(("content", "status", "text"), MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_requests_get_the_protocol_s_error(
    served: Served, content: bytes, status: int, text: str
) -> None:
    said = served.network.raw("/NetworkDriver.CreateNetwork", content)
    assert said.status == status
    assert text in said.document["Err"]
    assert said.document["Err"] == said.document["Error"]
    assert "\n" not in said.document["Err"]


def test_unknown_calls_are_404(served: Served) -> None:
    for said in (
        served.network.say("NetworkDriver.Fly", {}),
        served.network.say("IpamDriver.RequestPool", {}),  # of the other socket
        served.network.raw("/", b""),
        served.network.raw("/Plugin.Activate", b"", "GET"),
    ):
        assert said.status == 404
        assert said.document["Err"]


def test_unknown_ids(served: Served) -> None:
    ids = {"NetworkID": engine.identity(), "EndpointID": engine.identity()}
    for method in ("Leave", "DeleteEndpoint", "RevokeExternalConnectivity", "EndpointOperInfo"):
        served.network.call(method, ids)
    served.network.call("DeleteNetwork", ids)
    served.ipam.call("ReleasePool", {"PoolID": "nothing"})
    served.ipam.call("ReleaseAddress", {"PoolID": "nothing", "Address": "10.0.0.1"})
    for method in ("Join", "CreateEndpoint"):
        said = served.network.say(method, ids)
        # 404 would tell an engine that there is no such call
        assert (said.status, "not found" in said.document["Err"]) == (500, True)


def test_a_fuzz_run_leaves_no_kernel_object(
    served: Served, record_property: pytest.FixtureRequest
) -> None:
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    record_property("SEED", seed)  # type: ignore[operator]
    chance = random.Random(seed)
    known = [engine.identity() for _ in range(3)]
    calls = [
        *((served.network, name) for name in ("CreateNetwork", "DeleteNetwork", "CreateEndpoint")),
        *((served.network, name) for name in ("Join", "Leave", "DeleteEndpoint", "GwAllocCheck")),
        *((served.network, f"{name}ExternalConnectivity") for name in ("Program", "Revoke")),
        *((served.ipam, name) for name in ("RequestPool", "ReleasePool", "RequestAddress")),
        (served.ipam, "ReleaseAddress"),
    ]
    for _ in range(400):
        caller, method = chance.choice(calls)
        said = fuzzed(chance, caller, method, known)
        assert said.status in (200, 400, 404, 500)
        assert "internal error" not in str(said.document)
    for item in known:
        served.network.call("DeleteNetwork", {"NetworkID": item})
    with closing(sqlite3.connect(f"file:{served.live.root}/cnm.db?mode=ro", uri=True)) as db:
        pools = [row[0] for row in db.execute("SELECT id FROM guest_pools")]
    for pool in pools:
        served.ipam.call("ReleasePool", {"PoolID": pool})


def fuzzed(chance: random.Random, caller: Engine, method: str, known: list[str]) -> Said:
    """A request with something right and something wrong in it."""
    texts = [
        "",
        "10.74.0.0/24",
        "10.74.0.1/24",
        "10.74.0.2/24",
        "10.74.0.2",
        "fd74::/64",
        "x",
        "::",
    ]
    odd: list[object] = [*texts, None, 5, -1, True, [], {}, [{}], {"a": 1}, "é" * 9, "\0", "9" * 99]

    def some(*usual: object) -> object:
        return chance.choice(usual) if chance.random() < 0.8 else chance.choice(odd)

    pool = {"Pool": some(*texts[1:2]), "Gateway": some(*texts[2:3]), "AddressSpace": some("a")}
    port = {"Proto": some(6, 17), "Port": some(80), "HostPort": some(0, 8080), "HostIP": some("")}
    body = {
        "NetworkID": some(*known),
        "EndpointID": some(*known),
        "Options": some(
            {},
            {"com.docker.network.generic": {"com.docker.network.driver.mtu": some("1400")}},
            {"com.docker.network.portmap": [port]},
        ),
        "IPv4Data": some([pool], [pool], []),
        "IPv6Data": some([]),
        "Interface": some({"Address": some("10.74.0.2/24"), "MacAddress": some("", "02:1:2")}),
        "SandboxKey": some("/nowhere"),
        "PoolID": some("LocalDefault/10.75.0.0/24"),
        "AddressSpace": some("cnm-LocalDefault"),
        "Pool": some("10.75.0.0/24", ""),
        "SubPool": some(""),
        "Address": some("10.75.0.2", ""),
        "V6": some(False),
    }
    for key in chance.sample(sorted(body), chance.randrange(3)):
        del body[key]
    content = json.dumps(body).encode()
    if chance.random() < 0.1:
        content = content[: chance.randrange(len(content))]
    return caller.raw(f"/{caller.kind}.{method}", content)
