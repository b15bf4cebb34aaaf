"""Documents for clients of older and newer versions."""

from __future__ import annotations

from typing import Any

from cnm.engine import shape
from cnm.engine.versions import ApiVersion

V1_41, V1_44, V1_45, V1_48 = (ApiVersion(1, minor) for minor in (41, 44, 45, 48))
V1_51, V1_52 = ApiVersion(1, 51), ApiVersion(1, 52)

NETWORK: dict[str, Any] = {
    "Name": "x",
    "EnableIPv4": True,
    "Containers": {"c": {}},
    "Status": {"IPAM": {}},
}
CONTAINER: dict[str, Any] = {
    "Id": "0123456789abcdef",
    "NetworkSettings": {
        "SandboxID": "s",
        "SandboxKey": "k",
        "Ports": {},
        "IPAddress": "10.0.0.2",
        "Networks": {"x": {"Aliases": ["web"], "DNSNames": ["c", "web"], "GwPriority": 0}},
    },
}


def endpoint(version: ApiVersion) -> dict[str, Any]:
    settings = shape.container(CONTAINER, version)["NetworkSettings"]
    found: dict[str, Any] = settings["Networks"]["x"]
    return found


def test_a_network_by_itself() -> None:
    assert set(shape.network(NETWORK, V1_41, listed=False)) == {"Name", "Containers"}
    assert set(shape.network(NETWORK, V1_48, listed=False)) == {"Name", "EnableIPv4", "Containers"}
    assert shape.network(NETWORK, V1_52, listed=False) == NETWORK


def test_a_network_in_a_list() -> None:
    assert shape.network(NETWORK, V1_51, listed=True)["Containers"] == {}
    assert set(shape.network(NETWORK, V1_52, listed=True)) == {"Name", "EnableIPv4"}


def test_flat_fields_end_with_1_52() -> None:
    assert shape.container(CONTAINER, V1_51)["NetworkSettings"]["IPAddress"] == "10.0.0.2"
    kept = shape.container(CONTAINER, V1_52)["NetworkSettings"]
    assert set(kept) == {"SandboxID", "SandboxKey", "Ports", "Networks"}


def test_endpoints_by_version() -> None:
    assert endpoint(V1_41) == {"Aliases": ["web", "0123456789ab"]}
    assert set(endpoint(V1_44)) == {"Aliases", "DNSNames"}
    assert endpoint(V1_45)["Aliases"] == ["web"]
    assert "GwPriority" in endpoint(V1_48)


def test_the_core_s_document_is_left_alone() -> None:
    shape.container(CONTAINER, V1_41)
    assert CONTAINER["NetworkSettings"]["Networks"]["x"]["Aliases"] == ["web"]


def test_container_events_had_three_fields_more() -> None:
    event = {"Type": "container", "Action": "start", "Actor": {"ID": "i", "Attributes": {}}}
    old = shape.event(event, V1_51)
    assert (old["status"], old["id"]) == ("start", "i")
    assert shape.event(event, V1_52) == event
    assert "status" not in shape.event({**event, "Type": "network"}, V1_51)
