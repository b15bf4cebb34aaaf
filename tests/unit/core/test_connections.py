"""Connect, disconnect, adopt, release: rules, names, gateways, and nothing left by a failure."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ipaddress
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cnm import labels
from cnm.core.state import State
from cnm.errors import (
    CNMError,
    Conflict,
    Forbidden,
    InvalidParameter,
    KernelError,
    NotFound,
    TeardownError,
)
from cnm.types import EndpointRequest, IpamConfig, NetworkRequest, Phase, SandboxStatus

net = ipaddress.ip_network
addr = ipaddress.ip_address
EMPTY = EndpointRequest()


@pytest.fixture
def joined(world: Any) -> Any:
    """Networks blue (10.1.0.0/24) and red (dual stack), container c1."""
    world.core.networks.ensure_predefined()
    world.core.networks.create(
        NetworkRequest("blue", ipam_config=(IpamConfig(net("10.1.0.0/24")),))
    )
    world.core.networks.create(NetworkRequest("red", enable_ipv6=True))
    world.adopt("c1", 11)
    return world


def connect(world: Any, network: str, container: str = "c1", **request: Any) -> Any:
    return world.core.connections.connect(network, container, EndpointRequest(**request))


def test_connect_names_and_addresses(joined: Any) -> None:
    first, second = connect(joined, "blue"), connect(joined, "red")
    assert (first.interface_name, second.interface_name) == ("eth0", "eth1")
    assert str(first.interface.address) == "10.1.0.2/24"
    assert second.interface.address_ipv6 is not None
    assert first.phase is Phase.ACTIVE


def test_a_foreign_interface_name_is_passed_over(joined: Any) -> None:
    joined.kernel.foreign["/run/netns/c1"] = {"eth0"}
    assert connect(joined, "blue").interface_name == "eth1"


def test_chosen_interface_name(joined: Any) -> None:
    made = connect(joined, "blue", driver_opts={labels.ENDPOINT_IFNAME: "lan0"})
    assert made.interface_name == "lan0"
    with pytest.raises(Conflict, match='"lan0" is taken'):
        connect(joined, "red", driver_opts={labels.ENDPOINT_IFNAME: "lan0"})
    with pytest.raises(InvalidParameter, match="longer than 15"):
        connect(joined, "red", driver_opts={labels.ENDPOINT_IFNAME: "x" * 16})


def test_gateway_by_priority_for_each_family(joined: Any) -> None:
    connect(joined, "blue", gw_priority=5)
    connect(joined, "red")
    v4, v6 = joined.kernel.gateways["/run/netns/c1"]
    assert (v4.interface_name, v6.interface_name) == ("eth0", "eth1")
    joined.core.connections.disconnect("blue", "c1")
    v4, v6 = joined.kernel.gateways["/run/netns/c1"]
    assert (v4.interface_name, v6.interface_name) == ("eth1", "eth1")


REFUSALS: list[tuple[str, str, dict[str, Any], type[CNMError], str]] = [
    ("unknown network", "nope", {}, NotFound, "network nope not found"),
    ("host", "host", {}, InvalidParameter, "cannot connect container to host network"),
    ("none", "none", {}, InvalidParameter, "private (none) mode"),
    (
        "address outside",
        "blue",
        {"ipv4": addr("10.2.0.5")},
        InvalidParameter,
        (
            "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address "
            "10.2.0.5"
        ),
    ),
    (
        "gateway's address",
        "blue",
        {"ipv4": addr("10.1.0.1")},
        Forbidden,
        "Address already in use: 10.1.0.1 is the gateway of network blue",
    ),
    ("network address", "blue", {"ipv4": addr("10.1.0.0")}, InvalidParameter, "10.1.0.0"),
    ("broadcast", "blue", {"ipv4": addr("10.1.0.255")}, InvalidParameter, "10.1.0.255"),
    ("v6 on a v4 network", "blue", {"ipv6": addr("fd00::5")}, InvalidParameter, "fd00::5"),
    (
        "address on the default bridge",
        "bridge",
        {"ipv4": addr("172.17.0.9")},
        InvalidParameter,
        "user specified IP address is supported on user defined networks only",
    ),
    (
        "alias on the default bridge",
        "bridge",
        {"aliases": ("a",)},
        InvalidParameter,
        "network-scoped alias is supported only for containers in user defined networks",
    ),
]


@pytest.mark.parametrize(
    ("network", "wish", "kind", "text"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_refused_and_nothing_changed(
    joined: Any, network: str, wish: dict[str, Any], kind: type[CNMError], text: str
) -> None:
    before = joined.leased()
    with pytest.raises(kind) as refused:
        connect(joined, network, **wish)
    assert text in str(refused.value)
    assert joined.leased() == before
    assert joined.kernel.links == {}


def test_twice(joined: Any) -> None:
    connect(joined, "blue")
    with pytest.raises(Forbidden, match="endpoint with name c1 already exists in network blue"):
        connect(joined, "blue")
    with pytest.raises(NotFound, match="No such container: other"):
        connect(joined, "blue", "other")


def test_disconnect_gives_everything_back(joined: Any) -> None:
    before = joined.leased()
    connect(joined, "blue")
    joined.core.connections.disconnect("blue", "c1")
    assert joined.leased() == before
    assert (joined.kernel.links, joined.kernel.configured) == ({}, {})
    with pytest.raises(CNMError, match="container [0-9a-f]{64} is not connected to network blue"):
        joined.core.connections.disconnect("blue", "c1")


@pytest.mark.parametrize("step", range(1, 5))
def test_any_failing_step_leaves_no_trace(joined: Any, step: int) -> None:
    connect(joined, "red")
    before = (
        joined.leased(),
        dict(joined.kernel.links),
        dict(joined.kernel.configured),
        dict(joined.kernel.gateways),
        joined.core.inspector.container(joined.core.sandboxes.find("c1")),
    )
    joined.kernel.fault.arm(step)
    with pytest.raises(KernelError):
        connect(joined, "blue", gw_priority=1)  # create endpoint, join, interface, gateway
    after = (
        joined.leased(),
        joined.kernel.links,
        {k: v for k, v in joined.kernel.configured.items() if k[1] != "eth1"},
        joined.kernel.gateways,
        joined.core.inspector.container(joined.core.sandboxes.find("c1")),
    )
    assert after == before
    connect(joined, "blue", gw_priority=1)


# adopt and release


def test_adopt_refusals(joined: Any) -> None:
    adopt = joined.core.sandboxes.adopt
    other = joined.namespace("c2", 12)
    joined.namespace("file", 0)
    with pytest.raises(Conflict, match='The container name "/c1" is already in use'):
        adopt("c1", other)
    with pytest.raises(Conflict, match='is container "c1" already'):
        adopt("c2", "/run/netns/c1")
    with pytest.raises(InvalidParameter, match=r"Invalid container name \(-x\)"):
        adopt("-x", other)
    with pytest.raises(NotFound):
        adopt("c2", "/run/netns/nope")
    with pytest.raises(InvalidParameter, match="no network namespace"):
        adopt("c2", "/run/netns/file")
    with pytest.raises(InvalidParameter, match="either --netns PATH or --pid PID"):
        adopt("c2")
    assert [item.name for item in joined.core.sandboxes.all()] == ["c1"]


def test_one_namespace_is_one_container_however_fast(joined: Any) -> None:
    path = joined.namespace("c2", 12)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: attempt(joined, f"x{n}", path), range(8)))
    assert made.count(True) == 1


def attempt(world: Any, name: str, path: str) -> bool:
    try:
        world.core.sandboxes.adopt(name, path)
    except Conflict:
        return False
    return True


def test_ambiguous_prefix_has_dockers_message(joined: Any) -> None:
    for number in range(20):
        joined.adopt(f"x{number}", 100 + number)
    digits = [item.id[0] for item in joined.core.sandboxes.all()]
    digit = max(digits, key=digits.count)
    with pytest.raises(InvalidParameter) as refused:
        joined.core.sandboxes.find(digit)
    assert str(refused.value) == f"multiple IDs found with provided prefix: {digit}"


def test_release_disconnects_everything(joined: Any) -> None:
    before = joined.leased()
    connect(joined, "blue")
    connect(joined, "red")
    joined.core.sandboxes.release("c1")
    assert joined.leased() == before
    assert (joined.kernel.links, joined.core.sandboxes.all()) == ({}, [])


def test_a_stopped_container_keeps_static_addresses_and_networks(joined: Any) -> None:
    connect(joined, "blue", ipv4=addr("10.1.0.9"), aliases=("web",))
    connect(joined, "red")
    del joined.kernel.namespaces["/run/netns/c1"]
    joined.kernel.links.clear()
    joined.core.reconciler.sweep()
    record = joined.core.sandboxes.find("c1")
    assert record.status is SandboxStatus.EXITED
    assert "10.1.0.9" in joined.leased()
    assert "172.18.0.2" not in joined.leased()
    joined.adopt("c2", 12)
    with pytest.raises(Forbidden, match="already in use: 10.1.0.9 belongs to container c1"):
        connect(joined, "blue", "c2", ipv4=addr("10.1.0.9"))
    again = joined.adopt("c1", 13)
    assert again.id == record.id
    networks = joined.core.inspector.container(again)["NetworkSettings"]["Networks"]
    assert networks["blue"]["IPAddress"] == "10.1.0.9"
    assert networks["blue"]["Aliases"] == ["web"]
    assert networks["red"]["IPAddress"] != ""


def test_connecting_a_stopped_container_keeps_the_wish(joined: Any) -> None:
    del joined.kernel.namespaces["/run/netns/c1"]
    joined.core.reconciler.sweep()
    connect(joined, "blue", ipv4=addr("10.1.0.7"))
    assert joined.kernel.links == {}
    assert "10.1.0.7" in joined.leased()
    joined.core.connections.disconnect("blue", "c1")
    assert "10.1.0.7" not in joined.leased()


def is_disconnected(world: Any) -> None:
    world.core.connections.disconnect("blue", "c1")


def has_ended(world: Any) -> None:
    del world.kernel.namespaces["/run/netns/c1"]
    world.core.reconciler.sweep()


LEAVES = pytest.mark.parametrize("leave", [is_disconnected, has_ended])


@LEAVES
def test_an_address_that_was_just_given_back_is_another_ones(
    joined: Any, monkeypatch: pytest.MonkeyPatch, leave: Callable[[Any], None]
) -> None:
    """Whoever asks while it is written that it is free waits for that, and is not refused."""
    given = connect(joined, "blue").interface.address.ip
    joined.adopt("c2", 12)
    write, got = State.write, []

    with ThreadPoolExecutor(1) as other:

        def meanwhile(self: State, **what: Any) -> None:
            if str(given) not in joined.leased():
                monkeypatch.undo()
                got.append(other.submit(connect, joined, "blue", "c2", ipv4=given))
                concurrent.futures.wait(got, 0.2)
            write(self, **what)

        monkeypatch.setattr(State, "write", meanwhile)
        leave(joined)
        assert got[0].result(10).interface.address.ip == given
    assert str(given) in joined.leased()


@LEAVES
def test_an_address_is_given_back_once_even_if_the_rest_has_to_be_done_again(
    joined: Any, monkeypatch: pytest.MonkeyPatch, leave: Callable[[Any], None]
) -> None:
    """Or the second time it would be taken from whoever has it by then."""
    given = connect(joined, "blue").interface.address.ip
    joined.adopt("c2", 12)
    joined.adopt("c3", 13)
    driver = joined.core.registry.driver("bridge")

    def refused(*_: object) -> None:
        raise KernelError(16, "the link")

    monkeypatch.setattr(driver, "leave", refused)
    told = pytest.raises(TeardownError, match="disconnect c1 from blue")
    with told if leave is is_disconnected else contextlib.nullcontext():
        leave(joined)
    second = connect(joined, "blue", "c2", ipv4=given)
    monkeypatch.undo()
    joined.core.reconciler.sweep()
    assert str(given) in joined.leased()
    with pytest.raises(Forbidden, match=f"{given} belongs to container c2"):
        connect(joined, "blue", "c3", ipv4=given)
    assert second.interface.address.ip == given


@pytest.mark.parametrize("step", range(1, 4))
def test_failed_revival_leaves_the_container_stopped(joined: Any, step: int) -> None:
    connect(joined, "blue", ipv4=addr("10.1.0.9"))
    del joined.kernel.namespaces["/run/netns/c1"]
    joined.kernel.links.clear()
    joined.core.reconciler.sweep()
    before = joined.leased()
    joined.kernel.fault.arm(step)
    with pytest.raises(KernelError):
        joined.adopt("c1", 13)
    assert joined.core.sandboxes.find("c1").status is SandboxStatus.EXITED
    assert joined.leased() == before
    joined.adopt("c1", 13)
    assert joined.core.sandboxes.find("c1").status is SandboxStatus.RUNNING
