"""Leases from a real dnsmasq: given, renewed, given back, kept over restarts; refusals."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Network, ip_address, ip_network

import pytest
from kernel.ipam.lan import OPTIONS, SERVER, Dnsmasq
from kernel.namespaces import Namespace, NamespaceFactory, poll

from cnm.errors import Conflict, InvalidParameter, KernelError, Unavailable
from cnm.ipam import dhcp
from cnm.ipam.memory import MemoryLeases
from cnm.ipamapi import (
    ENDPOINT_HOSTNAME,
    ENDPOINT_LINK,
    ENDPOINT_MAC,
    ENDPOINT_SHARES_MAC,
    IpamContext,
    LeaseChange,
    LeasedFrom,
    PoolRequest,
)
from cnm.store import SqliteStore
from cnm.types import PoolID, StaticRoute

pytestmark = pytest.mark.kernel

MAC = "02:00:00:00:0d:01"
SHORT = ("--dhcp-range=10.8.0.50,10.8.0.99,255.255.255.0,2m", "--dhcp-option=option:T1,3")

Start = Callable[[], dhcp.DhcpIpam]


@pytest.fixture
def start(store: SqliteStore) -> Iterator[Start]:
    """Each call is a new daemon's driver on the same store; the one before is closed."""
    made: list[dhcp.DhcpIpam] = []

    def begin() -> dhcp.DhcpIpam:
        close_all(made)
        context = IpamContext(MemoryLeases(), IPv6Network("fd00::/48"), notes=store.notes)
        made.append(dhcp.create(context))
        return made[-1]

    with contextlib.ExitStack() as stack:
        stack.callback(close_all, made)
        yield begin


def close_all(drivers: list[dhcp.DhcpIpam]) -> None:
    for driver in drivers:
        driver.close()


@pytest.fixture
def driver(start: Start) -> dhcp.DhcpIpam:
    return start()


def pool(driver: dhcp.DhcpIpam, subnet: str | None = None, **options: str) -> PoolID:
    wanted = ip_network(subnet) if subnet else None
    return driver.request_pool(PoolRequest(dhcp.SPACE, wanted, options=options)).pool_id


def ask(
    driver: dhcp.DhcpIpam, pool_id: PoolID, mac: str = MAC, wanted: str | None = None, **more: str
) -> str:
    options = {ENDPOINT_MAC: mac, ENDPOINT_LINK: "eth0", ENDPOINT_HOSTNAME: "box", **more}
    address = ip_address(wanted) if wanted else None
    return str(driver.request_address(pool_id, address, options))


def plug_in(host: Namespace, box: Namespace, address: str, mac: str = MAC) -> None:
    """What the network's driver and the sandbox do: the endpoint's link, on the parent."""
    host.sh(
        f"link add m0 link eth0 address {mac} type macvlan mode bridge;"
        f"link set m0 netns {box.name} name eth0"
    )
    box.sh(f"link set eth0 up; addr add {address} dev eth0")


def test_a_lease_has_address_prefix_gateway_and_our_name(
    driver: dhcp.DhcpIpam, server: Dnsmasq
) -> None:
    pool_id = pool(driver)
    address, prefix = ask(driver, pool_id).split("/")
    assert IPv4Address("10.8.0.50") <= IPv4Address(address) <= IPv4Address("10.8.0.99")
    assert prefix == "24"
    assert server.leases() == {MAC: address}
    assert f"{MAC} {address} box 01:{MAC}" in server.lease_file.read_text()
    found = driver.leased_from(pool_id, ip_address(address))
    assert found == LeasedFrom(IPv4Address(SERVER), IPv4Address(SERVER))
    assert driver.leases(pool_id) == [ip_address(address)]


def test_release_gives_it_back_to_the_server(driver: dhcp.DhcpIpam, server: Dnsmasq) -> None:
    pool_id = pool(driver)
    address = ask(driver, pool_id).split("/")[0]
    driver.release_address(pool_id, ip_address(address))
    driver.release_address(pool_id, ip_address(address))
    poll(lambda: server.leases() == {}, "the lease to be gone")
    assert driver.leases(pool_id) == []
    assert driver.leased_from(pool_id, ip_address(address)) is None


def test_a_container_that_comes_again_has_its_address_again(
    driver: dhcp.DhcpIpam, server: Dnsmasq
) -> None:
    pool_id = pool(driver)
    address = ask(driver, pool_id)
    ask(driver, pool_id, "02:00:00:00:0d:02")
    driver.release_address(pool_id, ip_address(address.split("/")[0]))
    ask(driver, pool_id, "02:00:00:00:0d:03")
    assert ask(driver, pool_id) == address


def test_a_wanted_address_is_asked_for(driver: dhcp.DhcpIpam, server: Dnsmasq) -> None:
    assert ask(driver, pool(driver), wanted="10.8.0.77") == "10.8.0.77/24"


def test_a_wanted_address_that_the_server_does_not_give_is_refused(
    driver: dhcp.DhcpIpam, server: Dnsmasq
) -> None:
    pool_id = pool(driver)
    with pytest.raises(
        Unavailable, match=rf"server {SERVER} gives 10\.8\.0\.\d+, not 10\.8\.0\.7$"
    ):
        ask(driver, pool_id, wanted="10.8.0.7")
    assert driver.leases(pool_id) == []


def test_only_addresses_of_the_networks_subnet_are_taken(
    driver: dhcp.DhcpIpam, server: Dnsmasq
) -> None:
    with pytest.raises(Unavailable, match=r"not of 10\.9\.0\.0/24"):
        ask(driver, pool(driver, "10.9.0.0/24"))
    assert ask(driver, pool(driver, "10.8.0.0/24")).endswith("/24")


def test_classless_routes_come_with_the_lease(driver: dhcp.DhcpIpam, server: Dnsmasq) -> None:
    routes = "--dhcp-option=121,10.99.0.0/16,10.8.0.2,0.0.0.0/0,10.8.0.3"
    server.start(*OPTIONS, routes)
    pool_id = pool(driver)
    address = ip_address(ask(driver, pool_id).split("/")[0])
    found = driver.leased_from(pool_id, address)
    assert found is not None
    assert found.gateway == ip_address("10.8.0.3")
    assert found.routes == (StaticRoute(ip_network("10.99.0.0/16"), ip_address("10.8.0.2")),)


def test_a_declined_address_is_not_given_again(driver: dhcp.DhcpIpam, server: Dnsmasq) -> None:
    pool_id = pool(driver)
    first = ask(driver, pool_id)
    driver.decline_address(pool_id, ip_address(first.split("/")[0]))
    assert ask(driver, pool_id) != first
    server.said("DHCPDECLINE(eth0)")


def test_the_frames_carry_the_parents_mac_where_it_is_shared(
    driver: dhcp.DhcpIpam, server: Dnsmasq, lan: Namespace
) -> None:
    with lan_capture(lan) as frames:
        ask(driver, pool(driver), **{ENDPOINT_SHARES_MAC: "true"})
    (parent,) = {line.split()[1] for line in frames if "BOOTP/DHCP, Request" in line}
    assert parent != MAC
    assert server.leases().keys() == {MAC}


@contextlib.contextmanager
def lan_capture(lan: Namespace) -> Iterator[list[str]]:
    """Lines of tcpdump of the four messages of a lease; filled when the block ends."""
    lines: list[str] = []
    command = ["tcpdump", "-i", "eth0", "-n", "-e", "-l", "-c", "4", "udp port 67"]
    with subprocess.Popen(
        ["ip", "netns", "exec", lan.name, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "listening on" in line:
                break
        try:
            yield lines
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
        lines.extend(output.splitlines())


def test_nobody_answers(driver: dhcp.DhcpIpam, lan: Namespace) -> None:
    pool_id = pool(driver, timeout="1")
    with pytest.raises(Unavailable, match="no DHCP server answered on eth0 within 1 s"):
        ask(driver, pool_id)
    assert driver.leases(pool_id) == []


def test_a_parent_that_is_down_or_gone_is_said_at_once(
    driver: dhcp.DhcpIpam, server: Dnsmasq, host_ns: Namespace
) -> None:
    pool_id = pool(driver)
    host_ns.sh("link set eth0 down")
    with pytest.raises(KernelError, match="DHCP on eth0: Network is down"):
        ask(driver, pool_id)
    host_ns.sh("link delete eth0")
    with pytest.raises(KernelError, match="DHCP on eth0: No such device"):
        ask(driver, pool_id)


def test_one_mac_is_one_client(driver: dhcp.DhcpIpam, server: Dnsmasq) -> None:
    pool_id = pool(driver)
    ask(driver, pool_id)
    with pytest.raises(Conflict, match=f"MAC {MAC} is in use"):
        ask(driver, pool_id)


def test_many_ask_at_once(driver: dhcp.DhcpIpam, server: Dnsmasq) -> None:
    pool_id = pool(driver)
    macs = [f"02:00:00:00:0e:{number:02x}" for number in range(20)]
    with ThreadPoolExecutor(len(macs)) as executor:
        given = list(executor.map(lambda mac: ask(driver, pool_id, mac), macs))
    assert server.leases() == dict(zip(macs, (item.split("/")[0] for item in given), strict=True))
    assert len(driver.leases(pool_id)) == len(set(given)) == len(macs)
    driver.release_pool(pool_id)
    poll(lambda: server.leases() == {}, "the leases to be gone")


def test_a_lost_first_message_is_repeated(
    driver: dhcp.DhcpIpam, server: Dnsmasq, lan: Namespace
) -> None:
    server.stop()
    late = threading.Timer(1.0, server.start)
    late.start()
    assert ask(driver, pool(driver)).startswith("10.8.0.")
    late.join()


def test_renewal_reaches_the_server_and_its_answer_us(
    driver: dhcp.DhcpIpam, server: Dnsmasq, host_ns: Namespace, make_ns: NamespaceFactory
) -> None:
    server.start(*SHORT)
    driver.begin(lambda change: None)
    pool_id = pool(driver)
    address = ask(driver, pool_id)
    plug_in(host_ns, make_ns("box"), address)
    ends = expiry(server)
    server.said(f"DHCPACK(eth0) {address.split('/')[0]}", 3)
    assert expiry(server) > ends
    assert driver.leases(pool_id) == [ip_address(address.split("/")[0])]


def expiry(server: Dnsmasq) -> int:
    return int(server.lease_file.read_text().split()[0])


def test_a_restart_keeps_the_lease_and_renews_it(
    start: Start, server: Dnsmasq, host_ns: Namespace, make_ns: NamespaceFactory
) -> None:
    server.start(*SHORT)
    driver = start()
    pool_id = pool(driver)
    address = ask(driver, pool_id)
    plug_in(host_ns, make_ns("box"), address)
    driver = start()
    asked = server.log().count("DHCPREQUEST")
    assert driver.leases(pool_id) == [ip_address(address.split("/")[0])]
    driver.begin(lambda change: None)
    server.said("DHCPACK", asked + 1)
    assert server.log().count("DHCPDISCOVER") == 1
    driver.release_address(pool_id, ip_address(address.split("/")[0]))
    poll(lambda: server.leases() == {}, "the lease to be gone")


def test_a_server_that_refuses_a_renewal_gives_another_address(
    driver: dhcp.DhcpIpam, server: Dnsmasq, host_ns: Namespace, make_ns: NamespaceFactory
) -> None:
    """Renumbered: the range is another one, and the old address is refused (NAK)."""
    changes: list[LeaseChange] = []
    server.start(*SHORT)
    driver.begin(changes.append)
    pool_id = pool(driver)
    address = ask(driver, pool_id)
    plug_in(host_ns, make_ns("box"), address)
    server.lease_file.unlink()
    server.start("--dhcp-range=10.8.0.100,10.8.0.120,255.255.255.0,1h")
    poll(lambda: changes, "the change", 20)
    (change,) = changes
    assert (change.pool_id, str(change.address)) == (pool_id, address.split("/")[0])
    assert change.becomes is not None
    assert int(change.becomes.ip) >= int(ip_address("10.8.0.100"))
    becomes = change.becomes.ip
    poll(lambda: driver.leases(pool_id) == [becomes], "the new address to be known")


def test_a_change_that_could_not_be_carried_out_is_told_to_the_next_daemon(
    start: Start, server: Dnsmasq, host_ns: Namespace, make_ns: NamespaceFactory
) -> None:
    told: list[LeaseChange] = []

    def fail(change: LeaseChange) -> None:
        told.append(change)
        raise RuntimeError("not now")

    driver = start()
    server.start(*SHORT)
    driver.begin(fail)
    pool_id = pool(driver)
    address = ask(driver, pool_id)
    plug_in(host_ns, make_ns("box"), address)
    server.lease_file.unlink()
    server.start("--dhcp-range=10.8.0.100,10.8.0.120,255.255.255.0,1h")
    poll(lambda: told, "the change", 20)
    driver = start()
    assert [str(item) for item in driver.leases(pool_id)] == [address.split("/")[0]]
    again: list[LeaseChange] = []
    driver.begin(again.append)
    poll(lambda: again, "the change again")
    assert again == told[:1]


def test_a_wanted_address_is_not_given_up_for_another_one(
    start: Start, server: Dnsmasq, host_ns: Namespace, make_ns: NamespaceFactory
) -> None:
    """Not even by a daemon that was started after it was asked for."""
    driver = start()
    server.start(*SHORT)
    pool_id = pool(driver)
    plug_in(host_ns, make_ns("box"), ask(driver, pool_id, wanted="10.8.0.77"))
    driver = start()
    changes: list[LeaseChange] = []
    server.lease_file.unlink()
    server.start("--dhcp-range=10.8.0.100,10.8.0.120,255.255.255.0,1h")
    driver.begin(changes.append)
    server.said("DHCPNAK")
    server.said("DHCPOFFER", server.log().count("DHCPOFFER") + 2)
    assert changes == []
    assert driver.leases(pool_id) == [ip_address("10.8.0.77")]


@pytest.mark.usefixtures("leaves_nothing")
def test_nothing_is_left_open(store: SqliteStore, server: Dnsmasq) -> None:
    context = IpamContext(MemoryLeases(), IPv6Network("fd00::/48"), notes=store.notes)
    driver = dhcp.create(context)
    pool_id = pool(driver)
    ask(driver, pool_id)
    driver.release_pool(pool_id)
    driver.release_pool(pool_id)
    poll(lambda: server.leases() == {}, "the lease to be gone")
    driver.close()
    driver.close()
    assert store.notes(dhcp.SPACE).all() == {}


def test_closing_wakes_who_waits(driver: dhcp.DhcpIpam, lan: Namespace) -> None:
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(ask, driver, pool(driver))
        time.sleep(0.1)
        driver.close()
        with pytest.raises(Unavailable, match="the daemon stops"):
            waiting.result(10)


def test_named_addresses_are_noted_not_leased(driver: dhcp.DhcpIpam, start: Start) -> None:
    pool_id = pool(driver, "10.8.0.0/24")
    gateway = driver.request_address(pool_id, ip_address("10.8.0.1"))
    assert str(gateway) == "10.8.0.1/24"
    assert start().leases(pool_id) == [ip_address("10.8.0.1")]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (PoolRequest(dhcp.SPACE, v6=True), "IPv4 addresses only"),
        (PoolRequest(dhcp.SPACE, ip_network("fd00::/64")), "IPv4 addresses only"),
        (PoolRequest(dhcp.SPACE, ip_network("0.0.0.0/24")), "chooses none of a size"),
        (
            PoolRequest(dhcp.SPACE, ip_network("10.8.0.0/24"), ip_network("10.8.0.0/25")),
            "the server chooses the range",
        ),
        (PoolRequest(dhcp.SPACE, options={"timeuot": "3"}), "unknown option timeuot"),
        (PoolRequest(dhcp.SPACE, options={"timeout": "0"}), "must be from 1 to 300"),
        (PoolRequest("LocalDefault"), "unknown address space"),
    ],
)
def test_what_it_cannot_do_is_refused(
    driver: dhcp.DhcpIpam, request_: PoolRequest, text: str
) -> None:
    with pytest.raises(InvalidParameter, match=text):
        driver.request_pool(request_)
