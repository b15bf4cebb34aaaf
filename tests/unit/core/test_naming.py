"""What the resolver is told, and when; judged by a resolver made of dictionaries."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cnm import labels
from cnm.containerapi import Command, ContainerDefinition, NameService
from cnm.discovery import NameLink
from cnm.errors import InvalidParameter, KernelError
from cnm.types import EndpointRequest, IpamConfig, NetworkRequest

net = ipaddress.ip_network
addr = ipaddress.ip_address


@pytest.fixture
def joined(world: Any) -> Any:
    """Networks blue (10.1.0.0/24), red and cellar (internal), containers c1 and c2."""
    world.core.networks.ensure_predefined()
    blue = (IpamConfig(net("10.1.0.0/24")),)
    world.core.networks.create(NetworkRequest("blue", ipam_config=blue))
    world.core.networks.create(NetworkRequest("red"))
    world.core.networks.create(NetworkRequest("cellar", internal=True))
    world.adopt("c1", 11)
    world.adopt("c2", 12)
    return world


def connect(world: Any, network: str, container: str = "c1", **request: Any) -> Any:
    return world.core.connections.connect(network, container, EndpointRequest(**request))


def view(world: Any, container: str = "c1") -> Any:
    return world.names.views[world.core.sandboxes.find(container).id]


def ids(world: Any, *names: str) -> tuple[str, ...]:
    return tuple(world.core.networks.find(name).id for name in names)


def failing_steps(world: Any, verb: Callable[[], object]) -> Iterator[int]:
    """Do something again and again, each time failing at a later step, until it is done."""
    for step in itertools.count(1):
        world.kernel.fault.arm(step)
        try:
            verb()
        except KernelError:
            yield step
        else:
            world.kernel.fault.arm(0)
            assert step > 4
            return


def test_an_endpoint_is_published_and_withdrawn(joined: Any) -> None:
    endpoint = connect(joined, "blue", aliases=("web", "c1"))
    (named,) = joined.names.networks[endpoint.network_id].values()
    short = joined.core.sandboxes.find("c1").id[:12]
    assert named.names == ("c1", "web", short)
    assert named.addresses == (addr("10.1.0.2"),)
    assert view(joined).networks == ids(joined, "blue")
    joined.core.connections.disconnect("blue", "c1")
    assert joined.names.networks == {}
    assert view(joined).networks == ()  # it is served until it is released
    joined.core.sandboxes.release("c1")
    assert joined.names.views == {}


def test_the_default_bridge_has_no_names(joined: Any) -> None:
    connect(joined, "bridge")
    assert (joined.names.networks, joined.names.views) == ({}, {})


def test_a_failed_connect_leaves_no_name(joined: Any) -> None:
    steps = failing_steps(joined, lambda: connect(joined, "blue"))
    for _ in steps:
        assert (joined.names.networks, joined.names.views) == ({}, {})
    assert "c1.blue" in joined.names.names()


def test_a_failed_second_connect_leaves_the_first(joined: Any) -> None:
    connect(joined, "blue")
    before = (view(joined), joined.names.names())
    for _ in failing_steps(joined, lambda: connect(joined, "red")):
        assert (view(joined), joined.names.names()) == before
    assert "c1.red" in joined.names.names()


def test_networks_in_the_order_of_docker(joined: Any) -> None:
    for network in ("red", "cellar", "blue"):
        connect(joined, network)
    assert view(joined).networks == ids(joined, "blue", "red", "cellar")
    joined.core.connections.disconnect("red", "c1")
    connect(joined, "red", gw_priority=1)
    assert view(joined).networks == ids(joined, "red", "blue", "cellar")


def test_only_who_has_a_way_out_asks_outside(joined: Any) -> None:
    connect(joined, "cellar")
    assert view(joined).forward is False
    connect(joined, "bridge")
    assert view(joined).forward is True
    joined.core.connections.disconnect("bridge", "c1")
    assert view(joined).forward is False


def test_links(joined: Any) -> None:
    endpoint = connect(joined, "blue", links=("c2:db", "c2"))
    assert view(joined).links == (
        NameLink("db", endpoint.network_id, "c2"),
        NameLink("c2", endpoint.network_id, "c2"),
    )


def test_servers_of_endpoint_network_and_daemon(joined: Any) -> None:
    one, two = "10.9.9.1", "10.9.9.2"
    made = NetworkRequest("dns", options={labels.NETWORK_DNS: f"{one}, {two}"})
    joined.core.networks.create(made)
    connect(joined, "blue")
    assert view(joined).servers == ()
    connect(joined, "dns")
    assert view(joined).servers == (addr(one), addr(two))
    connect(joined, "red", driver_opts={labels.ENDPOINT_DNS_SERVERS: "fd00::1"}, gw_priority=1)
    assert view(joined).servers == (addr("fd00::1"),)


def test_servers_are_addresses(joined: Any) -> None:
    with pytest.raises(InvalidParameter, match="must be IP addresses"):
        joined.core.networks.create(NetworkRequest("x", options={labels.NETWORK_DNS: "here"}))
    with pytest.raises(InvalidParameter, match="must be IP addresses"):
        connect(joined, "blue", driver_opts={labels.ENDPOINT_DNS_SERVERS: "here"})


# containers of the runtime


def run(world: Any, name: str = "k1", network: str = "blue", **wish: Any) -> Any:
    command = Command(arguments=("sleep", "1"))
    definition = ContainerDefinition("busybox", command=command, network_mode=network, **wish)
    record = world.core.containers.create(name, definition)
    world.core.containers.start(name)
    return record


def resolv_conf(world: Any, record: Any) -> Any:
    return world.folder / "root" / "containers" / record.id / "resolv.conf"


def test_a_container_is_published_while_it_runs(joined: Any) -> None:
    record = run(joined, hostname="till")
    assert joined.names.names() >= {"k1.blue", "till.blue", f"{record.id[:12]}.blue"}
    assert "nameserver 127.0.0.11\n" in resolv_conf(joined, record).read_text()
    joined.core.containers.stop("k1")
    assert (joined.names.networks, joined.names.views) == ({}, {})
    joined.core.containers.start("k1")
    assert "k1.blue" in joined.names.names()


def test_a_failed_start_leaves_no_name(joined: Any) -> None:
    run(joined)
    joined.core.containers.stop("k1")
    for _ in failing_steps(joined, lambda: joined.core.containers.start("k1")):
        assert (joined.names.networks, joined.names.views) == ({}, {})
    assert "k1.blue" in joined.names.names()


def test_rename_publishes_again(joined: Any) -> None:
    run(joined)
    joined.core.containers.rename("k1", "k2")
    assert "k2.blue" in joined.names.names()
    assert "k1.blue" not in joined.names.names()


def test_servers_of_a_container_are_for_its_resolver(joined: Any) -> None:
    servers = (addr("10.9.9.9"),)
    record = run(joined, names=NameService(servers))
    assert view(joined, "k1").servers == servers
    assert "# ExtServers: [10.9.9.9]\n" in resolv_conf(joined, record).read_text()


def test_resolv_conf_follows_the_networks_unless_it_was_edited(joined: Any) -> None:
    first, second = run(joined, network="bridge"), run(joined, "k2", network="bridge")
    resolv_conf(joined, second).write_text("nameserver 9.9.9.9\n")
    for name in ("k1", "k2"):
        connect(joined, "blue", name)
    assert "nameserver 127.0.0.11\n" in resolv_conf(joined, first).read_text()
    assert resolv_conf(joined, second).read_text() == "nameserver 9.9.9.9\n"


def test_a_half_written_resolv_conf_is_mended(joined: Any) -> None:
    record = run(joined)
    whole = resolv_conf(joined, record).read_text()
    resolv_conf(joined, record).write_text("")  # killed between truncation and writing
    joined.start()
    joined.core.reconciler.start()
    assert resolv_conf(joined, record).read_text() == whole


# start-up and sweep


def test_a_lost_name_is_told_again(joined: Any) -> None:
    endpoint = connect(joined, "blue")
    joined.names.networks[endpoint.network_id].clear()
    assert [str(item) for item in joined.core.reconciler.sweep()] == [
        "names blue: told the resolver again"
    ]
    assert "c1.blue" in joined.names.names()
    assert joined.core.reconciler.sweep() == []


def test_a_lost_resolver_is_opened_again(joined: Any) -> None:
    connect(joined, "blue")
    joined.names.views.clear()
    assert [str(item) for item in joined.core.reconciler.sweep()] == ["resolver c1: opened again"]
    assert view(joined).networks == ids(joined, "blue")


def test_what_nobody_owns_is_forgotten(joined: Any) -> None:
    connect(joined, "blue")
    stranger, stray = "f" * 64, "e" * 64
    joined.names.networks[stranger] = {}
    joined.names.views[stray] = view(joined)
    assert [str(item) for item in joined.core.reconciler.sweep()] == [
        f"names {'f' * 12}: forgotten: no such network",
        f"resolver {'e' * 12}: closed: no such container runs",
    ]
    assert stray not in joined.names.views
    assert stranger not in joined.names.networks


def test_a_namespace_that_went_is_noticed(joined: Any) -> None:
    connect(joined, "blue")
    record = joined.core.sandboxes.find("c1")
    joined.names.gone(record.id)  # a false alarm
    assert joined.core.sandboxes.find("c1").status.value == "running"
    del joined.kernel.namespaces[record.key]
    joined.names.gone(record.id)
    assert joined.core.sandboxes.find("c1").status.value == "exited"
    assert (joined.names.networks, joined.names.views) == ({}, {})
