"""From which namespace a question leaves, and the host's servers while they change."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dnslib
import pytest
from kernel.dns.conftest import ClientFactory, ServerFactory
from kernel.dns.upstreams import (
    ADDRESS,
    Client,
    addresses,
    extended_error,
    opened,
    question,
    rcode,
    well,
)
from kernel.namespaces import Namespace, poll

from cnm.runtime.kernel.loop import READ

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("leaves_nothing")]

NEW = "198.51.100.8"
HOST, BOX = "192.0.2.1", "192.0.2.2"


@dataclass(frozen=True)
class Wire:
    """A host, in which the test runs, and the sandbox behind it; no default route yet."""

    host: Namespace
    box: Namespace

    def lead_out(self) -> None:
        self.box.sh(f"route add default via {HOST}")


@pytest.fixture
def wire(host_ns: Namespace, box: Namespace) -> Wire:
    host_ns.sh(f"link add cnmt0 type veth peer name eth0 netns {box.name}")
    host_ns.sh(f"address add {HOST}/24 dev cnmt0; link set cnmt0 up")
    box.sh(f"address add {BOX}/24 dev eth0; link set eth0 up")
    box.sh("address add fe80::2/64 dev eth0 nodad")
    host_ns.sh("address add fe80::1/64 dev cnmt0 nodad")
    return Wire(host_ns, box)


@pytest.fixture
def resolv_conf(tmp_path: Path) -> Path:
    return tmp_path / "resolv.conf"


class Capture:
    """What goes over the sandbox's link to port 53, as tcpdump sees it."""

    def __init__(self, box: Namespace, path: Path) -> None:
        command = ["tcpdump", "-n", "-i", "eth0", "--immediate-mode", "-U", "-w", str(path)]
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", box.name, *command, "port", "53"], stderr=subprocess.PIPE
        )
        assert self._process.stderr is not None
        while b"listening on" not in (line := self._process.stderr.readline()):
            assert line, "tcpdump ended"

    def stop(self) -> str:
        """Its last words: how many packets."""
        self._process.terminate()
        _, errors = self._process.communicate(timeout=10)
        return errors.decode()


@pytest.fixture
def capture(wire: Wire, tmp_path: Path) -> Iterator[Capture]:
    running = Capture(wire.box, tmp_path / "capture")
    yield running
    running.stop()


def test_a_servers_view_of_who_asks(
    wire: Wire, resolv_conf: Path, serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve(HOST, well(), wire.host)
    resolv_conf.write_text(f"nameserver {HOST}\n")
    for asking in (client(server), client()):
        assert addresses(asking.ask()) == [ADDRESS]
    assert [seen.source[0] for seen in server.seen] == [BOX, BOX]


def test_a_loopback_address_of_the_container_is_its_own(
    wire: Wire, serve: ServerFactory, client: ClientFactory
) -> None:
    inside, outside = serve("127.0.0.1", well(), wire.box), serve("127.0.0.1", well(), wire.host)
    assert addresses(client(inside).ask()) == [ADDRESS]
    assert (len(inside.seen), outside.seen) == (1, [])


def test_a_loopback_address_of_the_host_is_asked_from_the_host(
    wire: Wire,
    resolv_conf: Path,
    serve: ServerFactory,
    client: ClientFactory,
    capture: Capture,
) -> None:
    wire.lead_out()
    inside, outside = serve("127.0.0.1", well(), wire.box), serve("127.0.0.1", well(), wire.host)
    resolv_conf.write_text("nameserver 127.0.0.1\n")
    asking = client()
    assert addresses(asking.ask()) == [ADDRESS]
    assert (inside.seen, len(outside.seen)) == ([], 1)
    with opened(wire.box, "another") as another:
        assert addresses(asking.ask(place=another)) == [ADDRESS]
    assert len(outside.seen) == 1  # it is the same server for everybody
    assert "0 packets captured" in capture.stop()


def test_a_link_of_the_host_is_asked_from_the_host(
    wire: Wire, resolv_conf: Path, serve: ServerFactory, client: ClientFactory
) -> None:
    wire.lead_out()
    wire.host.sh(
        "link add cnmt1 type bridge; link set cnmt1 up; address add fe80::9/64 dev cnmt1 nodad"
    )
    server = serve("fe80::9%cnmt1", well(), wire.host)
    resolv_conf.write_text("nameserver fe80::9%cnmt1\n")
    assert addresses(client().ask()) == [ADDRESS]
    assert len(server.seen) == 1


def test_a_link_of_the_sandbox_is_known_inside(
    wire: Wire, serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve("fe80::1%cnmt0", well(), wire.host)
    assert addresses(client("fe80::1%eth0").ask()) == [ADDRESS]
    assert server.seen[0].source[0].partition("%")[0] == "fe80::2"


def test_without_a_default_route_nothing_leaves(
    wire: Wire,
    resolv_conf: Path,
    serve: ServerFactory,
    client: ClientFactory,
    capture: Capture,
) -> None:
    """CVE-2024-29018: a sandbox that has no way out must not get one by its questions."""
    loopback = serve("127.0.0.1", well(), wire.host)
    beyond = serve("198.18.0.1", well(), _with_address(wire.host, "198.18.0.1"))
    asking = client()
    for text in ("127.0.0.1", "198.18.0.1", "127.0.0.1\nnameserver 198.18.0.1"):
        resolv_conf.write_text(f"nameserver {text}\n")
        assert rcode(asking.ask(f"{len(text)}.example.com")) == "SERVFAIL"
    assert (loopback.seen, beyond.seen) == ([], [])
    assert "0 packets captured" in capture.stop()
    wire.lead_out()
    resolv_conf.write_text("nameserver 127.0.0.1\n")
    asking.until(
        lambda: addresses(asking.ask("www.example.com")) == [ADDRESS], "the way out to be seen"
    )


def _with_address(namespace: Namespace, address: str) -> Namespace:
    namespace.sh(f"address add {address}/32 dev lo")
    return namespace


def test_the_host_itself_needs_no_default_route(
    wire: Wire, resolv_conf: Path, serve: ServerFactory, client: ClientFactory
) -> None:
    serve("127.0.0.1", well(), wire.host)
    resolv_conf.write_text("nameserver 127.0.0.1\n")
    asking = client()
    with opened(wire.host, "host") as host:
        assert addresses(asking.ask(place=host)) == [ADDRESS]


def test_a_namespace_whose_links_went_fails_at_once(
    wire: Wire, serve: ServerFactory, client: ClientFactory
) -> None:
    server = serve(HOST, well(), wire.host)
    asking = client(server)
    assert addresses(asking.ask("a.example.com")) == [ADDRESS]
    wire.box.sh("link delete eth0")
    assert rcode(asking.ask("b.example.com")) == "SERVFAIL"
    assert len(server.seen) == 1


def test_what_a_router_says_is_believed(
    wire: Wire, serve: ServerFactory, client: ClientFactory
) -> None:
    wire.lead_out()
    wire.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    wire.host.sh("route add unreachable 198.18.0.0/15")
    reply = client("198.18.0.1").ask(edns=dnslib.EDNS0())
    assert extended_error(reply) == (22, "198.18.0.1: no route to host")
    asking = client("198.18.0.1", serve("127.0.0.3", well()))
    assert addresses(asking.ask("b.example.com")) == [ADDRESS]


def test_sandboxes_that_share_a_question_part_without_harm(
    wire: Wire, resolv_conf: Path, serve: ServerFactory, client: ClientFactory
) -> None:
    wire.lead_out()
    server = serve("127.0.0.1", lambda _seen: [], wire.host)
    resolv_conf.write_text("nameserver 127.0.0.1\n")
    asking = client()
    with opened(wire.box, "another") as another:
        waiting = [asking.send(question("www.example.com"), each) for each in (None, another)]
        asking.until(lambda: server.seen, "the query")
        asking.forwarder.forget(asking.place)
        for answer in well()(server.seen[0]):
            assert isinstance(answer, bytes)
            server.tell(server.seen[0], answer)
        asking.until(lambda: waiting[1], "the reply")
        assert waiting[0] == []
        alone = asking.send(question("other.example.com"), another)
        before = set(os.listdir("/proc/self/fd"))
        asking.forwarder.forget(another)
        assert len(before - set(os.listdir("/proc/self/fd"))) == 1  # nobody waits any more
        assert alone == []


def test_a_resolv_conf_that_points_at_ourselves_leads_in_no_circle(
    wire: Wire, resolv_conf: Path, client: ClientFactory
) -> None:
    wire.lead_out()
    resolv_conf.write_text("nameserver 127.0.0.1\n")
    asking = client()
    with opened(wire.host, "host") as host, socket.socket(type=socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 53))

        def ready(_events: int) -> None:
            query, source = listener.recvfrom(4096)
            asking.forwarder.forward(host, (), query, partial(_send_to, listener, source))

        asking.loop.watch(listener.fileno(), READ, ready)
        assert rcode(asking.ask()) == "SERVFAIL"
        asking.loop.forget(listener.fileno())
    assert (asking.counters.asked_upstream, asking.counters.joined) == (1, 3)


def _send_to(listener: socket.socket, client: tuple[str, int], reply: bytes) -> None:
    listener.sendto(reply, client)


# the host's resolv.conf while it changes


def asks(asking: Client, address: str) -> None:
    """Poll until a question that nobody asked before is answered with it."""
    names = iter(range(1000))
    poll(lambda: addresses(asking.ask(f"{next(names)}.{address}")) == [address], address)


def test_resolv_conf_may_change_while_we_run(
    wire: Wire, resolv_conf: Path, serve: ServerFactory, client: ClientFactory
) -> None:
    wire.lead_out()
    for number in (1, 2, 3, 4):
        serve(f"127.0.0.{number}", well(f"198.51.100.{number}"), wire.host)
    asking = client()
    resolv_conf.write_text("nameserver 127.0.0.1\n")
    asks(asking, "198.51.100.1")
    resolv_conf.write_text("nameserver 127.0.0.2\n")  # in place, of the same length
    asks(asking, "198.51.100.2")
    other = resolv_conf.with_name("other")
    other.write_text("nameserver 127.0.0.3\n")
    os.replace(other, resolv_conf)
    asks(asking, "198.51.100.3")
    other.write_text("nameserver 127.0.0.4\n")
    resolv_conf.unlink()
    resolv_conf.symlink_to(other.name)
    asks(asking, "198.51.100.4")
    resolv_conf.unlink()
    assert addresses(asking.ask("missing.example.com")) == ["198.51.100.4"]


def test_what_the_old_servers_said_is_forgotten_with_them(
    wire: Wire, resolv_conf: Path, serve: ServerFactory, client: ClientFactory
) -> None:
    wire.lead_out()
    serve("127.0.0.1", well(), wire.host)
    serve("127.0.0.2", well(NEW), wire.host)
    asking = client()
    resolv_conf.write_text("nameserver 127.0.0.1\n")
    assert addresses(asking.ask()) == [ADDRESS]
    resolv_conf.write_text("nameserver 127.0.0.2\n")
    asking.until(lambda: addresses(asking.ask()) == [NEW], "the new server's answer")


def test_a_question_under_way_survives_the_change(
    wire: Wire, resolv_conf: Path, serve: ServerFactory, client: ClientFactory
) -> None:
    wire.lead_out()
    old = serve("127.0.0.1", lambda seen: [] if b"www" in seen.message else well()(seen), wire.host)
    serve("127.0.0.2", well(NEW), wire.host)
    asking = client()
    resolv_conf.write_text("nameserver 127.0.0.1\n")
    replies = asking.send(question("www.example.com"))
    asking.until(lambda: old.seen, "the query")
    resolv_conf.write_text("nameserver 127.0.0.2\n")
    asks(asking, NEW)
    for answer in well()(old.seen[0]):
        assert isinstance(answer, bytes)
        old.tell(old.seen[0], answer)
    asking.until(lambda: replies, "the reply")
    assert addresses(dnslib.DNSRecord.parse(replies[0])) == [ADDRESS]
