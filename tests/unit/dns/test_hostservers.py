"""The host's resolv.conf, as it is now."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnm.dns.hostservers import HostServers


class Watched:
    """A resolv.conf in a folder, and a time that goes on with each look."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "resolv.conf"
        self.resolved = folder / "resolved.conf"
        self.now = 0.0
        self.servers = HostServers(self.path, self.resolved, lambda: self.now)

    def look(self) -> list[str]:
        self.now += 1
        return [str(address) for address in self.servers.current()]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_servers_in_their_order(watched: Watched) -> None:
    watched.path.write_text(
        "# nameserver 192.0.2.9\nsearch example.com\nnameserver 192.0.2.1\n"
        "\tnameserver   2001:db8::1  # a comment\nnameserver nonsense\nnameserver\n"
        "nameserver fe80::1%eth0\nnameserver 192.0.2.1\noptions ndots:2\n"
    )
    assert watched.look() == ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"]


def test_a_change_is_seen_and_counted(watched: Watched) -> None:
    watched.path.write_text("nameserver 192.0.2.1\n")
    assert watched.look() == ["192.0.2.1"]
    before = watched.servers.generation
    watched.path.write_text("nameserver 192.0.2.1\nsearch other.example\n")
    assert watched.look() == ["192.0.2.1"]
    assert watched.servers.generation == before
    watched.path.write_text("nameserver 192.0.2.2\n")
    assert watched.look() == ["192.0.2.2"]
    assert watched.servers.generation == before + 1


def test_it_is_looked_at_twice_a_second_at_most(watched: Watched) -> None:
    watched.path.write_text("nameserver 192.0.2.1\n")
    watched.look()
    watched.path.write_text("nameserver 192.0.2.2\n")
    watched.now += 0.4
    assert [str(each) for each in watched.servers.current()] == ["192.0.2.1"]
    watched.now += 0.1
    assert [str(each) for each in watched.servers.current()] == ["192.0.2.2"]


@pytest.mark.parametrize("text", [None, "", "# being written\n", "nameserver nonsense\n", "\xff"])
def test_a_file_without_servers_changes_nothing(watched: Watched, text: str | None) -> None:
    watched.path.write_text("nameserver 192.0.2.1\n")
    watched.look()
    if text is None:
        watched.path.unlink()
    else:
        watched.path.write_text(text, encoding="latin-1")
    assert watched.look() == ["192.0.2.1"]


def test_a_host_without_any_has_its_own(watched: Watched) -> None:
    assert watched.look() == ["127.0.0.1"]
    watched.path.write_text("nameserver 192.0.2.1\n")
    assert watched.look() == ["192.0.2.1"]


def test_behind_systemds_stub_are_its_servers(watched: Watched) -> None:
    watched.path.write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\n")
    assert watched.look() == ["127.0.0.53"]
    watched.resolved.write_text("nameserver 192.0.2.7\nnameserver 192.0.2.8\n")
    assert watched.look() == ["192.0.2.7", "192.0.2.8"]
    watched.path.write_text("nameserver 127.0.0.53\nnameserver 192.0.2.1\n")
    assert watched.look() == ["127.0.0.53", "192.0.2.1"]
