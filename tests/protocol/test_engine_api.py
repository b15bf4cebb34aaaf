"""The Engine API, spoken raw: shapes, versions, statuses and Docker's texts."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from livedaemon import LiveDaemon, UnixConnection

pytestmark = pytest.mark.kernel

CREATE = "/networks/create"
SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect'
    " this node to swarm and try again."
)
KEYS_1_41 = {
    *("Name", "Id", "Created", "Scope", "Driver", "EnableIPv6", "IPAM", "Internal", "Attachable"),
    *("Ingress", "ConfigFrom", "ConfigOnly", "Containers", "Options", "Labels"),
}


def created(live: LiveDaemon, name: str, **body: Any) -> str:
    """The id of a new network."""
    answer = live.http("POST", CREATE, {"Name": name, **body})
    assert answer.status == 201, answer
    assert answer.document["Warning"] == ""
    return str(answer.document["Id"])


def fault(live: LiveDaemon, method: str, path: str, body: object = None) -> tuple[int, str]:
    """Status and message of a refusal."""
    answer = live.http(method, path, body)
    assert set(answer.document) == {"message"}
    assert answer.headers["content-type"] == "application/json"
    return answer.status, answer.document["message"]


# the frame


@pytest.mark.parametrize(("method", "body"), [("GET", "OK"), ("HEAD", "")])
def test_ping(live: LiveDaemon, method: str, body: str) -> None:
    answer = live.http(method, "/_ping")
    assert (answer.status, answer.document) == (200, body)
    assert answer.headers["api-version"] == "1.51"
    assert answer.headers["ostype"] == "linux"
    assert answer.headers["swarm"] == "inactive"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-store, must-revalidate"


@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.41", "/v1.51", "/v1.55"])
def test_every_path_has_every_prefix(live: LiveDaemon, prefix: str) -> None:
    assert live.http("GET", f"{prefix}/networks").status == 200
    assert live.http("GET", f"{prefix}/version").document["ApiVersion"] == "1.51"


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        (
            *("GET", "/v1.99/networks", 400),
            "client version 1.99 is too new. Maximum supported API version is 1.55",
        ),
        (
            *("GET", "/v1.10/networks", 400),
            (
                "client version 1.10 is too old. Minimum supported API version is 1.24, please"
                " upgrade your client to a newer version"
            ),
        ),
        ("GET", "/nothing", 404, "page not found"),
        ("PUT", "/networks", 404, "page not found"),
        ("PATCH", "/networks/bridge", 404, "page not found"),
        ("POST", "/swarm/leave", 503, "This node is not part of a swarm"),
        ("GET", "/swarm", 503, SWARM),
        ("GET", "/nodes", 503, SWARM),
        ("POST", "/services/create", 503, SWARM),
        ("POST", "/containers/create", 400, "no image specified"),
        ("POST", "/containers/x/start", 404, "No such container: x"),
        ("GET", "/images/busybox/json", 404, "No such image: busybox:latest"),
        ("GET", "/volumes/x", 404, "get x: no such volume"),
        ("GET", "/containers/x/json", 404, "No such container: x"),
    ],
)
def test_what_there_is_not(
    live: LiveDaemon, method: str, path: str, status: int, message: str
) -> None:
    assert fault(live, method, path) == (status, message)


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b'{"Name":', "application/json", "invalid JSON: expecting value"),
        (b'{"Name":"x"} {}', "application/json", "unexpected content after JSON"),
        (b'{"Name":5}', "", "invalid JSON: Name: input should be a valid string"),
        (b"", "", "invalid name: name is empty"),
        (b"{}", "application/json; charset=utf-8", "invalid name: name is empty"),
        (
            *(b"{}", "text/plain"),
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
    ],
)
def test_bodies(live: LiveDaemon, body: bytes, content_type: str, message: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = live.http("POST", CREATE, body, headers)
    assert (answer.status, answer.document["message"]) == (400, message)


# create, list, inspect


def test_predefined_networks(live: LiveDaemon) -> None:
    found = {item["Name"]: item for item in live.http("GET", "/networks").document}
    assert {name: found[name]["Driver"] for name in ("bridge", "host", "none")} == {
        "bridge": "bridge",
        "host": "host",
        "none": "null",
    }
    config = found["bridge"]["IPAM"]["Config"]
    assert config == [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]


def test_documents_by_version(live: LiveDaemon) -> None:
    created(live, "shapes")
    old = live.http("GET", "/v1.41/networks/shapes").document
    assert set(old) == KEYS_1_41
    assert old["IPAM"]["Options"] is None
    new = live.http("GET", "/v1.52/networks/shapes").document
    assert set(new) == KEYS_1_41 | {"EnableIPv4", "Status"}
    (usage,) = new["Status"]["IPAM"]["Subnets"].values()
    assert usage == {"IPsInUse": 3, "DynamicIPsAvailable": 65533}
    listed = live.http("GET", "/v1.52/networks/").document
    assert all("Containers" not in item for item in listed)


def test_names_with_blanks_ids_and_prefixes(live: LiveDaemon) -> None:
    network_id = created(live, "two words")
    for reference in (quote("two words"), network_id, network_id[:8]):
        assert live.http("GET", f"/networks/{reference}").document["Id"] == network_id
    assert live.http("DELETE", f"/networks/{quote('two words')}").status == 204
    status, message = fault(live, "GET", f"/networks/{quote('two words')}")
    assert (status, message) == (404, "network two words not found")


def test_an_ambiguous_prefix(live: LiveDaemon) -> None:
    ids: list[str] = []
    while len({item[0] for item in ids}) == len(ids):
        ids.append(created(live, f"many{len(ids)}"))
    prefix = next(a[0] for a in ids if sum(b[0] == a[0] for b in ids) > 1)
    status, message = fault(live, "GET", f"/networks/{prefix}")
    assert status == 400
    assert message.startswith(f"network {prefix} is ambiguous (")
    assert message.endswith(" matches found based on ID prefix)")


def test_everything_a_network_can_be_told(live: LiveDaemon) -> None:
    ipam = {
        "Driver": "default",
        "Options": {},
        "Config": [
            {
                "Subnet": "10.66.0.0/24",
                "IPRange": "10.66.0.128/25",
                "Gateway": "10.66.0.254",
                "AuxiliaryAddresses": {"router": "10.66.0.129"},
            },
            {"Subnet": "fd66::/64"},
        ],
    }
    created(live, "told", EnableIPv6=True, IPAM=ipam, Internal=True, Labels={"a": "b"})
    document = live.http("GET", "/networks/told").document
    assert document["IPAM"]["Config"][0] == ipam["Config"][0]  # type: ignore[index]
    assert document["IPAM"]["Config"][1]["Gateway"] == "fd66::1"
    assert document["IPAM"]["Options"] == {}
    assert (document["Internal"], document["EnableIPv6"]) == (True, True)
    assert document["Labels"] == {"a": "b"}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "invalid name: name is empty"),
        (
            *({"Name": "bridge"}, 403),
            "operation is not permitted on predefined bridge network ",
        ),
        ({"Name": "refused", "Driver": "nope"}, 404, 'plugin "nope" not found'),
        (
            *({"Name": "refused", "Driver": "host"}, 403),
            'only one instance of "host" network is allowed',
        ),
        ({"Name": "refused", "Scope": "swarm"}, 403, SWARM),
        (
            *({"Name": "refused", "IPAM": {"Config": [{"Subnet": "10.1.0.5/24"}]}}, 400),
            "invalid network config:\ninvalid subnet 10.1.0.5/24: it should be 10.1.0.0/24",
        ),
        (
            *({"Name": "refused", "IPAM": {"Config": [{"Subnet": "172.17.1.0/24"}]}}, 403),
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            *({"Name": "refused", "Options": {"com.docker.network.bridge.name": "cnm0"}}, 403),
            "networks have same bridge name",
        ),
    ],
)
def test_creations_that_are_refused(
    live: LiveDaemon, body: dict[str, Any], status: int, message: str
) -> None:
    found, text = fault(live, "POST", CREATE, body)
    assert (found, message in text) == (status, True), text
    assert live.http("GET", "/networks/refused").status == 404


def test_a_used_name(live: LiveDaemon) -> None:
    created(live, "taken")
    assert fault(live, "POST", CREATE, {"Name": "taken"}) == (
        409,
        "network with name taken already exists",
    )


@pytest.mark.parametrize(
    ("reference", "status", "message"),
    [
        ("nope", 404, "network nope not found"),
        ("bridge", 403, "bridge is a pre-defined network and cannot be removed"),
    ],
)
def test_removals_that_are_refused(
    live: LiveDaemon, reference: str, status: int, message: str
) -> None:
    assert fault(live, "DELETE", f"/networks/{reference}") == (status, message)


# filters, prune


@pytest.mark.parametrize("shape", [{"name": {"^filter": True}}, {"name": ["^filter"]}])
def test_filters_in_both_shapes(live: LiveDaemon, shape: dict[str, Any]) -> None:
    if live.http("GET", "/networks/filterme").status == 404:
        created(live, "filterme")
    found = live.http("GET", f"/networks?filters={quote(json.dumps(shape))}").document
    assert [item["Name"] for item in found] == ["filterme"]


@pytest.mark.parametrize(
    ("filters", "status", "message"),
    [
        ({"foo": ["x"]}, 400, "invalid filter 'foo'"),
        ({"type": ["zzz"]}, 500, "invalid filter: 'type'='zzz'"),
        (
            *({"dangling": ["maybe"]}, 400),
            ('invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'),
        ),
    ],
)
def test_filters_that_are_refused(
    live: LiveDaemon, filters: dict[str, Any], status: int, message: str
) -> None:
    path = f"/networks?filters={quote(json.dumps(filters))}"
    assert fault(live, "GET", path) == (status, message)


def test_prune_tells_names_and_null(live: LiveDaemon) -> None:
    created(live, "pruned", Labels={"prune": "me"})
    path = f"/networks/prune?filters={quote(json.dumps({'label': ['prune=me']}))}"
    assert live.http("POST", path).document == {"NetworksDeleted": ["pruned"]}
    assert live.http("POST", path).document == {"NetworksDeleted": None}


# containers


def test_connect_inspect_disconnect(live: LiveDaemon) -> None:
    netns = live.namespace()
    body = {"Name": "web1", "Netns": f"/run/netns/{netns}", "Labels": {"role": "db"}}
    answer = live.http("POST", "/cnm/v1/adopt", body)
    assert answer.status == 201
    container_id = answer.document["Id"]
    ipam = {"Config": [{"Subnet": "10.70.0.0/24"}]}
    network_id = created(live, "joined", IPAM=ipam)
    wish = {"IPAMConfig": {"IPv4Address": "10.70.0.9"}, "Aliases": ["db"], "GwPriority": 3}
    request = {"Container": "web1", "EndpointConfig": wish}
    answer = live.http("POST", "/networks/joined/connect", request)
    assert (answer.status, answer.document) == (200, "")

    (row,) = live.http("GET", "/networks/joined").document["Containers"].items()
    assert (row[0], row[1]["Name"]) == (container_id, "web1")
    assert row[1]["IPv4Address"] == "10.70.0.9/24"
    settings = live.http("GET", "/containers/web1/json").document["NetworkSettings"]
    endpoint = settings["Networks"]["joined"]
    assert (endpoint["IPAddress"], endpoint["NetworkID"]) == ("10.70.0.9", network_id)
    assert (endpoint["Gateway"], endpoint["GwPriority"]) == ("10.70.0.1", 3)
    (listed,) = live.http("GET", "/containers/json").document
    assert (listed["Names"], listed["State"]) == (["/web1"], "running")
    for filters, count in (({"network": ["joined"]}, 1), ({"label": ["role=web"]}, 0)):
        path = f"/containers/json?filters={quote(json.dumps(filters))}"
        assert len(live.http("GET", path).document) == count
    addresses = live.ip("addr", "show", "dev", "eth0", netns=netns)[0]["addr_info"]
    assert "10.70.0.9" in [item["local"] for item in addresses]

    assert fault(live, "POST", "/networks/joined/connect", request) == (
        403,
        "endpoint with name web1 already exists in network joined",
    )
    status, message = fault(live, "DELETE", "/networks/joined")
    assert status == 403
    assert message.startswith(
        'error while removing network: network joined has active endpoints (name:"web1" id:"'
    )
    assert live.http("POST", "/networks/joined/disconnect", {"Container": "web1"}).status == 200
    assert fault(live, "POST", "/networks/joined/disconnect", {"Container": "web1"}) == (
        500,
        f"container {container_id} is not connected to network joined",
    )
    assert live.ip("link", "show", netns=netns)[0]["ifname"] == "lo"
    released = live.http("POST", "/cnm/v1/containers/web1/release")
    assert released.document == {"Id": container_id, "Name": "web1"}


@pytest.mark.parametrize(
    ("network", "wish", "status", "message"),
    [
        ("nope", {}, 404, "network nope not found"),
        (
            *("host", {}, 400),
            (
                "cannot connect container to host network - container must be created in host"
                " network mode"
            ),
        ),
        (
            *("bridge", {"Aliases": ["a"]}, 400),
            (
                "invalid endpoint settings:\nnetwork-scoped alias is supported only for"
                " containers in user defined networks"
            ),
        ),
        (
            *("bridge", {"IPAMConfig": {"IPv4Address": "172.17.0.9"}}, 400),
            (
                "invalid endpoint settings:\nuser specified IP address is supported on user"
                " defined networks only"
            ),
        ),
        (
            *("ranged", {"IPAMConfig": {"IPv4Address": "10.9.9.9"}}, 400),
            (
                "invalid endpoint settings:\nno configured subnet or ip-range contain the IP"
                " address 10.9.9.9"
            ),
        ),
        (
            *("ranged", {"IPAMConfig": {"IPv4Address": "10.71.0.1"}}, 403),
            "Address already in use: 10.71.0.1 is the gateway of network ranged",
        ),
        (
            *("ranged", {"IPAMConfig": {"IPv4Address": "x"}}, 400),
            "invalid endpoint settings:\ninvalid IPv4 address: x",
        ),
    ],
)
def test_connects_that_are_refused(
    live: LiveDaemon, network: str, wish: dict[str, Any], status: int, message: str
) -> None:
    if live.http("GET", "/networks/ranged").status == 404:
        created(live, "ranged", IPAM={"Config": [{"Subnet": "10.71.0.0/24"}]})
    if live.http("GET", "/containers/web2/json").status == 404:
        live.adopt("web2")
    request = {"Container": "web2", "EndpointConfig": wish}
    found = fault(live, "POST", f"/networks/{network}/connect", request)
    assert found == (status, message)
    settings = live.http("GET", "/containers/web2/json").document["NetworkSettings"]
    assert settings["Networks"] == {}


def test_an_unknown_container(live: LiveDaemon) -> None:
    found = fault(live, "POST", "/networks/bridge/connect", {"Container": "nope"})
    assert found == (404, "No such container: nope")


# events


def stream(live: LiveDaemon, path: str) -> tuple[UnixConnection, http.client.HTTPResponse]:
    connection = UnixConnection(live.socket)
    connection.request("GET", path)
    return connection, connection.getresponse()  # the head comes before any event


def test_events_as_they_happen(live: LiveDaemon) -> None:
    filters = quote(json.dumps({"network": {"eventful": True}}))
    connection, response = stream(live, f"/v1.41/events?filters={filters}")
    try:
        assert response.getheader("Transfer-Encoding") == "chunked"
        network_id = created(live, "eventful")
        created(live, "uneventful")
        live.http("DELETE", "/networks/eventful")
        events = [json.loads(response.readline()) for _ in range(2)]
    finally:
        response.close()
        connection.close()
    assert [event["Action"] for event in events] == ["create", "destroy"]
    assert events[0]["Actor"] == {
        "ID": network_id,
        "Attributes": {"name": "eventful", "type": "bridge"},
    }
    assert (events[0]["Type"], events[0]["scope"]) == ("network", "local")
    assert events[0]["timeNano"] // 1_000_000_000 == events[0]["time"]


def test_events_of_the_past(live: LiveDaemon) -> None:
    before = time.time()
    network_id = created(live, "bygone")
    after = time.time()
    filters = quote(json.dumps({"event": ["create"], "type": ["network"]}))
    path = f"/events?since={before:.9f}&until={after:.9f}&filters={filters}"
    assert live.http("GET", path).document["Actor"]["ID"] == network_id
    status, message = fault(live, "GET", f"/events?since={after:.9f}&until={before:.9f}")
    assert status == 400
    assert "cannot be after" in message


# what is ours


def test_the_page_needs_nothing_from_elsewhere(live: LiveDaemon) -> None:
    page = live.http("GET", "/cnm/v1/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/cnm/v1/adopt" in page.document
    assert "http" not in page.document.replace("http-equiv", "")
    document = live.http("GET", "/cnm/v1/openapi.json").document
    assert "/networks/create" in document["paths"]


def test_doctor_and_sweep(live: LiveDaemon) -> None:
    live.http("POST", "/cnm/v1/sweep")
    assert live.http("POST", "/cnm/v1/sweep").document == {"Repairs": []}
    report = live.http("GET", "/cnm/v1/doctor").document
    assert report["Status"] in {"ok", "warning"}
    assert all(set(check) == {"Name", "Status", "Detail"} for check in report["Checks"])
