"""An engine's calls under torture: the life of a network through our plugin, call by call.

Every call is a verb; what was called before it makes it ready. What must be there after each
is a table (:data:`LIFE`), judged against the database's rows and the machine's tools.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import engine
from peers.cnmd import Cnmd
from peers.engine import Document, Engine
from torture import judge, ports
from torture.verbs import Scene, Verb

Facts = dict[str, Any]

NETWORK, ENDPOINT = "6e" * 32, "e9" * 32
IDS = {"NetworkID": NETWORK, "EndpointID": ENDPOINT}
SPACE = "cnm-LocalDefault"
POOL, POOL6 = "10.79.0.0/24", "fd79::/64"
GATEWAY, GATEWAY6 = "10.79.0.1", "fd79::1"
ADDRESS, ADDRESS6 = "10.79.0.2", "fd79::2"
MAC = "02:42:0a:4f:00:02"
HOST_PORT = 5005
LINK, INSIDE = f"veth{ENDPOINT[:7]}", f"vp{ENDPOINT[:7]}"
BOX = "box"

# What an engine has of us, in the words of the table.
NOTHING = frozenset[str]()


class GuestScene(Scene):
    """A daemon with networks of its own, and an engine that makes another through its plugin."""

    def __init__(self, daemon: Cnmd, folder: Path) -> None:
        super().__init__(daemon)
        self._network = Engine(folder / "cnm-bridge.sock", "NetworkDriver")
        self._ipam = Engine(folder / "cnm-ipam.sock", "IpamDriver")
        self.box = daemon.namespace(BOX)

    def close(self) -> None:
        """The engine ends."""
        self._network.close()
        self._ipam.close()

    def call(self, method: str) -> None:
        """One call of the life, as an engine makes it: again if its connection was cut."""
        plugin, _, name = method.partition(".")
        name = name.partition(" ")[0]
        (self._ipam if plugin == "IpamDriver" else self._network).call(name, BODIES[method])

    def has(self) -> frozenset[str]:
        """What the database has of the engine's, in the table's words."""
        return frozenset(_had(self.daemon.root / "cnm.db"))

    def move_in(self) -> None:
        """The engine's own work after Join."""
        engine.move_in(self.daemon.netns, INSIDE, self.box, "eth0", f"{ADDRESS}/24")

    def reset(self) -> None:
        """An engine that takes all of it down, whether it was there or not."""
        for method in TAKEN_DOWN:
            self.call(method)
        assert self.has() == NOTHING

    def assert_sound(self) -> None:
        """Store and kernel agree, by the daemon's own word and by the machine's tools."""
        assert self.daemon.sweep() == []
        assert differences(self) == []


def _had(database: Path) -> Iterator[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        for (row,) in db.execute("SELECT id FROM guest_pools"):
            yield "pool" if POOL in row else "pool6"
        for (row,) in db.execute("SELECT document FROM guest_networks"):
            assert json.loads(row)["phase"] == "active"
            yield "network"
        for (row,) in db.execute("SELECT document FROM guest_endpoints"):
            document = json.loads(row)
            assert document["phase"] == "active"
            yield "endpoint"
            if document.get("joined"):
                yield "joined"
            if document.get("ports"):
                yield "ports"
    leases = judge.leases_of(database)
    yield from (address for address in (GATEWAY, GATEWAY6, ADDRESS, ADDRESS6) if address in leases)


def differences(scene: GuestScene) -> list[str]:
    """What differs between store and kernel, one line each."""
    daemon = scene.daemon
    has = scene.has()
    rows = daemon.api.call("GET", "/networks")
    own = [daemon.api.call("GET", f"/networks/{row['Id']}") for row in rows]
    own = [item for item in own if item["Driver"] == "bridge"]
    linked = LINK in _links(daemon.netns)
    networks = [*own, _document(linked=linked)] if "network" in has else own
    told, found = judge.expected_host(networks), judge.actual_host(daemon.netns)
    outside = INSIDE in found["other links"]
    told["other links"] = sorted([*told["other links"], *([INSIDE] if outside else [])])
    told |= ports.expected(daemon, own)
    found |= ports.actual(daemon.netns)
    if "ports" in has:
        told["elements of ports"] = sorted(_elements())
        told["held ports"] = sorted(f"{host} {HOST_PORT}" for host in ("0.0.0.0", "::"))
    told["leases"] = sorted(
        [*judge.expected_leases(own), *(item for item in has if "." in item or ":" in item)]
    )
    found["leases"] = judge.actual_leases(daemon)
    lines = list(judge.compare("host", told, found))
    # a link without an endpoint, or none of one that was joined and not taken away since
    if linked and "endpoint" not in has:
        lines.append(f"host: {LINK} is nobody's")
    if "joined" in has and not linked:
        lines.append(f"host: {LINK} is missing")
    return lines


def _links(namespace: str) -> set[str]:
    return {row["ifname"] for row in judge.tell("ip", "-n", namespace, "-j", "link", "show")}


def _document(*, linked: bool) -> Facts:
    """The engine's network as the API would show it, were it ours."""
    config = [{"Subnet": POOL, "Gateway": GATEWAY}, {"Subnet": POOL6, "Gateway": GATEWAY6}]
    return {
        "Id": NETWORK,
        "Options": {},
        "Internal": False,
        "EnableIPv6": True,
        "IPAM": {"Config": config},
        "Containers": {ENDPOINT: {}} if linked else {},
    }


def _elements() -> Iterator[str]:
    key = f"tcp . {HOST_PORT}"
    yield f"ports_any_ipv4: {key} : {ADDRESS} . 80"
    yield f"ports_any_ipv6: {key} : {ADDRESS6} . 80"


def _pool(pool: str) -> Document:
    return {"AddressSpace": SPACE, "Pool": pool, "SubPool": "", "Options": {}, "V6": ":" in pool}


def _address(pool: str, address: str) -> Document:
    kind = {"RequestAddressType": "com.docker.network.gateway"}
    options = kind if address in (GATEWAY, GATEWAY6) else {}
    return {"PoolID": f"LocalDefault/{pool}", "Address": address, "Options": options}


def _creation() -> Document:
    body = engine.create_network(NETWORK, POOL, f"{GATEWAY}/24")
    body["Options"]["com.docker.network.enable_ipv6"] = True
    body["IPv6Data"] = [{"AddressSpace": SPACE, "Pool": POOL6, "Gateway": f"{GATEWAY6}/64"}]
    body["IPv4Data"][0]["AddressSpace"] = SPACE
    return body


def _interface() -> Document:
    body = engine.create_endpoint(NETWORK, ENDPOINT, f"{ADDRESS}/24")
    body["Interface"] = {
        "Address": f"{ADDRESS}/24",
        "AddressIPv6": f"{ADDRESS6}/64",
        "MacAddress": MAC,
    }
    return body


_PORT = {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": HOST_PORT}
_PORTS = {"com.docker.network.portmap": [{**_PORT, "HostPortEnd": HOST_PORT}]}

# A call's name, with a word behind it where an engine makes it several times.
BODIES: dict[str, Document] = {
    "IpamDriver.RequestPool": _pool(POOL),
    "IpamDriver.RequestPool 6": _pool(POOL6),
    "IpamDriver.RequestAddress gateway": _address(POOL, GATEWAY),
    "IpamDriver.RequestAddress gateway 6": _address(POOL6, GATEWAY6),
    "NetworkDriver.CreateNetwork": _creation(),
    "IpamDriver.RequestAddress": _address(POOL, ADDRESS),
    "IpamDriver.RequestAddress 6": _address(POOL6, ADDRESS6),
    "NetworkDriver.CreateEndpoint": _interface(),
    "NetworkDriver.Join": {**IDS, "SandboxKey": "/var/run/docker/netns/4a53", "Options": _PORTS},
    "NetworkDriver.ProgramExternalConnectivity": {**IDS, "Options": _PORTS},
    "NetworkDriver.RevokeExternalConnectivity": IDS,
    "NetworkDriver.Leave": IDS,
    "NetworkDriver.DeleteEndpoint": IDS,
    "IpamDriver.ReleaseAddress": _address(POOL, ADDRESS),
    "IpamDriver.ReleaseAddress 6": _address(POOL6, ADDRESS6),
    "NetworkDriver.DeleteNetwork": {"NetworkID": NETWORK},
    "IpamDriver.ReleaseAddress gateway": _address(POOL, GATEWAY),
    "IpamDriver.ReleaseAddress gateway 6": _address(POOL6, GATEWAY6),
    "IpamDriver.ReleasePool": {"PoolID": f"LocalDefault/{POOL}"},
    "IpamDriver.ReleasePool 6": {"PoolID": f"LocalDefault/{POOL6}"},
}


@dataclass(frozen=True)
class Step:
    """A call of the life, and what the engine has of us after it that it had not, or no more."""

    method: str
    more: frozenset[str] = NOTHING
    less: frozenset[str] = NOTHING
    moved: bool = False  # the engine moves the link into the container before


LIFE = (
    Step("IpamDriver.RequestPool", frozenset({"pool"})),
    Step("IpamDriver.RequestPool 6", frozenset({"pool6"})),
    Step("IpamDriver.RequestAddress gateway", frozenset({GATEWAY})),
    Step("IpamDriver.RequestAddress gateway 6", frozenset({GATEWAY6})),
    Step("NetworkDriver.CreateNetwork", frozenset({"network"})),
    Step("IpamDriver.RequestAddress", frozenset({ADDRESS})),
    Step("IpamDriver.RequestAddress 6", frozenset({ADDRESS6})),
    Step("NetworkDriver.CreateEndpoint", frozenset({"endpoint"})),
    Step("NetworkDriver.Join", frozenset({"joined"})),
    Step("NetworkDriver.ProgramExternalConnectivity", frozenset({"ports"}), moved=True),
    Step("NetworkDriver.RevokeExternalConnectivity", less=frozenset({"ports"})),
    Step("NetworkDriver.Leave", less=frozenset({"joined"})),
    Step("NetworkDriver.DeleteEndpoint", less=frozenset({"endpoint"})),
    Step("IpamDriver.ReleaseAddress", less=frozenset({ADDRESS})),
    Step("IpamDriver.ReleaseAddress 6", less=frozenset({ADDRESS6})),
    Step("NetworkDriver.DeleteNetwork", less=frozenset({"network"})),
    Step("IpamDriver.ReleaseAddress gateway", less=frozenset({GATEWAY})),
    Step("IpamDriver.ReleaseAddress gateway 6", less=frozenset({GATEWAY6})),
    Step("IpamDriver.ReleasePool", less=frozenset({"pool"})),
    Step("IpamDriver.ReleasePool 6", less=frozenset({"pool6"})),
)
TAKEN_DOWN = tuple(step.method for step in LIFE if step.less)


def _verb(steps: tuple[Step, ...]) -> Verb:
    """The last of these calls; the others make it ready."""
    *earlier, last = steps
    before = frozenset[str]()
    for step in earlier:
        before = (before | step.more) - step.less
    after = (before | last.more) - last.less

    def ready(scene: Scene) -> None:
        assert isinstance(scene, GuestScene)
        for step in earlier:
            if step.moved:
                scene.move_in()
            scene.call(step.method)
        if last.moved:
            scene.move_in()

    def do(scene: Scene) -> None:
        assert isinstance(scene, GuestScene)
        scene.call(last.method)

    def has(scene: Scene, wanted: frozenset[str]) -> bool:
        assert isinstance(scene, GuestScene)
        return scene.has() == wanted

    return Verb(
        ready=ready,
        do=do,
        done=lambda scene: has(scene, after),
        untouched=lambda scene: has(scene, before),
        repeated=True,
    )


# both families take the same way: one of each pair is enough
CALLS: dict[str, Verb] = {
    LIFE[number].method: _verb(LIFE[: number + 1])
    for number in range(len(LIFE))
    if not LIFE[number].method.endswith(" 6")
}
