"""What a sandbox does inside a namespace, judged by ip, sysctl and ping."""

from __future__ import annotations

import errno
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_network
from pathlib import Path

import pytest
from kernel.namespaces import Namespace, NamespaceFactory, delete_namespace, poll, record_of

from cnm.errors import InvalidParameter, KernelError, NotFound, SandboxGone
from cnm.runtime.kernel.netlink import OUR_PROTOCOL
from cnm.runtime.sandbox import NamespaceSandbox, NamespaceSandboxes
from cnm.sandboxapi import DefaultRoute, PlacedInterface
from cnm.types import EndpointInterface, JoinInfo, SandboxKey, SandboxRecord, StaticRoute

pytestmark = [pytest.mark.kernel, pytest.mark.both_kernels]

PLACED = JoinInfo("eth0", placed=True)
MAC = "02:42:0a:09:00:02"
V4_ONLY = EndpointInterface(IPv4Interface("10.9.0.2/24"), mac=MAC)
BOTH = EndpointInterface(IPv4Interface("10.9.0.2/24"), IPv6Interface("fd00:9::2/64"), MAC)
GATEWAY_4 = DefaultRoute("eth0", IPv4Address("10.9.0.1"))
GATEWAY_6 = DefaultRoute("eth0", IPv6Address("fd00:9::1"))
STATIC = JoinInfo(
    "eth0",
    placed=True,
    static_routes=(
        StaticRoute(ip_network("10.50.0.0/16"), IPv4Address("10.9.0.1")),
        StaticRoute(ip_network("fd00:50::/64")),
    ),
)


@pytest.fixture
def provider(host_ns: Namespace) -> Iterator[NamespaceSandboxes]:
    made = NamespaceSandboxes()
    yield made
    made.close()


@pytest.fixture
def box(host_ns: Namespace, make_ns: NamespaceFactory) -> Namespace:
    """A container's namespace, loopback down, with eth0 placed; the host is its gateway."""
    made = make_ns("box")
    made.sh("link set lo down; address flush dev lo")
    host_ns.sh(
        f"link add v0 type veth peer name eth0 netns {made.name} address {MAC};"
        "address add 10.9.0.1/24 dev v0; address add fd00:9::1/64 dev v0 nodad; link set v0 up"
    )
    return made


Opener = Callable[[], AbstractContextManager[NamespaceSandbox]]


@pytest.fixture
def record(box: Namespace, provider: NamespaceSandboxes) -> SandboxRecord:
    identity, up = provider.identify(SandboxKey(box.path))
    return record_of(box, identity.cookie, loopback_was_up=up)


@pytest.fixture
def open_box(provider: NamespaceSandboxes, record: SandboxRecord) -> Opener:
    return lambda: provider.open(record)


def ipv6_settings(box: Namespace, name: str) -> dict[str, str]:
    keys = ("disable_ipv6", "accept_ra", "autoconf")
    text = box.run("cat", *(f"/proc/sys/net/ipv6/conf/{name}/{key}" for key in keys))
    return dict(zip(keys, text.split(), strict=True))


def test_identities(box: Namespace, host_ns: Namespace, provider: NamespaceSandboxes) -> None:
    _, up = provider.identify(SandboxKey(box.path))
    assert not up
    box.sh("link set lo up")
    assert provider.identify(SandboxKey(box.path))[1]
    with pytest.raises(NotFound, match="no such file"):
        provider.identify(SandboxKey("/run/netns/cnmt-absent"))
    with pytest.raises(InvalidParameter, match="not a network namespace"):
        provider.identify(SandboxKey("/etc/hostname"))
    with pytest.raises(InvalidParameter, match="own network namespace"):
        provider.identify(SandboxKey(host_ns.path))
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert provider.host_identity().startswith(boot_id)


def test_no_descriptor_left_is_no_namespace_gone(
    provider: NamespaceSandboxes, record: SandboxRecord
) -> None:
    """Who took it for gone would take a live container off its networks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(KernelError) as refused:
            provider.open(record)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused.value.errno == errno.EMFILE
    provider.open(record).__exit__(None, None, None)


def test_a_namespace_that_is_gone(
    box: Namespace, provider: NamespaceSandboxes, record: SandboxRecord
) -> None:
    delete_namespace(box)
    with pytest.raises(SandboxGone):
        provider.open(record)
    subprocess.run(["ip", "netns", "add", box.name], check=True)
    with pytest.raises(SandboxGone):
        provider.open(record)


@pytest.mark.usefixtures("leaves_nothing")
def test_nothing_stays_open(box: Namespace) -> None:
    provider = NamespaceSandboxes()
    identity, up = provider.identify(SandboxKey(box.path))
    record = record_of(box, identity.cookie, loopback_was_up=up)
    for _ in range(3):
        with provider.open(record) as sandbox:
            sandbox.add_interface(PLACED, BOTH)
            sandbox.set_default_gateway(GATEWAY_4, GATEWAY_6)
            sandbox.repair([PlacedInterface(PLACED, BOTH)], GATEWAY_4, GATEWAY_6)
    provider.close()


def test_an_ipv4_interface_has_no_ipv6_at_all(box: Namespace, open_box: Opener) -> None:
    with open_box() as sandbox:
        assert [sandbox.has_interface(name) for name in ("lo", "eth0", "eth1")] == [1, 1, 0]
        assert sandbox.add_interface(PLACED, V4_ONLY) == "eth0"
    assert box.addresses("eth0") == {"10.9.0.2/24"}
    assert ipv6_settings(box, "eth0")["disable_ipv6"] == "1"
    assert ipv6_settings(box, "eth0")["accept_ra"] == "0"
    assert {info["family"] for info in box.ip("address", "show", "eth0")[0]["addr_info"]} == {
        "inet"
    }
    assert box.pings("10.9.0.1")
    assert box.pings("127.0.0.1")


def test_a_link_that_was_placed_gets_its_mark(box: Namespace, open_box: Opener) -> None:
    with open_box() as sandbox:
        sandbox.add_interface(replace(PLACED, mark="cnm:inside:1"), V4_ONLY)
    assert box.ip("link", "show", "eth0")[0]["ifalias"] == "cnm:inside:1"


def test_ipv6_works_at_once_and_believes_no_router(box: Namespace, open_box: Opener) -> None:
    """CVE-2020-13401, CVE-2020-10749: whoever is the sender."""
    box.run("sysctl", "-q", "-w", "net.ipv6.conf.eth0.disable_ipv6=1")
    with open_box() as sandbox:
        sandbox.add_interface(PLACED, BOTH)
    assert box.addresses("eth0") == {"10.9.0.2/24", "fd00:9::2/64"}
    assert ipv6_settings(box, "eth0") == {"disable_ipv6": "0", "accept_ra": "0", "autoconf": "0"}
    assert box.pings("fd00:9::1")
    assert box.pings("10.9.0.1")


def test_link_local_addresses(box: Namespace, open_box: Opener) -> None:
    wanted = replace(
        V4_ONLY, link_local=(IPv4Interface("169.254.9.9/16"), IPv6Interface("fe80::77/64"))
    )
    with open_box() as sandbox:
        sandbox.add_interface(PLACED, wanted)
        assert sandbox.repair([PlacedInterface(PLACED, wanted)], None, None) == []
    found = box.ip("address", "show", "dev", "eth0")[0]["addr_info"]
    assert {"10.9.0.2", "169.254.9.9", "fe80::77"} <= {item["local"] for item in found}


def test_static_routes(box: Namespace, open_box: Opener) -> None:
    with open_box() as sandbox:
        sandbox.add_interface(STATIC, BOTH)
        sandbox.add_interface(STATIC, BOTH)  # again is fine
    assert box.routes() == {
        f"10.50.0.0/16 10.9.0.1 {OUR_PROTOCOL}",
        f"fd00:50::/64 {OUR_PROTOCOL}",
    }


def test_a_missing_interface_is_named(box: Namespace, open_box: Opener) -> None:
    with open_box() as sandbox, pytest.raises(KernelError, match="eth7"):
        sandbox.add_interface(JoinInfo("eth7", placed=True), V4_ONLY)


def test_a_link_is_moved_in_renamed_and_moved_back(
    box: Namespace, host_ns: Namespace, open_box: Opener
) -> None:
    host_ns.sh("link add remote0 type veth peer name remote1")
    join = JoinInfo("eth1", source_name="remote0")
    wanted = EndpointInterface(IPv4Interface("10.10.0.2/24"), mac="02:42:0a:0a:00:02")
    with open_box() as sandbox:
        for _ in range(2):
            assert sandbox.add_interface(join, wanted) == "eth1"
    assert host_ns.link("remote0") is None
    assert box.addresses("eth1") == {"10.10.0.2/24"}
    with open_box() as sandbox:
        for _ in range(2):
            sandbox.remove_interface("eth1")
    assert box.link("eth1") is None
    assert host_ns.link("remote0") is not None


def test_a_move_that_fails_half_way_is_undone(
    box: Namespace, host_ns: Namespace, open_box: Opener
) -> None:
    host_ns.sh("link add remote0 type veth peer name remote1")
    unreachable = (StaticRoute(ip_network("10.60.0.0/16"), IPv4Address("192.0.2.1")),)
    join = JoinInfo("eth1", source_name="remote0", static_routes=unreachable)
    with open_box() as sandbox, pytest.raises(KernelError, match="10.60.0.0/16"):
        sandbox.add_interface(join, V4_ONLY)
    assert box.link("eth1") is None
    assert host_ns.link("remote0") is not None


def test_a_foreign_link_of_that_name_is_not_taken_for_a_moved_one(
    box: Namespace, host_ns: Namespace, open_box: Opener
) -> None:
    host_ns.sh("link add remote0 type veth peer name remote1")
    with open_box() as sandbox, pytest.raises(KernelError, match="File exists"):
        sandbox.add_interface(JoinInfo("eth0", source_name="remote0"), V4_ONLY)
    assert host_ns.link("remote0") is not None
    assert box.addresses("eth0") == set()
    with open_box() as sandbox:
        sandbox.remove_interface("eth0")  # nor taken out
    assert box.link("eth0") is not None


def test_default_gateways_come_change_and_go(box: Namespace, open_box: Opener) -> None:
    with open_box() as sandbox:
        sandbox.add_interface(PLACED, BOTH)
        for _ in range(2):
            sandbox.set_default_gateway(GATEWAY_4, GATEWAY_6)
        assert box.routes("default") == {
            f"default 10.9.0.1 {OUR_PROTOCOL}",
            f"default fd00:9::1 {OUR_PROTOCOL}",
        }
        other = replace(GATEWAY_4, gateway=IPv4Address("10.9.0.7"))
        other_6 = replace(GATEWAY_6, gateway=IPv6Address("fd00:9::7"))
        sandbox.set_default_gateway(other, other_6)
        assert box.routes("default") == {
            f"default 10.9.0.7 {OUR_PROTOCOL}",
            f"default fd00:9::7 {OUR_PROTOCOL}",
        }
        sandbox.set_default_gateway(None, other_6)
        assert box.routes("default") == {f"default fd00:9::7 {OUR_PROTOCOL}"}
        sandbox.set_default_gateway(None, None)
        assert box.routes("default") == set()


def test_the_device_itself_can_be_the_way_out(box: Namespace, open_box: Opener) -> None:
    """As ipvlan in layer 3 has it: no gateway. A static route to everywhere is no other thing."""
    everywhere = tuple(StaticRoute(ip_network(text)) for text in ("0.0.0.0/0", "::/0"))
    joined = replace(PLACED, static_routes=everywhere)
    way_out = DefaultRoute("eth0", None)
    with open_box() as sandbox:
        sandbox.add_interface(joined, BOTH)
        assert not [route for route in box.routes() if route.startswith("default")]
        sandbox.set_default_gateway(way_out, way_out)
        found = box.ip("route", "show", "default") + box.ip("-6", "route", "show", "default")
        assert [(route["dev"], route.get("gateway")) for route in found] == [("eth0", None)] * 2
        placed = [PlacedInterface(joined, BOTH)]
        assert sandbox.repair(placed, way_out, way_out) == []
        for family in ("-4", "-6"):
            box.run("ip", family, "route", "delete", "default")
        assert len(sandbox.repair(placed, way_out, way_out)) == 2
        sandbox.set_default_gateway(GATEWAY_4, None)
        (route,) = box.ip("route", "show", "default")
        assert route["gateway"] == "10.9.0.1"
        assert box.ip("-6", "route", "show", "default") == []
        sandbox.set_default_gateway(way_out, None)
        sandbox.set_default_gateway(None, None)
    assert not [route for route in box.routes() if route.startswith("default")]


@pytest.mark.parametrize("metric", ["", "metric 100"], ids=["same metric", "higher metric"])
def test_a_foreign_default_route_stays_the_one(
    metric: str, box: Namespace, open_box: Opener
) -> None:
    with open_box() as sandbox:
        sandbox.add_interface(PLACED, BOTH)
        box.sh(
            f"route add default via 10.9.0.5 proto static {metric};"
            f"route add default via fd00:9::5 proto static {metric}"
        )
        theirs = box.routes()
        sandbox.set_default_gateway(GATEWAY_4, GATEWAY_6)
        assert box.routes() == theirs
        sandbox.repair([PlacedInterface(PLACED, BOTH)], GATEWAY_4, GATEWAY_6)
        sandbox.set_default_gateway(None, None)
        sandbox.destroy()
        assert box.routes() == theirs


DAMAGE = {
    "addresses": "address del 10.9.0.2/24 dev eth0; address del fd00:9::2/64 dev eth0",
    "link down": "link set eth0 down",
    "static routes": "route del 10.50.0.0/16; route del fd00:50::/64",
    "default routes": "route del default via 10.9.0.1; route del default via fd00:9::1",
    "nothing": "link set lo up",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_repair_mends_what_was_changed_by_hand(
    damage: str, box: Namespace, open_box: Opener
) -> None:
    placed = [PlacedInterface(STATIC, BOTH)]
    with open_box() as sandbox:
        sandbox.add_interface(STATIC, BOTH)
        sandbox.set_default_gateway(GATEWAY_4, GATEWAY_6)
        before = (box.addresses("eth0"), box.routes())
        box.sh(DAMAGE[damage])
        repairs = sandbox.repair(placed, GATEWAY_4, GATEWAY_6)
        assert bool(repairs) == (damage != "nothing")
        assert sandbox.repair(placed, GATEWAY_4, GATEWAY_6) == []
    assert (box.addresses("eth0"), box.routes()) == before
    assert box.pings("10.9.0.1")
    assert box.pings("fd00:9::1")


def test_repair_switches_ipv6_off_again(box: Namespace, open_box: Opener) -> None:
    with open_box() as sandbox:
        sandbox.add_interface(PLACED, V4_ONLY)
        box.run("sysctl", "-q", "-w", "net.ipv6.conf.eth0.disable_ipv6=0")
        box.run("sysctl", "-q", "-w", "net.ipv6.conf.eth0.accept_ra=2")
        assert [
            str(item) for item in sandbox.repair([PlacedInterface(PLACED, V4_ONLY)], None, None)
        ]
    assert ipv6_settings(box, "eth0")["disable_ipv6"] == "1"
    assert ipv6_settings(box, "eth0")["accept_ra"] == "0"


def test_repair_leaves_missing_interfaces_to_the_driver(box: Namespace, open_box: Opener) -> None:
    with open_box() as sandbox:
        sandbox.add_interface(PLACED, BOTH)
        sandbox.set_default_gateway(GATEWAY_4, GATEWAY_6)
        box.sh("link delete eth0")
        sandbox.repair([PlacedInterface(PLACED, BOTH)], GATEWAY_4, GATEWAY_6)
    assert box.routes() == set()


def test_foreign_things_stay(box: Namespace, open_box: Opener) -> None:
    box.sh(
        "link add own0 type bridge; address add 10.70.0.1/24 dev own0; link set own0 up;"
        "route add 10.71.0.0/16 via 10.70.0.2"
    )
    with open_box() as sandbox:
        sandbox.add_interface(PLACED, BOTH)
        sandbox.set_default_gateway(GATEWAY_4, GATEWAY_6)
        box.sh("address add 10.9.0.99/24 dev eth0")
        sandbox.repair([PlacedInterface(PLACED, BOTH)], GATEWAY_4, GATEWAY_6)
        sandbox.set_default_gateway(None, None)
        sandbox.destroy()
    assert box.addresses("own0") == {"10.70.0.1/24"}
    assert "10.9.0.99/24" in box.addresses("eth0")
    assert box.routes() == {"10.71.0.0/16 10.70.0.2 boot"}


@pytest.mark.parametrize("was_up", [False, True])
def test_loopback_is_given_back_as_it_was(
    was_up: bool, box: Namespace, provider: NamespaceSandboxes
) -> None:
    box.sh(f"link set lo {'up' if was_up else 'down'}")
    before = box.ip("address", "show", "dev", "lo")
    identity, up = provider.identify(SandboxKey(box.path))
    record = record_of(box, identity.cookie, loopback_was_up=up)
    with provider.open(record) as sandbox:
        sandbox.add_interface(PLACED, V4_ONLY)
        sandbox.set_default_gateway(GATEWAY_4, None)
        assert "UP" in box.ip("link", "show", "dev", "lo")[0]["flags"]
        for _ in range(2):
            sandbox.destroy()
    after = box.ip("address", "show", "dev", "lo")
    assert after[0]["flags"] == before[0]["flags"]
    assert after[0]["addr_info"] == before[0]["addr_info"]
    assert box.routes("default") == set()


def test_addresses_are_announced_to_the_neighbours(
    box: Namespace, host_ns: Namespace, open_box: Opener
) -> None:
    for address in ("10.9.0.2", "fd00:9::2"):
        assert not _knows(host_ns, address)
    with open_box() as sandbox:
        sandbox.add_interface(PLACED, BOTH)
    for address in ("10.9.0.2", "fd00:9::2"):
        poll(partial(_knows, host_ns, address), f"the neighbour to learn the MAC of {address}")


def _knows(neighbour: Namespace, address: str) -> bool:
    """If it knows no MAC at all, it is given a wrong one: there are three announcements.

    The kernel forgets neighbours when a link's carrier goes, and may notice that a second late.
    """
    found = neighbour.ip("neigh", "show", address)
    if not found:
        neighbour.sh(f"neigh replace {address} lladdr 02:00:00:00:00:99 dev v0 nud stale")
    return bool(found and found[0].get("lladdr") == MAC)
