"""``net inspect`` equals Docker's, field for field, beside a real dockerd.

Both engines start on a fresh host, are asked at API 1.41 for the same network and
must give the same document. Ids and times apart, every difference that is meant
stands in ``meant_differences.json`` with its reason; one that has gone must leave it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from livedaemon import run
from peers.api import Api
from peers.cnmd import Cnmd
from peers.dockerd import Dockerd

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("dockerd"),
]

Document = dict[str, Any]

MEANT = json.loads(Path(__file__).with_name("meant_differences.json").read_text())
ABSENT = "(absent)"

# What the docker command sends when nothing else is said.
FROM_THE_COMMAND: Document = {
    "CheckDuplicate": True,
    "Driver": "bridge",
    "EnableIPv6": False,
    "IPAM": {"Driver": "default", "Options": {}, "Config": []},
    "Internal": False,
    "Attachable": False,
    "Ingress": False,
    "ConfigOnly": False,
    "ConfigFrom": None,
    "Options": {},
    "Labels": {},
}


def ipam(*configs: Document, **more: object) -> Document:
    return {"IPAM": {"Driver": "default", "Config": list(configs), **more}}


LAN = "lan0"  # a link of both hosts
RANGED = {
    "Subnet": "10.31.0.0/16",
    "IPRange": "10.31.5.0/24",
    "Gateway": "10.31.5.254",
    "AuxiliaryAddresses": {"router": "10.31.5.5", "printer": "10.31.0.9"},
}
DUAL = ipam(
    {"Subnet": "10.32.0.0/24", "Gateway": "10.32.0.1"},
    {"Subnet": "fd32:1::/64", "Gateway": "fd32:1::1"},
)
DOCKER_OPTIONS = {
    "com.docker.network.bridge.name": "br-given",
    "com.docker.network.bridge.enable_icc": "false",
    "com.docker.network.bridge.enable_ip_masquerade": "false",
    "com.docker.network.driver.mtu": "1400",
}

CREATED: dict[str, Document] = {
    "least": {},
    "command": FROM_THE_COMMAND,
    "subnet": ipam({"Subnet": "10.30.0.0/24"}),
    "ranged": ipam(RANGED),
    "ipam-options": ipam({"Subnet": "10.30.1.0/24"}, Options={"some": "thing"}),
    "internal": {"Internal": True},
    "attachable": {"Attachable": True},
    "dual": {"EnableIPv6": True, **DUAL},
    "dual-no-gateways": {
        "EnableIPv6": True,
        **ipam({"Subnet": "10.33.0.0/24"}, {"Subnet": "fd33:1::/64"}),
    },
    "options": {"Options": DOCKER_OPTIONS},
    "macvlan": {
        "Driver": "macvlan",
        "Options": {"parent": LAN, "macvlan_mode": "vepa"},
        **ipam({"Subnet": "10.35.0.0/24", "IPRange": "10.35.0.0/25", "Gateway": "10.35.0.1"}),
    },
    "labels": {"Labels": {"tier": "front", "empty": ""}},
    "config-only": {"ConfigOnly": True, **ipam({"Subnet": "10.34.0.0/24"})},
}
PREDEFINED = ("bridge", "host", "none")
JOINED = ("command", "ranged", "internal", "dual", "macvlan", "bridge")


class Engines(NamedTuple):
    docker: Api
    ours: Api

    def both(self, method: str, path: str, body: object = None) -> tuple[Any, Any]:
        docker, ours = (api.call(method, path, body) for api in self)
        return docker, ours


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    """All networks are made at once, in one order: Docker hands out default pools in turn."""
    with Dockerd() as docker, Cnmd() as ours:
        image = docker.import_image()
        docker.run("one", image)
        leave_none(docker.api)
        ours.adopt("one")
        for namespace in (docker.name, ours.netns):
            run("ip", "-n", namespace, "link", "add", LAN, "type", "veth", "peer", "name", "far")
            run("ip", "-n", namespace, "link", "set", LAN, "up")
            run("ip", "-n", namespace, "link", "set", "far", "up")
        engines = Engines(docker.api, ours.api)
        for name, wish in CREATED.items():
            engines.both("POST", "/networks/create", {"Name": name, **wish})
        yield engines


@pytest.mark.parametrize("name", [*PREDEFINED, *CREATED])
def test_inspect_equals(engines: Engines, name: str) -> None:
    assert differences(*engines.both("GET", f"/networks/{name}")) == meant(name)


@pytest.mark.parametrize("name", JOINED)
def test_inspect_equals_with_a_container(engines: Engines, name: str) -> None:
    engines.both("POST", f"/networks/{name}/connect", {"Container": "one"})
    documents = engines.both("GET", f"/networks/{name}")
    engines.both("POST", f"/networks/{name}/disconnect", {"Container": "one"})
    assert [len(document["Containers"]) for document in documents] == [1, 1]
    assert differences(*documents) == meant(name)
    assert differences(*engines.both("GET", f"/networks/{name}")) == meant(name)


def test_list_equals(engines: Engines) -> None:
    theirs, mine = ({row["Name"]: row for row in rows} for rows in engines.both("GET", "/networks"))
    assert theirs.keys() == mine.keys() == {*PREDEFINED, *CREATED}
    for name, row in theirs.items():
        assert differences(row, mine[name]) == meant(name)


def test_every_meant_difference_says_why() -> None:
    assert all(item["reason"] for item in MEANT)
    assert {item["network"] for item in MEANT} <= {*PREDEFINED, *CREATED}


def leave_none(docker: Api) -> None:
    """Docker's container was started on ``none``, which excludes all others until it is left."""
    docker.call("POST", "/networks/none/disconnect", {"Container": "one"})


def differences(theirs: Document, mine: Document) -> dict[str, tuple[object, object]]:
    """field -> (Docker's value, ours), where they differ."""
    left, right = flat(neutral(theirs)), flat(neutral(mine))
    return {
        field: (left.get(field, ABSENT), right.get(field, ABSENT))
        for field in left.keys() | right.keys()
        if left.get(field, ABSENT) != right.get(field, ABSENT)
    }


def meant(name: str) -> dict[str, tuple[object, object]]:
    return {
        item["field"]: (item["docker"], item["cnm"]) for item in MEANT if item["network"] == name
    }


def neutral(document: Document) -> Document:
    """Without the values of ids and times, after a look at their form; containers by name."""
    assert re.fullmatch(r"[0-9a-f]{64}", document["Id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z", document["Created"])
    containers = {}
    for key, row in document["Containers"].items():
        assert re.fullmatch(r"[0-9a-f]{64}", key)
        assert re.fullmatch(r"[0-9a-f]{64}", row["EndpointID"])
        containers[row["Name"]] = {**row, "EndpointID": "(id)"}
    return {**document, "Id": "(id)", "Created": "(time)", "Containers": containers}


def flat(value: object, path: str = "") -> dict[str, object]:
    """``{"A": {"B": [1]}}`` as ``{"A.B.0": 1}``; empty containers and null stay values."""
    rows: list[tuple[str, object]]
    if isinstance(value, dict) and value:
        rows = list(value.items())
    elif isinstance(value, list) and value:
        rows = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {path: value}
    return {
        field: leaf
        for key, item in rows
        for field, leaf in flat(item, f"{path}.{key}" if path else key).items()
    }
