"""Parents found, made and refused; what endpoints get; what goes with what."""

from __future__ import annotations

from typing import Any

import pytest
from kernel.drivers.lab import Host, PlaceFactory, interface, new_id
from kernel.drivers.wire import HOST, PARENT, POOLS, attach, lan, wired
from kernel.namespaces import poll

from cnm.driverapi import DriverContext, Wire
from cnm.drivers.ipvlan import driver as ipvlan
from cnm.drivers.macvlan import driver as macvlan
from cnm.errors import CNMError, Forbidden, InvalidParameter, KernelError, NotFound, Unavailable
from cnm.netlab.features import Features
from cnm.runtime.kernel.sysctl import HostSysctls
from cnm.types import EndpointID, NetworkSpec

pytestmark = pytest.mark.kernel


@pytest.fixture
def driver(host: Host, make_place: PlaceFactory) -> Any:
    """On a host with a LAN."""
    wired(host, make_place())
    return host.load("macvlan")


def both(host: Host) -> tuple[Any, Any]:
    """macvlan and ipvlan as one daemon has them."""
    context = DriverContext(HostSysctls(host.ledger))
    return host.owns(macvlan.create(context)), host.owns(ipvlan.create(context))


@pytest.mark.both_kernels  # whose isolated parents differ: a dummy there, an ifb here
def test_without_a_parent_containers_are_among_themselves(
    host: Host, make_place: PlaceFactory
) -> None:
    driver, one, two = host.load("macvlan"), make_place(), make_place()
    spec = lan(*POOLS, parent="", gateway=True)
    driver.create_network(spec)
    parent = f"dm-{spec.id[:12]}"
    assert host.link(parent)["ifalias"] == f"cnm:network:{spec.id}"
    assert "UP" in host.link(parent)["flags"]
    joined = attach(driver, spec, one, "10.7.0.2/24", "fd07::2/64").join
    attach(driver, spec, two, "10.7.0.3/24", "fd07::3/64")
    assert (joined.gateway, joined.gateway_ipv6) == (None, None)
    assert one.pings("10.7.0.3")
    assert one.pings("fd07::3")
    assert driver.wire(spec) is None
    driver.delete_network(spec.id)
    assert host.link_names() == set()
    assert one.link_names() == two.link_names() == set()


@pytest.mark.parametrize(
    ("gateway", "internal", "told"),
    [
        (False, False, (None, None)),
        (True, False, ("10.7.0.254", "fd07::fe")),
        (True, True, (None, None)),
    ],
    ids=["not asked for", "asked for", "internal"],
)
def test_the_gateway(
    gateway: bool,
    internal: bool,
    told: tuple[str | None, ...],
    driver: Any,
    make_place: PlaceFactory,
) -> None:
    spec = lan(*POOLS, gateway=gateway, internal=internal)
    driver.create_network(spec)
    assert driver.skip_gateway(spec) == (True, True)
    joined = attach(driver, spec, make_place(), "10.7.0.2/24", "fd07::2/64").join
    found = joined.gateway, joined.gateway_ipv6
    assert tuple(str(item) if item else None for item in found) == told
    assert driver.wire(spec) == Wire(PARENT)


def test_the_hosts_own_link_is_never_changed(
    driver: Any, host: Host, make_place: PlaceFactory
) -> None:
    before = host.snapshot()
    spec, sandbox = lan(), make_place()
    driver.create_network(spec)
    assert host.snapshot() == before
    attach(driver, spec, sandbox, "10.7.0.2/24")
    assert host.snapshot() == before
    driver.delete_network(spec.id)
    assert host.snapshot() == before
    assert sandbox.link_names() == set()


def test_the_host_may_have_a_link_of_that_name(
    driver: Any, host: Host, make_place: PlaceFactory
) -> None:
    """A kernel before 6.13 looks for it there, too; a sandbox's own is refused by any."""
    host.sh("ip link add eth0 type bridge; ip link set eth0 up")
    spec, sandbox = lan(), make_place()
    driver.create_network(spec)
    one = attach(driver, spec, sandbox, "10.7.0.2/24")
    assert sandbox.link_names() == {"eth0"}
    assert sandbox.pings("10.7.0.9")
    assert driver.restore(spec, [one.state()]) == []
    other = make_place()
    other.sh("ip link add eth0 type bridge")
    with pytest.raises(KernelError, match="^link eth0 in /run/netns/.*: File exists$"):
        attach(driver, spec, other, "10.7.0.3/24")
    assert other.link("eth0")["linkinfo"]["info_kind"] == "bridge"
    assert other.link_names() == {"eth0"}


def test_mtu(driver: Any, host: Host, make_place: PlaceFactory) -> None:
    key = "com.docker.network.driver.mtu"
    spec, sandbox = lan(options={key: "1400"}), make_place()
    driver.create_network(spec)
    attach(driver, spec, sandbox, "10.7.0.2/24")
    assert sandbox.link("eth0")["mtu"] == 1400
    with pytest.raises(
        InvalidParameter, match="MTU 9000 is more than that of parent interface lan0: 1500"
    ):
        driver.check_network(lan(options={key: "9000"}))


VLANS = Features().has("vlan")
NO_VLANS = "failed to create lan0.100 vlan link: this kernel has no 802.1Q VLANs (module 8021q)"


@pytest.mark.parametrize(
    ("parent", "options", "kind", "told"),
    [
        ("lo", {}, InvalidParameter, "loopback interface is not a valid macvlan parent link"),
        (
            PARENT,
            {"macvlan_mode": "x"},
            InvalidParameter,
            "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default",
        ),
        (PARENT, {"ipvlan_mode": "l2"}, InvalidParameter, "unknown option ipvlan_mode for driver"),
        (
            PARENT,
            {"macvlan-mode": "vepa"},
            InvalidParameter,
            "unknown option macvlan-mode for driver macvlan: did you mean macvlan_mode?",
        ),
        ("", {"parnt": PARENT}, InvalidParameter, "driver macvlan: did you mean parent?"),
        ("", {"Parent": PARENT}, InvalidParameter, "driver macvlan: did you mean parent?"),
        (PARENT, {"mode": "vepa"}, InvalidParameter, "driver macvlan: did you mean macvlan_mode?"),
        (PARENT, {"colour": "red", "com.example.parent": "lan7"}, None, ""),
        (
            PARENT,
            {"com.docker.network.driver.mut": "1"},
            InvalidParameter,
            "unknown option com.docker.network.driver.mut for driver macvlan",
        ),
        (
            PARENT,
            {"host_access": "true", "macvlan_mode": "vepa"},
            InvalidParameter,
            "host_access needs macvlan_mode=bridge: in mode vepa the host cannot be a neighbour",
        ),
        ("a b", {}, InvalidParameter, 'invalid interface name "a b" for parent'),
        (
            "eth9",
            {},
            InvalidParameter,
            "invalid subinterface vlan name eth9, example formatting is eth0.10",
        ),
        (
            "a.b.1",
            {},
            InvalidParameter,
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead rec",
        ),
        (
            "lan0.x",
            {},
            InvalidParameter,
            "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)",
        ),
        (
            "lan0.00100",
            {},
            InvalidParameter,
            "unable to parse a valid vlan id from: 00100 (ex. eth0.10 for vlan 10)",
        ),
        (".100", {}, InvalidParameter, "invalid subinterface vlan name .100, example formatting"),
        ("lan0.", {}, InvalidParameter, "invalid subinterface vlan name lan0., example formatting"),
        (
            "a-long-parent.100",
            {},
            InvalidParameter,
            'invalid interface name "a-long-parent.100" for parent: longer than 15 characters',
        ),
        ("lan0.0", {}, InvalidParameter, "vlan id must be between 1-4094, received: 0"),
        ("lan0.4095", {}, InvalidParameter, "vlan id must be between 1-4094, received: 4095"),
        ("eth9.5", {}, NotFound, "-o parent interface was not found on the host: eth9"),
        pytest.param(  # by one name on each kernel: by that it is sent to the other
            "lan0.100",
            {},
            None if VLANS else KernelError,
            "" if VLANS else NO_VLANS,
            id="a VLAN",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_touched(
    parent: str,
    options: dict[str, str],
    kind: type[CNMError] | None,
    told: str,
    driver: Any,
    host: Host,
) -> None:
    before = host.snapshot()
    spec = lan(parent=parent, options=options)
    if kind is None:
        driver.check_network(spec)
        return
    for call in (driver.check_network, driver.create_network):
        with pytest.raises(kind) as refusal:
            call(spec)
        assert told in str(refusal.value)
        assert "\n" not in str(refusal.value)
    assert host.snapshot() == before
    assert driver.devices() == set()


@pytest.mark.parametrize("name", ["lan0.00100", "lan.wan", "lan0.4095", "a.b.c"])
def test_a_link_that_is_there_may_have_any_name(
    name: str, driver: Any, host: Host, make_place: PlaceFactory
) -> None:
    """It is a parent as it is, and stays when its network goes."""
    host.sh(f"ip link set {PARENT} down; ip link set {PARENT} name {name}; ip link set {name} up")
    spec, sandbox = lan(parent=name), make_place()
    before = host.snapshot()
    driver.check_network(spec)
    driver.create_network(spec)
    attach(driver, spec, sandbox, "10.7.0.2/24")
    assert sandbox.pings("10.7.0.9")
    driver.delete_network(spec.id)
    assert host.snapshot() == before


@pytest.mark.parametrize("kind", ["network", "endpoint"])
def test_what_is_made_for_others_is_no_parent(kind: str, driver: Any, host: Host) -> None:
    """A bridge of a network became this one's, and the other network had none any more."""
    owner = "ab" * 32
    host.sh(f"ip link add cnm0 type bridge; ip link set cnm0 up alias cnm:{kind}:{owner}")
    before = host.snapshot()
    for call in (driver.check_network, driver.create_network):
        with pytest.raises(Forbidden, match=f"cnm0 belongs to {kind} abababababab: it can be no"):
            call(lan(parent="cnm0"))
    assert host.snapshot() == before


def test_a_daemon_in_a_container_has_its_link_as_parent(driver: Any, host: Host) -> None:
    """Which carries the mark of the daemon outside."""
    host.sh(f"ip link set {PARENT} alias cnm:inside:{'ab' * 32}")
    driver.check_network(lan())


@pytest.mark.needs("ipvlan")
def test_a_link_of_another_kind_is_named(driver: Any, host: Host) -> None:
    host.sh(f"ip link add other link {PARENT} type ipvlan")
    with pytest.raises(Forbidden, match="parent interface lan0 has the ipvlan link other"):
        driver.check_network(lan())


def test_a_port_of_a_bridge_is_named(driver: Any, host: Host) -> None:
    host.sh(f"ip link add lan type bridge; ip link set {PARENT} master lan")
    with pytest.raises(Forbidden, match="lan0 is a port of bridge lan: use parent=lan"):
        driver.check_network(lan())
    driver.check_network(lan(parent="lan"))


def test_a_parent_that_was_taken_later_is_told(
    driver: Any, host: Host, make_place: PlaceFactory
) -> None:
    spec, sandbox = lan(), make_place()
    driver.create_network(spec)
    host.sh(f"ip link add lan type bridge; ip link set {PARENT} master lan")
    with pytest.raises(KernelError, match="failed to create the macvlan port: device or resource"):
        attach(driver, spec, sandbox, "10.7.0.2/24")
    assert sandbox.link_names() == set()


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("bridge", "bridge", ""),
        ("bridge", "private", ""),
        (
            "bridge",
            "passthru",
            "cannot use mode passthru, macvlan network red is already using parent interface lan0",
        ),
        (
            "passthru",
            "bridge",
            "macvlan network red is already using parent interface lan0 in mode passthru",
        ),
    ],
)
def test_networks_that_cannot_share_a_parent(
    first: str, second: str, told: str, driver: Any
) -> None:
    red, blue = lan(name="red", macvlan_mode=first), lan(macvlan_mode=second)
    driver.create_network(red)
    if told:
        for call in (driver.check_network, driver.create_network):
            with pytest.raises(Forbidden, match=f"^{told}$"):
                call(blue)
        driver.delete_network(red.id)
    driver.check_network(blue)
    driver.create_network(blue)


def test_the_other_drivers_networks_are_named(host: Host, make_place: PlaceFactory) -> None:
    wired(host, make_place())
    first, second = both(host)
    red = lan(name="red")
    first.create_network(red)
    with pytest.raises(Forbidden, match="^network red is already using parent interface lan0$"):
        second.check_network(lan())
    first.delete_network(red.id)


def test_the_parent_is_gone(driver: Any, host: Host, make_place: PlaceFactory) -> None:
    spec, sandbox = lan(), make_place()
    driver.create_network(spec)
    one = attach(driver, spec, sandbox, "10.7.0.2/24")
    host.sh(f"ip link delete {PARENT}")
    assert sandbox.link_names() == set()
    assert driver.restore(spec, [one.state()]) == []
    gone = "the requested parent interface lan0 was not found on the Docker host"
    with pytest.raises(Unavailable, match=gone):
        attach(driver, spec, make_place(), "10.7.0.3/24")
    assert ("parent lan0", "warning", "is gone: blue wait for it") in driver.diagnose()
    peer = make_place()
    wired(host, peer)
    told = [str(repair) for repair in driver.restore(spec, [one.state()])]
    assert told == [f"link eth0: created again for endpoint {one.endpoint_id[:12]}"]
    sandbox.sh("ip address add 10.7.0.2/24 dev eth0; ip link set eth0 up")
    assert peer.pings("10.7.0.2")
    assert driver.restore(spec, [one.state()]) == []
    driver.leave(spec.id, one.endpoint_id)
    driver.delete_network(spec.id)


def test_everything_goes_without_the_parent(
    driver: Any, host: Host, make_place: PlaceFactory
) -> None:
    spec = lan(host_access="true")
    driver.create_network(spec)
    one = attach(driver, spec, make_place(), "10.7.0.2/24")
    host.sh(f"ip link delete {PARENT}")
    driver.leave(spec.id, one.endpoint_id)
    driver.delete_endpoint(spec.id, one.endpoint_id)
    driver.delete_network(spec.id)
    assert host.link_names() == set()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("ip link delete eth0", "link eth0: created again for endpoint {endpoint}"),
        ("ip link set eth0 name moved", "link eth0: created again for endpoint {endpoint}"),
        ("ip link set eth0 alias x", "link eth0 of endpoint {endpoint}: marked again"),
        (
            "ip link set eth0 address 02:00:00:00:00:07",
            "link eth0 of endpoint {endpoint}: MAC address set to 02:42:0a:07:00:02 again",
        ),
        (
            "ip link set eth0 type macvlan mode private",
            "link eth0 of endpoint {endpoint}: mode set again",
        ),
    ],
)
@pytest.mark.parametrize("restarted", [False, True], ids=["sweep", "restart"])
def test_damage_by_hand(
    damage: str, told: str, restarted: bool, driver: Any, host: Host, make_place: PlaceFactory
) -> None:
    spec, sandbox = lan(), make_place()
    driver.create_network(spec)
    one = attach(driver, spec, sandbox, "10.7.0.2/24")
    before = sandbox.link("eth0")
    sandbox.sh(damage)
    again = host.load("macvlan") if restarted else driver
    repairs = [str(repair) for repair in again.restore(spec, [one.state()])]
    assert repairs == [told.format(endpoint=one.endpoint_id[:12])]
    after = sandbox.link("eth0")
    assert after["address"] == before["address"]
    assert after["linkinfo"] == before["linkinfo"]
    assert after["ifalias"] == before["ifalias"] == f"cnm:inside:{one.endpoint_id}"
    assert again.restore(spec, [one.state()]) == []


def test_a_link_killed_before_it_was_marked_is_found(
    driver: Any, host: Host, make_place: PlaceFactory
) -> None:
    """Its group is set in the message that makes it, its alias by a second one."""
    spec, sandbox = lan(), make_place()
    driver.create_network(spec)
    one = attach(driver, spec, sandbox, "10.7.0.2/24")
    sandbox.sh("ip link set eth0 alias ''")
    again = host.load("macvlan")
    again.link_is_in(one.endpoint_id, sandbox.key)
    again.leave(spec.id, one.endpoint_id)
    assert sandbox.link_names() == set()


def handed_over(driver: Any, spec: NetworkSpec) -> tuple[EndpointID, str]:
    """An engine's endpoint, and the name of the link that it is to move."""
    driver.create_network(spec)
    endpoint_id = EndpointID(new_id())
    driver.create_endpoint(spec.id, endpoint_id, interface("10.7.0.2/24"), {})
    return endpoint_id, driver.join(spec.id, endpoint_id, None, "eth0", {}).source_name


def test_an_engine_moves_the_link_and_brings_it_back(
    driver: Any, host: Host, make_place: PlaceFactory
) -> None:
    spec, sandbox = lan(), make_place()
    endpoint_id, name = handed_over(driver, spec)
    assert name == f"mv{endpoint_id[:7]}"
    assert host.link(name)["address"] == "02:42:0a:07:00:02"
    assert not driver.in_use(spec.id, endpoint_id)
    space = sandbox.namespace.name
    host.sh(f"ip link set {name} netns {space} name eth0")
    sandbox.sh("ip address add 10.7.0.2/24 dev eth0; ip link set eth0 up")
    assert sandbox.pings("10.7.0.9")
    assert driver.in_use(spec.id, endpoint_id)
    assert host.load("macvlan").in_use(spec.id, endpoint_id)
    home = host.namespace.name
    sandbox.sh(f"ip link set eth0 down; ip link set eth0 netns {home} name {name}")
    assert not driver.in_use(spec.id, endpoint_id)
    driver.leave(spec.id, endpoint_id)
    assert host.link_names() == {PARENT}
    assert host.addresses(PARENT) == set(HOST)


def test_a_moved_link_goes_with_its_namespace_and_nobody_says_so(
    driver: Any, host: Host, make_place: PlaceFactory
) -> None:
    spec, sandbox = lan(), make_place()
    endpoint_id, name = handed_over(driver, spec)
    host.sh(f"ip link set {name} netns {sandbox.namespace.name} name eth0")
    assert driver.in_use(spec.id, endpoint_id)
    sandbox.delete()
    poll(lambda: not driver.in_use(spec.id, endpoint_id), "the namespace to be gone")
    host.sh(f"ip link delete {PARENT}")
    assert driver.in_use(spec.id, endpoint_id)  # nobody is forgotten while there is no parent
