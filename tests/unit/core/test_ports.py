"""Published ports: where they are, that they move, what a failure and a killed daemon leave."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cnm.containerapi import ContainerDefinition
from cnm.core.publishing import is_met
from cnm.errors import CNMError, InvalidParameter, KernelError, NotFound
from cnm.types import Endpoint, EndpointRequest, IpamConfig, NetworkRequest, PortBinding

ip = ipaddress.ip_address
WEB = PortBinding("tcp", 80, None, 5005)


@pytest.fixture
def machine(world: Any) -> Any:
    """Networks blue, red (dual stack) and shut (internal)."""
    world.core.reconciler.start()
    world.core.networks.ensure_predefined()
    pool = IpamConfig(ipaddress.ip_network("10.1.0.0/24"))
    world.core.networks.create(NetworkRequest("blue", ipam_config=(pool,)))
    world.core.networks.create(NetworkRequest("red", enable_ipv6=True))
    world.core.networks.create(NetworkRequest("shut", internal=True))
    return world


def create(machine: Any, name: str = "k1", *ports: PortBinding, **wish: Any) -> Any:
    wish.setdefault("network_mode", "blue")
    wish.setdefault("ports", ports or (WEB,))
    return machine.core.containers.create(name, ContainerDefinition("busybox", **wish))


def run(machine: Any, name: str = "k1", *ports: PortBinding, **wish: Any) -> Any:
    record = create(machine, name, *ports, **wish)
    machine.core.containers.start(name)
    return machine.core.containers.find(record.id)


def connect(machine: Any, network: str, name: str = "k1", **request: Any) -> None:
    machine.core.connections.connect(network, name, EndpointRequest(**request))


def shown(machine: Any, name: str = "k1") -> dict[str, Any]:
    record = machine.core.containers.find_any(name)
    documents = machine.core.documents if hasattr(record, "definition") else machine.core.inspector
    ports: dict[str, Any] = documents.container(record)["NetworkSettings"]["Ports"]
    return ports


def holder(machine: Any, port: int = 5005) -> str | None:
    """The network whose endpoint has a port of the host."""
    held = machine.kernel.ports.held
    found = {owner for (_, _, number), owner in held.items() if number == port}
    networks = machine.core.networks
    records = {item.id: item for item in machine.stored(Endpoint)}
    names = {networks.find(records[owner].network_id).name for owner in found}
    assert len(names) <= 1
    return names.pop() if names else None


BOTH = [{"HostIp": "0.0.0.0", "HostPort": "5005"}, {"HostIp": "::", "HostPort": "5005"}]


def test_ports_are_there_while_it_runs(machine: Any) -> None:
    create(machine, "k1", WEB, exposed_ports=("80/tcp", "81/udp"))
    assert shown(machine) == {}
    machine.core.containers.start("k1")
    assert shown(machine) == {"80/tcp": BOTH, "81/udp": None}
    listed = machine.core.documents.summary(machine.core.containers.find("k1"))["Ports"]
    assert listed == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 5005, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 5005, "Type": "tcp"},
        {"PrivatePort": 81, "Type": "udp"},
    ]
    machine.core.containers.stop("k1")
    assert (shown(machine), machine.kernel.ports.held) == ({}, {})
    machine.core.containers.start("k1")
    assert shown(machine)["80/tcp"] == BOTH
    machine.core.containers.remove("k1", force=True)
    assert machine.kernel.ports.held == {}


def test_publish_all_takes_what_is_exposed_and_has_no_port(machine: Any) -> None:
    wish = {"exposed_ports": ("80/tcp", "53/udp"), "publish_all": True}
    run(machine, "k1", WEB, **wish)
    assert shown(machine)["80/tcp"] == BOTH
    assert [item["HostPort"] for item in shown(machine)["53/udp"]] == ["32768", "32768"]


def test_a_taken_port_leaves_a_created_container(machine: Any) -> None:
    run(machine, "k1")
    record = create(machine, "k2")
    text = (
        r"driver failed programming external connectivity on endpoint k2 \([0-9a-f]{64}\): "
        r"Bind for 0.0.0.0:5005 failed: port is already allocated \(held by container k1\)$"
    )
    with pytest.raises(CNMError, match=text) as failed:
        machine.core.containers.start("k2")
    assert failed.value.http_status == 500
    record = machine.core.containers.find(record.id)
    assert (record.status.value, record.exit_code) == ("created", 128)
    assert "port is already allocated" in record.error
    assert holder(machine) == "blue"
    machine.core.containers.stop("k1")
    machine.core.containers.start("k2")
    assert shown(machine, "k2")["80/tcp"] == BOTH


def test_what_cannot_be_published_is_refused_before_anything(machine: Any) -> None:
    create(machine, "k1", PortBinding("tcp", 80, ip("10.9.9.9"), 5005))
    before = dict(machine.kernel.namespaces)
    with pytest.raises(InvalidParameter, match=r"10\.9\.9\.9 is not an address of this host"):
        machine.core.containers.start("k1")
    assert machine.kernel.namespaces == before
    assert machine.kernel.ports.calls == []


def test_two_at_once_want_one_port(machine: Any) -> None:
    names = [f"k{number}" for number in range(8)]
    for name in names:
        create(machine, name)

    def start(name: str) -> bool:
        try:
            return bool(machine.core.containers.start(name))
        except CNMError as error:
            refusals.append(str(error))
            return False

    refusals: list[str] = []
    with ThreadPoolExecutor(8) as pool:
        started = [name for name, went in zip(names, pool.map(start, names), strict=True) if went]
    assert len(started) == 1
    assert all("port is already allocated" in text for text in refusals)
    assert shown(machine, started[0])["80/tcp"] == BOTH


# the default route and what follows it


def test_ports_follow_the_default_route(machine: Any) -> None:
    run(machine, "k1")
    assert holder(machine) == "blue"
    connect(machine, "red", gw_priority=5)
    assert holder(machine) == "red"
    machine.core.connections.disconnect("red", "k1")
    assert holder(machine) == "blue"
    machine.core.connections.disconnect("blue", "k1")
    assert (holder(machine), shown(machine)) == (None, {})
    connect(machine, "red")
    assert holder(machine) == "red"


def test_a_start_on_several_networks_publishes_once(machine: Any) -> None:
    endpoints = {"red": EndpointRequest(gw_priority=5), "shut": EndpointRequest()}
    run(machine, "k1", endpoints=endpoints)
    assert holder(machine) == "red"
    assert machine.kernel.ports.calls == ["program"]


def test_families_part_where_the_default_routes_do(machine: Any) -> None:
    run(machine, "k1", endpoints={"blue": EndpointRequest(gw_priority=5), "red": EndpointRequest()})
    held = machine.kernel.ports.held
    owners = {address: held["tcp", address, 5005] for address in (ip("0.0.0.0"), ip("::"))}
    assert len(set(owners.values())) == 2
    assert sorted(item["HostIp"] for item in shown(machine)["80/tcp"]) == ["0.0.0.0", "::"]
    connect(machine, "bridge")  # no change: later in the order
    machine.core.connections.disconnect("red", "k1")
    assert {held["tcp", address, 5005] for address in owners} == {owners[ip("0.0.0.0")]}


def test_nothing_is_published_on_an_internal_network(machine: Any) -> None:
    run(machine, "k1", network_mode="shut", exposed_ports=("80/tcp",))
    assert shown(machine) == {"80/tcp": None}
    assert machine.kernel.ports.held == {}


def test_a_move_that_fails_leaves_ports_where_they_were(machine: Any) -> None:
    run(machine, "k1")
    for step in range(1, 12):
        machine.kernel.fault.arm(step)
        try:
            connect(machine, "red", gw_priority=5)
        except (KernelError, CNMError):
            assert holder(machine) == "blue", step
            assert shown(machine) == {"80/tcp": BOTH}, step
            assert (
                len(machine.core.inspector.networks(machine.core.containers.find("k1").id, "k1"))
                == 1
            )
        else:
            machine.kernel.fault.arm(0)
            assert step > 4  # earlier ones must have failed
            break
    assert holder(machine) == "red"


def test_ports_that_cannot_move_wait_for_the_sweep(machine: Any) -> None:
    run(machine, "k1")
    connect(machine, "red", gw_priority=5)
    machine.core.connections.disconnect("red", "k1")
    connect(machine, "red", gw_priority=5)
    machine.kernel.fault.arm(2)  # the first step is the route
    machine.core.connections.disconnect("red", "k1")
    assert holder(machine) is None
    assert [item.name for item in machine.core.reconciler.sweep()] == ["k1"]
    assert (holder(machine), shown(machine)) == ("blue", {"80/tcp": BOTH})
    assert machine.core.reconciler.sweep() == []


# while it runs


def test_publish_and_unpublish_while_it_runs(machine: Any) -> None:
    ports = machine.core.ports
    run(machine, "k1")
    more = PortBinding("tcp", 81, ip("127.0.0.1"), 5006)
    assert ports.publish("k1", [more])[-1] == more
    assert ports.publish("k1", [more, WEB])[-1] == more  # as it is
    assert shown(machine)["81/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "5006"}]
    host = machine.core.documents.container(machine.core.containers.find("k1"))["HostConfig"]
    assert host["PortBindings"] == {
        "80/tcp": [{"HostIp": "", "HostPort": "5005"}],
        "81/tcp": [{"HostIp": "127.0.0.1", "HostPort": "5006"}],
    }
    machine.core.containers.restart("k1")
    assert set(shown(machine)) == {"80/tcp", "81/tcp"}
    assert ports.unpublish("k1", [PortBinding("tcp", 80)]) == (more,)
    assert ports.unpublish("k1", None) == ()
    machine.core.containers.restart("k1")
    assert (shown(machine), machine.kernel.ports.held) == ({}, {})


def test_a_port_that_is_taken_is_not_published_and_not_remembered(machine: Any) -> None:
    run(machine, "k1")
    run(machine, "k2", PortBinding("tcp", 80, None, 6000))
    with pytest.raises(CNMError, match="port is already allocated"):
        machine.core.ports.publish("k2", [PortBinding("tcp", 81, None, 6001), WEB])
    assert set(shown(machine, "k2")) == {"80/tcp"}
    machine.core.containers.restart("k2")
    assert set(shown(machine, "k2")) == {"80/tcp"}


def test_what_unpublish_may_name(machine: Any) -> None:
    random, fixed = PortBinding("tcp", 80), PortBinding("tcp", 80, None, 5005)
    ports = machine.core.ports
    for wanted in (
        PortBinding("tcp", 80, None, 32768),
        PortBinding("tcp", 80, ip("0.0.0.0"), 32768),
    ):
        run(machine, "k1", random, fixed)
        ports.unpublish("k1", [wanted])
        assert {item["HostPort"] for item in shown(machine)["80/tcp"]} == {"5005"}
        machine.core.containers.remove("k1", force=True)
    run(machine, "k1", random, fixed)
    with pytest.raises(NotFound, match="No public port '81/tcp' published for k1"):
        ports.unpublish("k1", [PortBinding("tcp", 81)])
    with pytest.raises(NotFound, match="No public port '80/tcp' published for k1"):
        ports.unpublish("k1", [PortBinding("tcp", 80, None, 7)])
    assert len(shown(machine)["80/tcp"]) == 4
    assert ports.unpublish("k1", [PortBinding("tcp", 80)]) == ()


def test_publish_names_who_has_no_ports(machine: Any) -> None:
    run(machine, "k1", network_mode="host", ports=())
    with pytest.raises(InvalidParameter, match="has no network of its own: it uses that of the ho"):
        machine.core.ports.publish("k1", [WEB])
    with pytest.raises(NotFound, match="No such container: k9"):
        machine.core.ports.publish("k9", [WEB])
    with pytest.raises(InvalidParameter, match="no port specified"):
        machine.core.ports.publish("k1", [])


def test_ports_of_an_adopted_namespace(machine: Any) -> None:
    machine.adopt("a1", 11)
    assert machine.core.ports.publish("a1", [WEB]) == ()  # on no network yet
    connect(machine, "blue", "a1")
    assert shown(machine, "a1") == {"80/tcp": BOTH}
    del machine.kernel.namespaces["/run/netns/a1"]
    machine.core.reconciler.sweep()
    assert machine.kernel.ports.held == {}
    machine.adopt("a1", 12)  # the name comes back, and its networks and ports with it
    assert shown(machine, "a1") == {"80/tcp": BOTH}
    machine.core.sandboxes.release("a1")
    assert machine.kernel.ports.held == {}


def test_shared_stacks_publish_nothing_of_their_own(machine: Any) -> None:
    run(machine, "k1")
    with pytest.raises(InvalidParameter, match="port publishing and the container type network"):
        create(machine, "k2", network_mode="container:k1")


# the next daemon


def test_the_next_daemon_finds_ports_as_they_were(machine: Any) -> None:
    run(machine, "k1", WEB, PortBinding("tcp", 81))
    before, held = shown(machine), dict(machine.kernel.ports.held)
    machine.start()
    assert machine.core.reconciler.start() == []
    assert (shown(machine), machine.kernel.ports.held) == (before, held)
    machine.kernel.ports.held.clear()
    assert [item.action for item in machine.core.reconciler.sweep()] == ["published again"]
    assert machine.kernel.ports.held == held


def test_a_daemon_killed_in_a_move_or_a_publish_goes_back(machine: Any) -> None:
    run(machine, "k1")
    (endpoint,) = machine.stored(Endpoint)
    machine.kernel.ports.held["tcp", ip("::"), 9999] = endpoint.id  # programmed, never written
    machine.start()
    machine.core.reconciler.start()
    assert {number for _, _, number in machine.kernel.ports.held} == {5005}


@pytest.mark.parametrize(
    ("wishes", "ports", "met"),
    [
        ("80", "", False),
        ("80", "32768>80", True),
        ("80 80", "32768>80", False),
        ("80 5005:80", "5005>80", False),
        ("80 5005:80", "5005>80 32768>80", True),
        ("5000-5010:80", "5007>80", True),
        ("5000-5010:80", "5011>80", False),
        ("", "5005>80", False),
        ("5005:80", "5005>80 5006>80", False),
        ("", "", True),
    ],
)
def test_wishes_and_what_came_of_them(wishes: str, ports: str, met: bool) -> None:
    def wish(text: str) -> PortBinding:
        host, _, port = text.rpartition(":")
        first, _, last = host.partition("-")
        return PortBinding("tcp", int(port), None, int(first or 0), int(last or 0))

    real = [
        PortBinding("tcp", int(inner), address, int(outer))
        for outer, _, inner in (text.partition(">") for text in ports.split())
        for address in (ip("0.0.0.0"), ip("::"))
    ]
    assert is_met([wish(text) for text in wishes.split()], real) is met


def calls(work: Callable[[], object]) -> int:
    """How many functions it calls, which does not depend on how busy the machine is."""
    count = 0

    def seen(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("what", ["publish one more", "unpublish one", "unpublish each by name"])
def test_work_grows_with_the_ports_of_a_container_not_with_their_square(
    machine: Any, what: str
) -> None:
    run(machine, "k1")
    ports = machine.core.ports

    def counted(number: int) -> int:
        many = [PortBinding("tcp", 80, ip("0.0.0.0"), 10000 + each) for each in range(number)]
        ports.publish("k1", many)
        more = PortBinding("tcp", 81, ip("0.0.0.0"), 7)
        found = {
            "publish one more": lambda: ports.publish("k1", [more]),
            "unpublish one": lambda: ports.unpublish("k1", [many[-1]]),
            "unpublish each by name": lambda: ports.unpublish("k1", many),
        }
        count = calls(found[what])
        ports.unpublish("k1", None)
        return count

    few, many = counted(50), counted(400)
    assert many < 16 * few  # eight times as many; their square is 64 times as much
