"""Containers on the LAN, end to end: a daemon, macvlan, dnsmasq, and others who have addresses."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kernel.ipam.lan import SERVER, Dnsmasq
from kernel.namespaces import Namespace, NamespaceFactory, poll
from livedaemon import PROGRAMS, LiveDaemon

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

SHORT = ("--dhcp-range=10.8.0.50,10.8.0.99,255.255.255.0,2m", "--dhcp-option=option:T1,3")
NO_DHCPV6 = (
    "DHCPv6 is not supported: the dhcp IPAM driver gives IPv4 addresses only; leave --ipv6 out, "
    "or use another --ipam-driver\n"
)
ELSEWHERE = ("--dhcp-range=10.8.0.100,10.8.0.120,255.255.255.0,1h",)


@pytest.fixture
def lan(make_ns: NamespaceFactory) -> Namespace:
    """The other end of the parent."""
    return make_ns("lan")


@pytest.fixture
def live(
    daemon: Callable[..., LiveDaemon], make_ns: NamespaceFactory, lan: Namespace
) -> LiveDaemon:
    """A daemon on a host whose eth0 leads to the LAN."""
    host = make_ns("host")
    host.sh(
        f"link add eth0 type veth peer name eth0 netns {lan.name};"
        "link set eth0 up; addr add 10.8.0.9/24 dev eth0"
    )
    lan.sh(f"link set eth0 up; addr add {SERVER}/24 dev eth0; addr add fd00:8::1/64 dev eth0 nodad")
    return daemon(netns=host.name)


@pytest.fixture
def server(lan: Namespace, live: LiveDaemon, tmp_path: Path) -> Iterator[Dnsmasq]:
    made = Dnsmasq(lan, tmp_path)
    made.start()
    yield made
    made.stop()


def dhcp_network(live: LiveDaemon, *more: str) -> None:
    live.net("create", "-d", "macvlan", "--ipam-driver", "dhcp", "-o", "parent=eth0", *more, "lan")


def address_of(live: LiveDaemon, container: str) -> str:
    (network,) = json.loads(live.net("inspect", "lan").stdout)
    found = [item for item in network["Containers"].values() if item["Name"] == container]
    return str(found[0]["IPv4Address"]) if found else ""


def addresses(live: LiveDaemon, netns: str) -> list[str]:
    (link,) = live.ip("-4", "address", "show", "dev", "eth0", netns=netns)
    return [f"{item['local']}/{item['prefixlen']}" for item in link["addr_info"]]


def events(live: LiveDaemon, action: str) -> list[dict[str, Any]]:
    """All network events of one kind so far."""
    answer = live.http("GET", f"/events?since=0&until={int(time.time()) + 1}")
    text = answer.document if isinstance(answer.document, str) else json.dumps(answer.document)
    found = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [item for item in found if (item["Type"], item["Action"]) == ("network", action)]


def test_a_lease_reaches_the_container_and_goes_with_it(live: LiveDaemon, server: Dnsmasq) -> None:
    dhcp_network(live)
    netns = live.adopt("c1")
    live.net("connect", "lan", "c1")
    address = address_of(live, "c1")
    (link,) = live.ip("link", "show", "dev", "eth0", netns=netns)
    assert server.leases() == {link["address"]: address.split("/")[0]}
    assert addresses(live, netns) == [address]
    assert [item["gateway"] for item in live.ip("route", "show", "default", netns=netns)] == [
        SERVER
    ]
    live.inside(netns, "ping", "-c1", "-W5", SERVER)
    live.net("disconnect", "lan", "c1")
    poll(lambda: server.leases() == {}, "the lease to be gone")
    live.net("rm", "lan")
    assert "repaired" not in live.log()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_lease_is_kept_and_renewed_over_a_restart(
    live: LiveDaemon, server: Dnsmasq, end: str
) -> None:
    server.start(*SHORT)
    dhcp_network(live)
    netns = live.adopt("c1")
    live.net("connect", "lan", "c1")
    address = address_of(live, "c1")
    getattr(live, end)()
    asked = server.log().count("DHCPACK")
    live.start()
    server.said("DHCPACK", asked + 1)
    assert server.log().count("DHCPDISCOVER") == 1
    assert address_of(live, "c1") == address
    assert addresses(live, netns) == [address]
    assert "repaired" not in live.log()


def test_another_address_reaches_a_running_container(live: LiveDaemon, server: Dnsmasq) -> None:
    server.start(*SHORT, "--dhcp-option=121,10.50.0.0/16,10.8.0.3,0.0.0.0/0,10.8.0.1")
    dhcp_network(live)
    netns = live.adopt("c1")
    other = live.adopt("c2")
    live.net("connect", "lan", "c1")
    old = address_of(live, "c1")
    routes = live.ip("route", "show", "proto", "196", netns=netns)
    assert {route["dst"] for route in routes} == {"default", "10.50.0.0/16"}
    server.lease_file.unlink()
    server.start(*ELSEWHERE, "--dhcp-option=option:router,10.8.0.2")
    poll(lambda: address_of(live, "c1") != old, "another address", 25)
    poll(lambda: events(live, "lease_changed"), "the event")
    new = address_of(live, "c1")
    assert addresses(live, netns) == [new]
    routes = live.ip("route", "show", "proto", "196", netns=netns)
    assert [(route["dst"], route["gateway"]) for route in routes] == [("default", "10.8.0.2")]
    (event,) = events(live, "lease_changed")
    assert event["Actor"]["Attributes"]["address"] == new
    assert event["Actor"]["Attributes"]["was"] == old
    live.net("connect", "lan", "c2")
    found = live.inside(other, "ping", "-c1", "-W5", new.split("/")[0])
    assert "1 received" in found.stdout
    live.restart()
    assert addresses(live, netns) == [new]
    assert "repaired" not in live.log()


def test_name_servers_of_the_lease_are_asked(
    live: LiveDaemon, server: Dnsmasq, lan: Namespace, tmp_path: Path
) -> None:
    """The LAN's own names resolve in the container; a network that names a server asks that one."""
    lan.sh("addr add 10.8.0.2/24 dev eth0")
    first, second = (NameServer(lan, f"10.8.0.{last}") for last in (1, 2))
    with first, second:
        server.start(*SHORT, "--dhcp-option=option:dns-server,10.8.0.1")
        dhcp_network(live)
        netns = live.adopt("c1")
        live.net("connect", "lan", "c1")

        def answer(name: str = "nas.lan") -> str:
            return live.inside(netns, "dig", "+short", "@127.0.0.11", name).stdout.strip()

        assert answer() == "192.0.2.1"
        assert answer("c1") == address_of(live, "c1").split("/")[0]
        live.restart()
        assert answer("other.lan") == "192.0.2.1"
        server.start(*SHORT, "--dhcp-option=option:dns-server,10.8.0.2")
        poll(lambda: answer() == "192.0.2.2", "the other server to be asked", 25)
        live.net("disconnect", "lan", "c1")
        live.net("rm", "lan")
        dhcp_network(live, "-o", "com.cnm.network.dns=10.8.0.1")
        live.net("connect", "lan", "c1")
        assert answer() == "192.0.2.1"


def etc(live: LiveDaemon, name: str, file: str = "resolv.conf") -> list[str]:
    return live.cnm("exec", name, "cat", f"/etc/{file}").stdout.splitlines()


def searched(live: LiveDaemon, name: str) -> list[str]:
    return [line for line in etc(live, name) if line.startswith("search ")]


def test_domains_of_the_lease_are_searched(live: LiveDaemon, server: Dnsmasq) -> None:
    """As ``--dns-search``, which counts more; and as long as the lease is of the way out."""
    server.start(*SHORT, "--domain=home.example")
    dhcp_network(live)
    run = ("run", "-d", "--network", "lan")
    live.cnm(*run, "--name", "box", "host", "sleep", "600")
    live.cnm(*run, "--name", "own", "--dns-search", "own.example", "host", "sleep", "600")
    assert searched(live, "box") == ["search home.example"]
    assert searched(live, "own") == ["search own.example"]
    live.restart()
    server.start(*SHORT, "--dhcp-option=option:domain-search,a.example,b.a.example")
    poll(lambda: searched(live, "box") == ["search a.example b.a.example"], "the new ones", 25)
    assert searched(live, "own") == ["search own.example"]
    live.net("create", "other")
    live.net("connect", "--gw-priority", "1", "other", "box")
    assert searched(live, "box") == []
    live.net("disconnect", "other", "box")
    assert searched(live, "box") == ["search a.example b.a.example"]
    live.cnm("rm", "-f", "box", "own")


def test_a_container_finds_its_new_address_in_its_hosts(live: LiveDaemon, server: Dnsmasq) -> None:
    server.start(*SHORT)
    dhcp_network(live)
    live.cnm("run", "-d", "--name", "box", "--network", "lan", "host", "sleep", "600")
    old = address_of(live, "box").split("/")[0]
    assert [line for line in etc(live, "box", "hosts") if line.startswith(old)]
    server.lease_file.unlink()
    server.start(*ELSEWHERE)
    poll(lambda: old not in address_of(live, "box"), "another address", 25)
    new = address_of(live, "box").split("/")[0]
    poll(lambda: any(line.startswith(new) for line in etc(live, "box", "hosts")), "the line")
    assert not [line for line in etc(live, "box", "hosts") if line.startswith(old)]
    live.cnm("rm", "-f", "box")


class NameServer:
    """A dnsmasq at an address of the LAN, which answers every name with its own last number."""

    def __init__(self, namespace: Namespace, address: str) -> None:
        words = ("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv")
        self._command = [
            *("ip", "netns", "exec", namespace.name, *words, "--no-hosts", "--user=root"),
            *("--bind-interfaces", f"--listen-address={address}", "--except-interface=lo"),
            *(f"--address=/#/192.0.2.{address[-1]}", "--pid-file=", "--log-facility=-"),
        ]
        self._ready = lambda: f"{address}:53" in namespace.run("ss", "-Hlnu")

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        poll(self._ready, "the name server")

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(20)


def test_the_host_finds_a_container_by_its_new_address(live: LiveDaemon, server: Dnsmasq) -> None:
    """At once, not with the next sweep: its way to a container is a route to the address."""
    live.flags = ("--sweep-interval", "3600")
    live.restart()
    server.start(*SHORT)
    dhcp_network(live, "-o", "host_access=true")
    live.adopt("c1")
    live.net("connect", "lan", "c1")
    old = address_of(live, "c1")
    server.lease_file.unlink()
    server.start(*ELSEWHERE)
    poll(lambda: address_of(live, "c1") != old, "another address", 25)

    def routed() -> set[str]:
        routes = live.ip("-4", "route", "show", "proto", "196")
        return {route["dst"] for route in routes}

    new = address_of(live, "c1").split("/")[0]
    poll(lambda: routed() == {new}, "the route")
    live.inside(live.netns, "ping", "-c1", "-W5", new)


def test_a_leased_address_that_somebody_has_is_declined(
    live: LiveDaemon, server: Dnsmasq, lan: Namespace
) -> None:
    lan.sh("addr add 10.8.0.50/24 dev eth0")
    server.start("--dhcp-range=10.8.0.50,10.8.0.51,255.255.255.0,1h", "--dhcp-sequential-ip")
    dhcp_network(live)
    live.adopt("c1")
    live.net("connect", "lan", "c1")
    assert address_of(live, "c1") == "10.8.0.51/24"
    server.said("DHCPDECLINE")


def test_no_server_leaves_nothing(live: LiveDaemon) -> None:
    dhcp_network(live, "--ipam-opt", "timeout=1")
    netns = live.adopt("c1")
    refused = live.net("connect", "lan", "c1", check=False)
    assert refused.stderr == (
        "Error response from daemon: no DHCP server answered on eth0 within 1 s\n"
    )
    assert [item["ifname"] for item in live.ip("link", "show", netns=netns)] == ["lo"]
    live.net("rm", "lan")


def waiting_connect(live: LiveDaemon) -> subprocess.Popen[str]:
    """A connect that waits for a server that is not there."""
    dhcp_network(live)
    live.adopt("c1")
    client = subprocess.Popen(
        [str(PROGRAMS / "net"), "-H", live.host, "connect", "lan", "c1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    poll(lambda: packet_sockets(live), "the question")
    return client


def packet_sockets(live: LiveDaemon) -> list[str]:
    return live.inside(live.netns, "cat", "/proc/net/packet").stdout.splitlines()[1:]


def test_a_stop_does_not_wait_for_a_server(live: LiveDaemon) -> None:
    client = waiting_connect(live)
    assert live.stop() == 0
    _, error = client.communicate(timeout=20)
    assert error == "Error response from daemon: the daemon stops\n"
    live.start()
    assert "repaired" not in live.log()
    live.net("rm", "lan")


def test_a_kill_while_the_server_is_asked_leaves_nothing(live: LiveDaemon, lan: Namespace) -> None:
    client = waiting_connect(live)
    live.kill()
    client.communicate(timeout=20)
    live.start()
    assert "c1 on lan: connect undone" in live.log()
    live.net("rm", "lan")


def test_a_container_has_its_address_again_when_it_starts_again(
    live: LiveDaemon, server: Dnsmasq
) -> None:
    dhcp_network(live)
    live.cnm("run", "-d", "--name", "box", "--network", "lan", "host", "sleep", "600")
    address = address_of(live, "box")
    live.cnm("exec", "box", "ping", "-c1", "-W5", SERVER)
    live.cnm("stop", "-t", "0", "box")
    poll(lambda: server.leases() == {}, "the lease to be gone")
    live.cnm("start", "box")
    assert address_of(live, "box") == address
    assert list(server.leases().values()) == [address.split("/")[0]]
    assert "box" in server.lease_file.read_text()
    live.cnm("rm", "-f", "box")
    poll(lambda: server.leases() == {}, "the lease to be gone")


def test_a_wanted_address_is_leased_while_the_container_is_stopped(
    live: LiveDaemon, server: Dnsmasq
) -> None:
    dhcp_network(live)
    create = ("create", "--name", "box", "--network", "lan", "--ip", "10.8.0.77")
    live.cnm(*create, "host", "sleep", "600")
    assert list(server.leases().values()) == ["10.8.0.77"]
    live.cnm("start", "box")
    assert address_of(live, "box") == "10.8.0.77/24"
    live.restart()
    assert address_of(live, "box") == "10.8.0.77/24"
    live.cnm("rm", "-f", "box")
    poll(lambda: server.leases() == {}, "the lease to be gone")
    assert "repaired" not in live.log()


def test_dhcp_needs_a_wire(live: LiveDaemon) -> None:
    refused = live.net("create", "--ipam-driver", "dhcp", "lan", check=False)
    assert refused.stderr.startswith("Error response from daemon: the dhcp IPAM driver asks")
    assert len(refused.stderr.splitlines()) == 1
    assert "lan" not in live.net("ls", "--format", "{{.Name}}").stdout.split()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--ipv6",), NO_DHCPV6),
        (("--ipv6", "--subnet", "fd00:8::/64"), NO_DHCPV6),
        (("--ipv6", "--ipv4=false"), NO_DHCPV6),
        (
            ("--ipam-opt", "timeout=0"),
            'invalid value "0" for option timeout: must be from 1 to 300',
        ),
        (("--ipam-opt", "x=1"), "unknown option x of the dhcp IPAM driver: it has timeout"),
        (
            ("--subnet", "10.8.0.0/24", "--ip-range", "10.8.0.0/25"),
            "ip-range 10.8.0.0/25: with the dhcp IPAM driver the server chooses the range",
        ),
    ],
)
def test_what_cannot_be_leased_is_refused_before_anything_is_touched(
    live: LiveDaemon, flags: tuple[str, ...], told: str
) -> None:
    with closing(sqlite3.connect(f"file:{live.root}/cnm.db?mode=ro", uri=True)) as database:

        def written() -> object:
            return database.execute("PRAGMA data_version").fetchall()

        before, links = written(), live.ip("link")
        words = ("-d", "macvlan", "--ipam-driver", "dhcp", "-o", "parent=eth0", *flags)
        refused = live.net("create", *words, "lan", check=False)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"Error response from daemon: {told}")
        assert len(refused.stderr.splitlines()) == 1
        assert (written(), live.ip("link")) == (before, links)
        live.net("create", "other")  # that the number counts what is written
        assert written() != before


def static_network(live: LiveDaemon, *more: str) -> None:
    subnets = ("--subnet", "10.8.0.0/24", "--ipv6", "--subnet", "fd00:8::/64")
    live.net("create", "-d", "macvlan", *subnets, "-o", "parent=eth0", *more, "lan")


def test_a_duplicate_is_avoided_in_both_families(live: LiveDaemon, lan: Namespace) -> None:
    static_network(live)
    netns = live.adopt("c1")
    live.net("connect", "lan", "c1")
    # 10.8.0.1 and fd00:8::1 are the LAN's
    assert addresses(live, netns) == ["10.8.0.2/24"]
    (link,) = live.ip("-6", "address", "show", "dev", "eth0", "scope", "global", netns=netns)
    assert [item["local"] for item in link["addr_info"] if item] == ["fd00:8::2"]
    (mac,) = [item["address"] for item in lan.ip("link", "show", "dev", "eth0")]
    assert f"network lan: 10.8.0.1 is in use by {mac} on the wire" in live.log()
    assert f"network lan: fd00:8::1 is in use by {mac} on the wire" in live.log()
    refused = live.net("connect", "--ip", "10.8.0.1", "lan", live_container(live), check=False)
    assert refused.stderr == (
        f"Error response from daemon: Address already in use: 10.8.0.1 belongs to {mac} on eth0\n"
    )


def live_container(live: LiveDaemon) -> str:
    live.adopt("c2")
    return "c2"


def test_the_hosts_own_address_is_avoided(live: LiveDaemon) -> None:
    static_network(live)
    live.adopt("c1")
    refused = live.net("connect", "--ip", "10.8.0.9", "lan", "c1", check=False)
    assert "Address already in use: 10.8.0.9 belongs to" in refused.stderr


def test_a_later_conflict_is_an_event_and_a_log_line(live: LiveDaemon, lan: Namespace) -> None:
    static_network(live)
    live.adopt("c1")
    live.net("connect", "--ip", "10.8.0.77", "lan", "c1")
    live.restart()
    lan.sh("addr add 10.8.0.77/24 dev eth0")
    lan.run("busybox", "arping", "-U", "-c", "1", "-I", "eth0", "10.8.0.77", check=False)
    poll(lambda: events(live, "conflict"), "the event")
    (event,) = events(live, "conflict")
    (mac,) = [item["address"] for item in lan.ip("link", "show", "dev", "eth0")]
    attributes = event["Actor"]["Attributes"]
    assert (attributes["address"], attributes["mac"]) == ("10.8.0.77", mac)
    assert f"10.8.0.77 of container c1 is in use by {mac} on eth0 too" in live.log()
    assert "network conflict" in live.cnm("events", "--since", "10m", "--until", "0s").stdout
    assert f"10.8.0.77 is used by {mac} too" in live.net("doctor", check=False).stdout
