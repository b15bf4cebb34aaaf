"""Sysctls of the host: set while needed, told, and put back."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.namespaces import Namespace, NamespaceFactory

from cnm.errors import KernelError, TeardownError
from cnm.runtime.kernel import sysctl
from cnm.runtime.kernel.netns import NetNS
from cnm.runtime.kernel.sysctl import HostSysctls
from cnm.store import SqliteStore

pytestmark = pytest.mark.kernel

FORWARD = "net/ipv4/ip_forward"
FORWARD6 = "net/ipv6/conf/all/forwarding"
REDIRECTS = "net/ipv4/conf/all/send_redirects"


@pytest.fixture
def store(host_ns: Namespace, tmp_path: Path) -> Iterator[SqliteStore]:
    """Its ledger outlives the settings."""
    opened = SqliteStore(tmp_path / "cnm.db")
    yield opened
    opened.close()


@pytest.fixture
def settings(store: SqliteStore) -> HostSysctls:
    return HostSysctls(store.ledger)


def shown(namespace: Namespace, name: str) -> str:
    return namespace.run("cat", f"/proc/sys/{name}").strip()


def test_read_and_write(host_ns: Namespace, make_ns: NamespaceFactory) -> None:
    box = make_ns("box")
    sysctl.write(FORWARD, "1")
    assert (shown(host_ns, FORWARD), sysctl.read(FORWARD)) == ("1", "1")
    with NetNS(box.path) as inside:
        assert sysctl.read(FORWARD, inside) == shown(box, FORWARD) == "0"
        sysctl.write(FORWARD, "1", inside)
        assert shown(box, FORWARD) == "1"


def test_refusals(host_ns: Namespace) -> None:
    for name, value, number in (
        ("net/ipv4/absent", "1", errno.ENOENT),
        (FORWARD, "words", errno.EINVAL),
    ):
        with pytest.raises(KernelError, match=name) as caught:
            sysctl.write(name, value)
        assert caught.value.errno == number
    with pytest.raises(KernelError):
        sysctl.read("net/ipv4/absent")


def test_an_interface_with_a_dot_in_its_name(host_ns: Namespace) -> None:
    host_ns.sh("link add br.7 type bridge")
    sysctl.write("net/ipv4/conf/br.7/route_localnet", "1")
    assert shown(host_ns, "net/ipv4/conf/br.7/route_localnet") == "1"


def test_the_last_holder_puts_it_back(
    host_ns: Namespace, settings: HostSysctls, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        settings.need(FORWARD, "1", holder="blue", reason="network blue needs forwarding")
        settings.need(FORWARD, "1", holder="red", reason="network red needs forwarding")
        settings.need(FORWARD, "1", holder="red", reason="network red needs forwarding")
    told = [record.getMessage() for record in caplog.records if "->" in record.getMessage()]
    assert told == ["sysctl net.ipv4.ip_forward: 0 -> 1 (network blue needs forwarding)"]
    settings.release("blue")
    assert shown(host_ns, FORWARD) == "1"
    settings.release("red")
    assert shown(host_ns, FORWARD) == "0"
    assert settings.values() == {}
    settings.release("red")


def test_what_was_so_before_stays(host_ns: Namespace, settings: HostSysctls) -> None:
    host_ns.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    settings.need(FORWARD, "1", holder="blue", reason="test")
    assert settings.values() == {}
    settings.release("blue")
    assert shown(host_ns, FORWARD) == "1"


def test_what_others_changed_since_is_theirs(host_ns: Namespace, settings: HostSysctls) -> None:
    settings.need(REDIRECTS, "0", holder="blue", reason="test")
    host_ns.run("sysctl", "-q", "-w", "net.ipv4.conf.all.send_redirects=1")
    settings.release("blue")
    assert shown(host_ns, REDIRECTS) == "1"
    assert settings.values() == {}


def test_what_others_changed_while_needed_is_set_again(
    host_ns: Namespace, settings: HostSysctls
) -> None:
    settings.need(FORWARD, "1", holder="blue", reason="test")
    host_ns.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
    settings.need(FORWARD, "1", holder="blue", reason="test")
    assert shown(host_ns, FORWARD) == "1"
    settings.release("blue")
    assert shown(host_ns, FORWARD) == "0"


def test_a_restart_keeps_what_is_needed_and_restores_the_rest(
    host_ns: Namespace, store: SqliteStore, settings: HostSysctls
) -> None:
    settings.need(FORWARD, "1", holder="blue", reason="test")
    settings.need(REDIRECTS, "0", holder="red", reason="test")
    restarted = HostSysctls(store.ledger)
    restarted.need(FORWARD, "1", holder="blue", reason="test")
    restarted.restore_unheld()
    assert (shown(host_ns, FORWARD), shown(host_ns, REDIRECTS)) == ("1", "1")
    restarted.release("blue")
    assert shown(host_ns, FORWARD) == "0"


def test_a_daemon_killed_between_ledger_and_sysctl(host_ns: Namespace, store: SqliteStore) -> None:
    store.ledger.remember(FORWARD, "0", "1")
    HostSysctls(store.ledger).restore_unheld()
    assert shown(host_ns, FORWARD) == "0"
    assert store.ledger.remembered() == {}


def test_a_setting_that_went_with_its_interface(host_ns: Namespace, settings: HostSysctls) -> None:
    host_ns.sh("link add br-a type bridge")
    settings.need("net/ipv4/conf/br-a/route_localnet", "1", holder="blue", reason="test")
    host_ns.sh("link delete br-a")
    settings.release("blue")
    assert settings.values() == {}


def test_a_refused_need_leaves_nothing(host_ns: Namespace, settings: HostSysctls) -> None:
    with pytest.raises(KernelError):
        settings.need("net/ipv4/absent", "1", holder="blue", reason="test")
    with pytest.raises(KernelError):
        settings.need(FORWARD, "words", holder="blue", reason="test")
    assert settings.values() == {}
    settings.release("blue")
    assert shown(host_ns, FORWARD) == "0"


def test_one_that_cannot_be_put_back_keeps_no_other_from_it(
    host_ns: Namespace, store: SqliteStore
) -> None:
    store.ledger.remember(FORWARD, "words", "0")
    store.ledger.remember(REDIRECTS, "0", "1")
    with pytest.raises(TeardownError) as caught:
        HostSysctls(store.ledger).restore_unheld()
    assert "words" in str(caught.value)
    assert shown(host_ns, REDIRECTS) == "0"
    assert list(store.ledger.remembered()) == [FORWARD]


def uplinks(namespace: Namespace) -> None:
    """One that forwards while the host does not, for both families, and one that does not."""
    namespace.sh("link add up0 type bridge; link add up1 type bridge; link set up0 up")
    for family in ("ipv4", "ipv6"):
        namespace.run("sysctl", "-q", "-w", f"net.{family}.conf.up0.forwarding=1")


def interface_settings(namespace: Namespace) -> str:
    """All that a switch rewrites."""
    return namespace.run(
        "sh", "-c", "cd /proc/sys/net; grep . ipv?/conf/*/forwarding ipv4/conf/all/accept_redirects"
    )


@pytest.mark.parametrize("how", ["released", "restarted", "killed half-way"])
@pytest.mark.parametrize("redirects", ["0", "1"])
@pytest.mark.parametrize("switch", [FORWARD, FORWARD6])
def test_what_a_switch_rewrote_is_put_back(
    switch: str, redirects: str, how: str, host_ns: Namespace, store: SqliteStore
) -> None:
    uplinks(host_ns)
    host_ns.run("sysctl", "-q", "-w", f"net.ipv4.conf.all.accept_redirects={redirects}")
    before = interface_settings(host_ns)
    settings = HostSysctls(store.ledger)
    settings.need(switch, "1", holder="blue", reason="test")
    assert interface_settings(host_ns) != before
    if how == "released":
        settings.release("blue")
    elif how == "killed half-way":
        sysctl.write(switch, "0")
    HostSysctls(store.ledger).restore_unheld()
    assert interface_settings(host_ns) == before
    assert store.ledger.remembered() == {}


def test_what_a_switch_rewrote_stays_while_it_is_needed(
    host_ns: Namespace, store: SqliteStore
) -> None:
    uplinks(host_ns)
    HostSysctls(store.ledger).need(FORWARD, "1", holder="blue", reason="test")
    restarted = HostSysctls(store.ledger)
    restarted.need(FORWARD, "1", holder="blue", reason="test")
    restarted.restore_unheld()
    assert shown(host_ns, "net/ipv4/conf/up1/forwarding") == "1"
    restarted.release("blue")
    assert shown(host_ns, "net/ipv4/conf/up1/forwarding") == "0"
    assert shown(host_ns, "net/ipv4/conf/up0/forwarding") == "1"


def test_interfaces_that_came_went_or_were_set_since(
    host_ns: Namespace, settings: HostSysctls
) -> None:
    uplinks(host_ns)
    host_ns.sh("link add up2 type bridge")
    host_ns.run("sysctl", "-q", "-w", "net.ipv4.conf.up2.forwarding=1")
    settings.need(FORWARD, "1", holder="blue", reason="test")
    host_ns.sh("link add late type bridge; link delete up2")
    host_ns.run("sysctl", "-q", "-w", "net.ipv4.conf.up0.forwarding=0")
    settings.release("blue")
    assert shown(host_ns, "net/ipv4/conf/up0/forwarding") == "0"
    assert shown(host_ns, "net/ipv4/conf/late/forwarding") == "0"
    assert settings.values() == {}


def test_links_of_ours_are_not_remembered(host_ns: Namespace, settings: HostSysctls) -> None:
    host_ns.sh(f"link add br-a type bridge; link set br-a alias cnm:network:{'a' * 64}")
    settings.need(FORWARD, "1", holder="blue", reason="test")
    assert not [name for name in settings.values() if "br-a" in name]
    assert "net/ipv4/conf/default/forwarding" in settings.values()
