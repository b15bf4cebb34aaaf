"""Announcements, as a neighbour behind a bridge sees them: captured by tcpdump."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_interface

import pytest
from kernel.namespaces import Namespace, NamespaceFactory, poll

from cnm.runtime.kernel.announce import Announcer
from cnm.runtime.kernel.interior import Interior
from cnm.runtime.kernel.netns import NetNS

pytestmark = pytest.mark.kernel

MAC = "02:42:0a:09:00:02"
ADDRESSES = [ip_interface("10.9.0.2/24"), ip_interface("fd00:9::2/64")]


@pytest.fixture
def box(host_ns: Namespace, make_ns: NamespaceFactory) -> Namespace:
    return make_ns("box")


@pytest.fixture
def neighbour(host_ns: Namespace, box: Namespace, make_ns: NamespaceFactory) -> Namespace:
    """On a bridge of the host with the box: both know their link as eth0."""
    made = make_ns("peer")
    host_ns.sh(
        "link add br-a type bridge mcast_snooping 0; link set br-a up;"
        f"link add v0 type veth peer name eth0 netns {box.name} address {MAC};"
        f"link add v1 type veth peer name eth0 netns {made.name};"
        "link set v0 master br-a up; link set v1 master br-a up"
    )
    box.sh("link set eth0 up")
    made.sh("link set eth0 up")
    for name in ("v0", "v1"):
        poll(partial(_forwards, host_ns, name), f"{name} to forward")
    return made


def _forwards(host: Namespace, port: str) -> bool:
    return "state forwarding" in host.run("bridge", "link", "show", "dev", port)


@contextlib.contextmanager
def capture(namespace: Namespace) -> Iterator[list[str]]:
    """Lines of tcpdump until three were seen of both kinds; filled when the block ends."""
    lines: list[str] = []
    command = ["tcpdump", "-i", "eth0", "-n", "-e", "-v", "-l", "-c", "6"]
    what = f"ether src {MAC} and (arp or (icmp6 and ip6[40] == 136))"
    with subprocess.Popen(
        ["ip", "netns", "exec", namespace.name, *command, what],
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


def sender_of(inside: NetNS, interface: str) -> socket.socket | None:
    with contextlib.closing(Interior(socket.socket.close)) as interior:
        inside.run(interior.open)
        return interior.take_sender(interface)


def test_a_neighbour_hears_three_of_each(box: Namespace, neighbour: Namespace) -> None:
    announcer = Announcer()
    with capture(neighbour) as lines, NetNS(box.path) as inside:
        sender = sender_of(inside, "eth0")
        announcer.announce(sender, MAC, ADDRESSES, count=3, interval_s=0.05)
    announcer.close()
    text = "\n".join(lines)
    assert text.count("Announcement 10.9.0.2") + text.count("Request who-has 10.9.0.2") == 3
    assert text.count("neighbor advertisement") == 3
    assert text.count(f"{MAC} > ff:ff:ff:ff:ff:ff") == 3
    assert text.count(f"{MAC} > 33:33:00:00:00:01") == 3
    assert text.count("fd00:9::2 > ff02::1") == 3
    assert text.count("tgt is fd00:9::2, Flags [override]") == 3
    assert "bad" not in text  # checksums


@pytest.mark.usefixtures("leaves_nothing")
def test_an_interface_that_goes_away_ends_it(box: Namespace, neighbour: Namespace) -> None:
    announcer = Announcer()
    with NetNS(box.path) as inside:
        sender = sender_of(inside, "eth0")
        assert sender_of(inside, "absent") is None
    announcer.announce(sender, MAC, ADDRESSES, count=100, interval_s=0.01)
    box.sh("link delete eth0")
    assert sender is not None
    poll(lambda: sender.fileno() == -1, "the socket to be closed")
    announcer.announce(None, MAC, ADDRESSES)
    announcer.close()


@pytest.mark.usefixtures("leaves_nothing")
def test_closing_drops_what_is_due(box: Namespace, neighbour: Namespace) -> None:
    announcer = Announcer()
    with NetNS(box.path) as inside:
        for _ in range(3):
            sender = sender_of(inside, "eth0")
            announcer.announce(sender, MAC, ADDRESSES, count=1000, interval_s=60)
        unused = sender_of(inside, "eth0")
        announcer.announce(unused, "", ADDRESSES)
    announcer.close()
    announcer.close()
