"""Real clients on our socket: the docker command and docker-py."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import docker
import pytest
from docker.errors import APIError, NotFound
from docker.types import IPAMConfig, IPAMPool
from livedaemon import LiveDaemon

pytestmark = pytest.mark.kernel


@pytest.fixture
def client(live: LiveDaemon) -> Iterator[docker.DockerClient]:
    with contextlib.closing(docker.DockerClient(base_url=live.host)) as made:
        yield made


def test_docker_network_ls(live: LiveDaemon) -> None:
    rows = [line.split() for line in live.docker("network", "ls").stdout.splitlines()]
    assert rows[0] == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    assert [row[1:] for row in rows[1:4]] == [
        ["bridge", "bridge", "local"],
        ["host", "host", "local"],
        ["none", "null", "local"],
    ]


def test_docker_network_from_create_to_rm(live: LiveDaemon) -> None:
    flags = (
        "--subnet",
        "10.80.0.0/24",
        "--label",
        "l=v",
        "-o",
        "com.docker.network.driver.mtu=1400",
    )
    network_id = live.docker("network", "create", *flags, "cli").stdout.strip()
    assert len(network_id) == 64
    netns = live.adopt("cli-c1")
    live.docker("network", "connect", "--ip", "10.80.0.5", "--alias", "db", "cli", "cli-c1")
    (document,) = json.loads(live.docker("network", "inspect", "cli").stdout)
    (container,) = document["Containers"].values()
    assert container["IPv4Address"] == "10.80.0.5/24"
    (link,) = live.ip("link", "show", "dev", "eth0", netns=netns)
    assert (link["mtu"], link["address"]) == (1400, container["MacAddress"])
    refused = live.docker("network", "rm", "cli", check=False)
    assert refused.returncode == 1
    assert 'has active endpoints (name:"cli-c1" id:' in refused.stderr
    live.docker("network", "disconnect", "cli", "cli-c1")
    assert live.docker("network", "rm", "cli").stdout == "cli\n"
    live.cnm("release", "cli-c1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("network", "inspect", "nope"), "network nope not found"),
        (("network", "rm", "bridge"), "bridge is a pre-defined network and cannot be removed"),
        (("network", "connect", "nope", "c"), "network nope not found"),
        (("run", "busybox"), "Unable to find image 'busybox:latest' locally: make it with"),
        (("node", "ls"), "This node is not a swarm manager."),
    ],
)
def test_docker_s_refusals(live: LiveDaemon, arguments: tuple[str, ...], message: str) -> None:
    done = live.docker(*arguments, check=False)
    assert done.returncode != 0
    assert f"Error response from daemon: {message}" in done.stderr


def test_docker_inspect_finds_networks(live: LiveDaemon) -> None:
    (document,) = json.loads(live.docker("inspect", "none").stdout)
    assert document["Driver"] == "null"


def test_docker_version_and_info(live: LiveDaemon) -> None:
    version = json.loads(live.docker("version", "--format", "{{json .Server}}").stdout)
    assert (version["ApiVersion"], version["MinAPIVersion"]) == ("1.51", "1.24")
    info = json.loads(live.docker("info", "--format", "{{json .}}").stdout)
    assert {"bridge", "host", "null"} <= set(info["Plugins"]["Network"])
    assert live.docker("ps", "-q", "--filter", "name=nobody").stdout == ""


def test_docker_py_networks(client: docker.DockerClient) -> None:
    pool = IPAMPool(subnet="10.81.0.0/24", gateway="10.81.0.254", aux_addresses={"a": "10.81.0.9"})
    made = client.networks.create(
        "py one", ipam=IPAMConfig(pool_configs=[pool]), labels={"a": "b"}, check_duplicate=True
    )
    assert client.networks.get("py one").id == made.id
    assert [item.id for item in client.networks.list(filters={"label": "a=b"})] == [made.id]
    assert [item.id for item in client.networks.list(ids=[made.id])] == [made.id]
    config = client.networks.get(made.id).attrs["IPAM"]["Config"]
    assert config == [
        {
            "Subnet": "10.81.0.0/24",
            "Gateway": "10.81.0.254",
            "AuxiliaryAddresses": {"a": "10.81.0.9"},
        }
    ]
    made.remove()
    with pytest.raises(NotFound):
        client.networks.get("py one")


def test_docker_py_connects(live: LiveDaemon, client: docker.DockerClient) -> None:
    live.adopt("py-c1")
    network = client.networks.create("py-two")
    network.connect("py-c1", aliases=["web"])
    network.reload()
    assert [container.name for container in network.containers] == ["py-c1"]
    (listed,) = client.networks.list(names=["py-two"], greedy=True)
    assert [container.name for container in listed.containers] == ["py-c1"]
    network.disconnect("py-c1")
    network.reload()
    assert network.containers == []
    assert "py-two" in client.networks.prune()["NetworksDeleted"]
    live.cnm("release", "py-c1")


def test_docker_py_swarm_leave_is_accepted(client: docker.DockerClient) -> None:
    """Its own network tests do this after each test, and accept 503."""
    assert client.swarm.leave(force=True)


def test_docker_py_errors(client: docker.DockerClient) -> None:
    with pytest.raises(APIError) as caught:
        client.networks.create("bridge")
    assert caught.value.status_code == 403
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("busybox")
