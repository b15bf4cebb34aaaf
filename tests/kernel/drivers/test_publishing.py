"""Publishing as a state: what is refused, kept, changed, restored and left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from kernel.drivers.exchange import is_free, serving
from kernel.drivers.lab import Attached, Host, network
from kernel.drivers.packets import open_socket
from kernel.drivers.world import HOST, PEER, World, address
from kernel.namespaces import poll

from cnm.drivers.bridge.driver import BridgeDriver
from cnm.drivers.bridge.portsockets import is_supported
from cnm.errors import InvalidParameter, NotFound, PortTaken, TeardownError
from cnm.runtime.kernel import resident
from cnm.types import EndpointID, NetworkID, NetworkSpec, PortBinding

V4_ANY, V6_ANY = ip_address("0.0.0.0"), ip_address("::")


class Published:
    """A container whose ports are published by a driver."""

    def __init__(self, world: World, spec: NetworkSpec | None = None, number: int = 2) -> None:
        self.world = world
        self.spec = spec or world.network(1)
        self.attached: Attached = world.attach(self.spec, number)

    def publish(
        self, *wanted: PortBinding, driver: BridgeDriver | None = None
    ) -> Sequence[PortBinding]:
        driver = driver or self.world.driver
        return driver.program_external_connectivity(self.spec.id, self.attached.endpoint_id, wanted)

    def revoke(self) -> None:
        self.world.driver.revoke_external_connectivity(self.spec.id, self.attached.endpoint_id)


@pytest.fixture
def web(world: World) -> Published:
    return Published(world)


def tcp(inside: int, host: int = 0, end: int = 0, host_ip: str = "") -> PortBinding:
    return PortBinding("tcp", inside, ip_address(host_ip) if host_ip else None, host, end)


def elements(host: Host) -> set[str]:
    """Keys and values of all that is published."""
    listed = json.loads(host.sh("nft -j list maps inet"))["nftables"]
    maps = [item["map"] for item in listed if "map" in item]
    names = ("ports_", "ranges_")
    return {
        f"{item['name']} {json.dumps(element)}"
        for item in maps
        if item["name"].startswith(names)
        for element in _plain(item.get("elem", []))
    }


def _plain(items: list[Any]) -> list[Any]:
    """Without what they counted."""
    return [
        [key["elem"]["val"] if isinstance(key, dict) and "elem" in key else key, value]
        for key, value in items
    ]


@contextlib.contextmanager
def program(host: Host, port: int, protocol: str = "tcp") -> Iterator[int]:
    """Another program that has a port of the host; its process."""
    kind, then = ("SOCK_STREAM", "s.listen()") if protocol == "tcp" else ("SOCK_DGRAM", "")
    code = (
        f"import socket, time\ns = socket.socket(socket.AF_INET, socket.{kind})\n"
        f"s.bind(('0.0.0.0', {port}))\n{then}\nprint('there', flush=True)\ntime.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"there\n"
        try:
            yield started.pid
        finally:
            started.kill()


# what it is


def test_all_addresses_of_both_families(web: Published) -> None:
    assert web.publish(tcp(80, 5005)) == (tcp(80, 5005, host_ip="0.0.0.0"), tcp(80, 5005, 0, "::"))
    assert not is_free(5005)
    assert not is_free(5005, "127.0.0.1")
    assert not is_free(5005, "::")
    assert is_free(5005, kind=socket.SOCK_DGRAM)


def test_a_network_says_where(world: World) -> None:
    spec = world.network(1, options={"bridge.host_binding_ipv4": "127.0.0.1"})
    assert Published(world, spec).publish(tcp(80, 5005)) == (tcp(80, 5005, host_ip="127.0.0.1"),)
    assert is_free(5005, "::")


def test_any_port_is_one_for_both_families(web: Published) -> None:
    first, second = web.publish(tcp(80))
    assert first.host_port == second.host_port
    assert (first.host_ip, second.host_ip) == (V4_ANY, V6_ANY)
    assert not is_free(first.host_port)


def test_any_port_keeps_off_what_is_reserved_or_taken(web: Published) -> None:
    web.world.host.sh("sysctl -qw net.ipv4.ip_local_port_range='40000 40009'")
    web.world.host.sh("sysctl -qw net.ipv4.ip_local_reserved_ports=40000-40004,40006")
    with program(web.world.host, 40005):
        found = web.publish(tcp(80), tcp(81), tcp(82))
        assert {item.host_port for item in found} == {40007, 40008, 40009}
        with pytest.raises(PortTaken, match="all ports are allocated"):
            web.publish(*found, tcp(83))
    assert web.publish(tcp(80), tcp(81), tcp(82)) == found


def test_one_of_a_range(web: Published) -> None:
    with program(web.world.host, 8000):
        found = web.publish(tcp(80, 8000, 8010), tcp(81, 8000, 8010))
    assert [item.host_port for item in found] == [8001, 8001, 8002, 8002]


# refusals


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (PortBinding("icmp", 80), "invalid proto: icmp"),
        (tcp(0), "invalid containerPort: 0"),
        (tcp(65536), "invalid containerPort: 65536"),
        (tcp(80, 65536), "invalid hostPort: 65536"),
        (tcp(80, 20, 10), "invalid hostPort: 20-10"),
        (tcp(80, 5005, host_ip="203.0.113.9"), "203.0.113.9:5005/tcp: cannot assign requested"),
        (tcp(80, 5005, host_ip="2001:db8::9"), "[2001:db8::9]:5005/tcp: cannot assign requested"),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_refused_before_anything_changes(wanted: PortBinding, text: str, web: Published) -> None:
    before = web.world.host.snapshot()
    with pytest.raises(InvalidParameter, match=re.escape(text)):
        web.world.driver.check_external_connectivity(web.spec.id, [tcp(1, 2), wanted])
    assert web.world.host.port_helper() is None
    with pytest.raises(InvalidParameter, match=re.escape(text)):
        web.publish(tcp(1, 2), wanted)
    assert web.world.host.snapshot() == before
    assert is_free(2)


def test_sctp_is_refused_where_the_kernel_has_none(web: Published) -> None:
    wanted = [PortBinding("sctp", 80)]
    if is_supported("sctp"):
        web.world.driver.check_external_connectivity(web.spec.id, wanted)
        return
    with pytest.raises(InvalidParameter, match="this kernel has no SCTP"):
        web.world.driver.check_external_connectivity(web.spec.id, wanted)


def test_unknown_ids(web: Published) -> None:
    driver = web.world.driver
    nobody, nothing = EndpointID("e" * 64), NetworkID("f" * 64)
    with pytest.raises(NotFound):
        driver.program_external_connectivity(web.spec.id, nobody, [tcp(80)])
    with pytest.raises(NotFound):
        driver.check_external_connectivity(nothing, [tcp(80)])
    driver.revoke_external_connectivity(nothing, nobody)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_of_another_program(protocol: str, web: Published) -> None:
    """The program is named; what was asked for along with it is not left."""
    with program(web.world.host, 5005, protocol) as pid:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        text = "Bind for 0.0.0.0:5005 failed: port is already allocated"
        with pytest.raises(PortTaken) as refused:
            web.publish(tcp(80, 5004), PortBinding(protocol, 80, None, 5005))
        assert str(refused.value) == f"{text} (held by {name}, process {pid})"
        assert refused.value.endpoint_id == ""
    assert elements(web.world.host) == set()
    assert is_free(5004)
    assert len(web.publish(PortBinding(protocol, 80, None, 5005))) == 2


def test_a_port_of_another_container(web: Published) -> None:
    web.publish(tcp(80, 5005))
    other = Published(web.world, web.spec, 3)
    before = elements(web.world.host)
    with pytest.raises(PortTaken) as refused:
        other.publish(tcp(1, 5004), tcp(80, 5005, host_ip="127.0.0.1"))
    assert str(refused.value) == "Bind for 127.0.0.1:5005 failed: port is already allocated"
    with pytest.raises(PortTaken) as refused:
        other.publish(tcp(80, 5005))
    assert refused.value.endpoint_id == web.attached.endpoint_id
    assert elements(web.world.host) == before
    assert is_free(5004)


def test_twice_the_same(web: Published) -> None:
    with pytest.raises(PortTaken, match="Bind for 0.0.0.0:5005 failed"):
        web.publish(tcp(80, 5005), tcp(81, 5005))
    assert is_free(5005)
    assert len(web.publish(tcp(80, 5005), tcp(80, 5005))) == 2


def test_a_port_that_was_just_used(web: Published) -> None:
    """Connections in TIME_WAIT keep nobody from holding it, nor what the helper passed on."""
    with socket.create_server(("0.0.0.0", 5005)) as server:
        with socket.create_connection(("127.0.0.1", 5005)):
            server.accept()[0].close()
        poll(lambda: "TIME-WAIT" in web.world.host.sh("ss -tan sport 5005"), "TIME_WAIT")
    for _ in range(2):
        web.publish(tcp(80, 5005))
        with serving(web.attached.sandbox, "tcp", 80) as server:
            assert server.seen_from(web.world.host, "::1", 5005, expected=True)
        web.revoke()
    assert is_free(5005)


# changes


def test_only_the_difference_changes(web: Published) -> None:
    """What stays keeps its port and its connections."""
    found = web.publish(tcp(80), tcp(81, 5005))
    with (
        open_socket(web.attached.sandbox, socket.AF_INET, socket.SOCK_STREAM) as server,
        open_socket(web.world.peer, socket.AF_INET, socket.SOCK_STREAM) as client,
    ):
        server.bind(("0.0.0.0", 80))
        server.listen()
        client.connect((HOST[4], found[0].host_port))
        accepted, _ = server.accept()
        changed = web.publish(tcp(80), tcp(82, 5006))
        assert changed == (*found[:2], *(item for item in changed if item.container_port == 82))
        assert (is_free(5005), is_free(5006)) == (True, False)
        client.sendall(b"still here")
        assert accepted.recv(100) == b"still here"
        accepted.close()
    assert web.publish(*changed) == changed
    assert web.publish() == ()
    assert is_free(5006)
    assert elements(web.world.host) == set()


def test_a_change_that_fails_leaves_all_as_it_was(web: Published) -> None:
    found = web.publish(tcp(80, 5005))
    before = elements(web.world.host)
    with program(web.world.host, 5007), pytest.raises(PortTaken):
        web.publish(tcp(80, 5006), tcp(80, 5007))
    assert elements(web.world.host) == before
    assert (is_free(5005), is_free(5006)) == (False, True)
    assert web.publish(*found) == found


def test_revoked_with_all_that_it_was(web: Published) -> None:
    before = web.world.host.snapshot()
    web.publish(tcp(80, 5005), PortBinding("udp", 53, None, 53), tcp(90))
    web.revoke()
    web.revoke()
    assert web.world.host.snapshot() == before
    assert is_free(5005)
    assert is_free(53, kind=socket.SOCK_DGRAM)


def test_they_go_with_the_endpoint_and_with_the_network(web: Published) -> None:
    web.publish(tcp(80, 5005))
    other = Published(web.world, web.spec, 3)
    other.publish(tcp(80, 5006))
    web.world.driver.leave(web.spec.id, web.attached.endpoint_id)
    web.world.driver.delete_endpoint(web.spec.id, web.attached.endpoint_id)
    assert (is_free(5005), is_free(5006)) == (True, False)
    web.world.driver.delete_network(web.spec.id)
    assert is_free(5006)
    web.world.driver.close()
    poll(lambda: web.world.host.port_helper() is None, "the helper's end: it holds nothing")


# connection tracking


def test_udp_clients_from_before_and_after(web: Published) -> None:
    """One that never stops sending, from one port: moby#53384, plugins#123."""
    with (
        open_socket(web.world.peer, socket.AF_INET) as client,
        open_socket(web.attached.sandbox, socket.AF_INET) as first,
    ):
        client.bind(("", 3333))
        client.setblocking(False)
        first.bind(("", 53))
        first.settimeout(0.2)

        def arrives(server: socket.socket) -> bool:
            with contextlib.suppress(OSError):  # the host says that nobody is there
                client.sendto(b"x", (HOST[4], 53))
            try:
                source = server.recvfrom(10)[1]
            except TimeoutError:
                return False
            return bool(source == (PEER[4], 3333))

        for _ in range(3):
            assert not arrives(first)
        assert "dport=53" in web.world.host.sh("cat /proc/net/nf_conntrack || conntrack -L -p udp")
        web.publish(PortBinding("udp", 53, None, 53))
        assert arrives(first)
        web.revoke()
        assert not arrives(first)
        other = Published(web.world, web.spec, 3)
        other.publish(PortBinding("udp", 53, None, 53))
        with open_socket(other.attached.sandbox, socket.AF_INET) as second:
            second.bind(("", 53))
            second.settimeout(0.2)
            assert arrives(second)


def test_others_flows_to_the_same_port_go_on(web: Published) -> None:
    """Through the host, to a port of that number somewhere else."""
    with (
        open_socket(web.attached.sandbox, socket.AF_INET) as client,
        open_socket(web.world.peer, socket.AF_INET) as server,
    ):
        server.bind(("", 53))
        server.settimeout(2)
        client.sendto(b"x", (PEER[4], 53))
        _, source = server.recvfrom(10)
        web.publish(PortBinding("udp", 53, None, 53))
        web.revoke()
        server.sendto(b"y", source)  # no entry of it was removed: it finds back
        client.settimeout(2)
        assert client.recv(10) == b"y"


# others' changes, and restarts


def test_no_rule_and_no_chain_a_port(web: Published) -> None:
    """CVE-2025-71160, moby#53466: graphs of chains cost the kernel, and all that is added later."""
    host = web.world.host

    def rules() -> list[str]:
        tables = ("inet cnm-bridge", "bridge cnm-bridge")
        text = "".join(host.sh(f"nft -s list table {table}") for table in tables)
        return re.findall(r"\tchain .*?\n\t\}", text, re.DOTALL)

    before = rules()
    web.publish(*(tcp(80, port) for port in range(20000, 20500)))
    assert rules() == before
    assert not any(" vmap " in chain for chain in before)


def test_flushed_rules_come_back(web: Published) -> None:
    web.publish(tcp(80, 5005), *(tcp(port, port) for port in range(7000, 7020)))
    rules = web.world.host.sh("nft -s list ruleset")
    web.world.host.sh("nft flush ruleset")
    assert web.world.driver.restore_rules(web.spec.id)
    assert web.world.host.sh("nft -s list ruleset") == rules
    web.world.host.sh("nft flush map inet cnm-bridge ports_any_ipv4")
    assert web.world.driver.restore_rules(web.spec.id)
    assert web.world.host.sh("nft -s list ruleset") == rules
    assert web.world.driver.restore_rules(web.spec.id) == []


def test_a_driver_that_starts_again(web: Published) -> None:
    """The helper is found, and knows what it holds; clients notice nothing."""
    found = web.publish(tcp(80, 5005), tcp(81))
    pid = web.world.host.port_helper()
    rules = web.world.host.sh("nft -s list ruleset")
    web.world.driver.close()
    again = web.world.host.bridge()
    state = web.attached.state(ports=found)
    assert again.restore(web.spec, [state]) == []
    assert [item for item in again.owned() if item.kind != "link"] == []
    assert web.world.host.port_helper() == pid
    assert web.world.host.sh("nft -s list ruleset") == rules
    assert web.publish(tcp(80, 5005), tcp(81), driver=again) == found
    web.world.driver = again
    web.revoke()
    assert is_free(5005)


def test_after_everything_was_lost(web: Published) -> None:
    """As after a restart of the machine: the records are all there is."""
    found = web.publish(tcp(80, 5005), tcp(81))
    web.world.driver.close()
    pid = web.world.host.port_helper()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    poll(lambda: is_free(5005), "the helper's end")
    web.world.host.sh("nft flush ruleset")
    again = web.world.host.bridge()
    assert again.restore(web.spec, [web.attached.state(ports=found)])
    assert not is_free(5005)
    with serving(web.attached.sandbox, "tcp", 80) as server:
        assert server.seen_from(web.world.peer, HOST[4], 5005, expected=True) == PEER[4]
        assert server.seen_from(web.world.host, "::1", 5005, expected=True)


def test_one_that_was_taken_meanwhile_costs_no_other(web: Published) -> None:
    """Another program was quicker, while neither daemon nor helper ran; then it ends."""
    found = web.publish(tcp(80, 5005), tcp(80, 5006))
    state = web.attached.state(ports=found)
    before = elements(web.world.host)
    web.world.driver.close()
    pid = web.world.host.port_helper()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    poll(lambda: is_free(5005) and is_free(5006), "the helper's end")
    web.world.host.sh("nft flush ruleset")
    web.world.driver = again = web.world.host.bridge()
    with program(web.world.host, 5005), serving(web.attached.sandbox, "tcp", 80) as server:
        for _ in range(2):  # each sweep tries again
            with pytest.raises(TeardownError) as failed:
                again.restore(web.spec, [state])
            assert "Bind for 0.0.0.0:5005 failed" in str(failed.value)
            assert server.seen_from(web.world.peer, HOST[4], 5006, expected=True) == PEER[4]
            assert server.seen_from(web.world.host, "::1", 5006, expected=True)
        assert not any("5005" in each and "any_ipv4" in each for each in elements(web.world.host))
    poll(lambda: is_free(5005), "the program's end")
    assert again.restore(web.spec, [state])
    assert elements(web.world.host) == before
    web.revoke()
    assert is_free(5005)
    assert is_free(5006)


def test_udp_clients_of_one_that_was_taken_meanwhile(web: Published) -> None:
    """Who spoke to the other program, and never stops sending, reaches the container then."""
    found = web.publish(PortBinding("udp", 53, None, 53))
    state = web.attached.state(ports=found)
    web.world.driver.close()
    pid = web.world.host.port_helper()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    poll(lambda: is_free(53, kind=socket.SOCK_DGRAM), "the helper's end")
    web.world.host.sh("nft flush ruleset")
    web.world.driver = again = web.world.host.bridge()
    with (
        open_socket(web.world.peer, socket.AF_INET) as client,
        open_socket(web.attached.sandbox, socket.AF_INET) as server,
    ):
        server.bind(("", 53))
        server.settimeout(5)
        with program(web.world.host, 53, "udp"):
            with pytest.raises(TeardownError):
                again.restore(web.spec, [state])
            client.sendto(b"x", (HOST[4], 53))
            listed = "cat /proc/net/nf_conntrack 2>/dev/null || conntrack -L -p udp"
            poll(lambda: "dport=53 " in web.world.host.sh(listed), "the flow to the program")
        poll(lambda: is_free(53, kind=socket.SOCK_DGRAM), "the program's end")
        assert again.restore(web.spec, [state])
        client.sendto(b"y", (HOST[4], 53))
        assert server.recv(10) == b"y"


def test_what_a_killed_daemon_held_is_given_back(web: Published) -> None:
    """It was killed before it wrote what it had published, and while a client was sending."""
    with open_socket(web.world.peer, socket.AF_INET) as client:
        web.publish(tcp(80, 5005), PortBinding("udp", 53, None, 53))
        client.sendto(b"x", (HOST[4], 53))
        web.world.driver.close()
        again = web.world.host.bridge()
        again.restore(web.spec, [web.attached.state()])
        orphans = [item for item in again.owned() if item.kind in ("port", "table")]
        assert {item.kind for item in orphans} == {"port", "table"}
        for item in orphans:
            again.remove_orphan(item)
    assert is_free(5005)
    assert elements(web.world.host) == set()
    listed = web.world.host.sh("cat /proc/net/nf_conntrack 2>/dev/null || conntrack -L -p udp")
    assert "dport=53 " not in listed
    assert [item for item in again.owned() if item.kind != "link"] == []


def test_a_helper_that_is_killed_has_an_heir(web: Published) -> None:
    web.publish(tcp(80, 5005), PortBinding("udp", 53, None, 53))
    pid = web.world.host.port_helper()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    poll(lambda: web.world.host.port_helper() not in (None, pid), "another helper")
    poll(lambda: not is_free(5005), "the port")
    poll(lambda: not is_free(53, kind=socket.SOCK_DGRAM), "the other port")
    with serving(web.attached.sandbox, "tcp", 80) as server:
        assert server.seen_from(web.world.host, "::1", 5005, expected=True)
    web.revoke()
    assert is_free(5005)


@pytest.mark.parametrize("connection", [1, 2], ids=["the calls", "the watch"])
def test_one_that_is_killed_before_it_took_a_connection(
    web: Published, monkeypatch: pytest.MonkeyPatch, connection: int
) -> None:
    """A daemon that starts connects, and the helper is killed before it accepts that."""
    state = web.attached.state(ports=web.publish(tcp(80, 5005)))
    web.world.driver.close()
    pid = web.world.host.port_helper()
    assert pid is not None
    made: list[socket.socket] = []

    def connect(place: resident.Place) -> socket.socket:
        last = len(made) == connection - 1
        if last:
            os.kill(pid, signal.SIGSTOP)
        made.append(link := original(place))
        if last:
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                poll(lambda: not os.path.exists(f"/proc/{pid}"), "its end")
        return link

    original = resident.connect
    monkeypatch.setattr(resident, "connect", connect)
    web.world.driver = again = web.world.host.bridge()
    assert again.restore(web.spec, [state]) is not None
    assert len(made) > connection
    assert not is_free(5005)
    assert web.world.host.port_helper() not in (None, pid)


def test_one_process_whatever_the_number(web: Published) -> None:
    """moby#11185, moby#23166: two processes a port."""
    web.publish(tcp(80, 5005))
    pid = web.world.host.port_helper()
    web.publish(*(tcp(80, port) for port in range(20000, 21000)))
    assert web.world.host.port_helper() == pid
    assert len(elements(web.world.host)) == 2000
    web.publish(*(tcp(port, port) for port in range(20000, 21000)))
    assert len(elements(web.world.host)) == 2
    assert not is_free(20999)


# looking


def test_what_is_ours_is_shown(web: Published) -> None:
    web.publish(tcp(80, 5005))
    with serving(web.attached.sandbox, "tcp", 80) as server:
        assert server.seen_from(web.world.peer, HOST[4], 5005, expected=True)
    shown = web.world.driver.firewall_rules()
    (port,) = [item for item in shown if item.text.startswith("tcp . 5005 : 10.1.0.2")]
    assert (port.place, port.packets, port.network_id, port.endpoint_id) == (
        "ports_any_ipv4",
        1,
        web.spec.id,
        web.attached.endpoint_id,
    )
    assert all(item.purpose for item in shown)
    assert "ct status dnat accept" in [item.text for item in shown]
    in_kernel = web.world.host.sh("nft -s list table inet cnm-bridge").count("comment")
    assert len([item for item in shown if item.family == "inet"]) > in_kernel / 2


def test_who_reaches_a_port(web: Published) -> None:
    web.publish(tcp(80, 5005), tcp(81, 5006, host_ip="127.0.0.1"))
    found = {
        (str(item.binding.host_ip), item.origin): (item.verdict, item.because)
        for item in web.world.driver.firewall_reach()
    }
    assert found["0.0.0.0", "LAN"] == (True, "published on all addresses of the host")
    assert found["127.0.0.1", "LAN"][0] is False
    assert found["127.0.0.1", "this host"][0] is True
    web.world.host.sh("nft add table ip filter")
    web.world.host.sh(
        "nft 'add chain ip filter INPUT { type filter hook input priority 0; policy drop; }'"
    )
    lan = next(item for item in web.world.driver.firewall_reach() if item.origin == "LAN")
    assert lan.verdict
    assert "table ip filter, chain INPUT would drop it" in lan.because
    web.world.host.sh(
        "nft 'add chain ip filter mine { type filter hook forward priority 0; policy drop; }'"
    )
    lan = next(item for item in web.world.driver.firewall_reach() if item.origin == "LAN")
    assert not lan.verdict
    with serving(web.attached.sandbox, "tcp", 80) as server:
        assert server.seen_from(web.world.peer, HOST[4], 5005, expected=False) is None
    assert address(web.attached, 4) == "10.1.0.2"


def test_a_network_without_ipv4_has_no_ipv4_ports(world: World) -> None:
    spec = network("fd1::1/64")
    world.driver.create_network(spec)
    only6 = Published(world, spec)
    with pytest.raises(InvalidParameter, match="the container has no IPv4 address"):
        only6.publish(tcp(80, 5005, host_ip="127.0.0.1"))
    assert only6.publish(tcp(80, 5005)) == (tcp(80, 5005, host_ip="::"),)
