"""Other programs change the packet filter while the daemon runs: our rules come back at once."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from conftest import DaemonFactory
from livedaemon import LiveDaemon
from patience import patient
from peers.hostfirewalls import Firewalld, HostFirewall, Ufw

_WITHIN_S = 10.0  # far below the sweep's interval, which these tests set to an hour


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + _WITHIN_S
    while not holds():
        assert time.monotonic() < end, f"{what} within {_WITHIN_S} s"
        time.sleep(0.02)


@pytest.fixture
def live(daemon: DaemonFactory) -> LiveDaemon:
    made = daemon(start=False)
    made.config_file.write_text('{"sweep-interval": 3600}')
    made.start()
    made.net("create", "apart")
    return made


def rules(live: LiveDaemon) -> str:
    return live.inside(live.netns, "nft", "-s", "list", "ruleset").stdout


def test_a_flushed_ruleset_is_healed(live: LiveDaemon) -> None:
    """moby#48657, podman#3842."""
    before = rules(live)
    assert "cnm-bridge" in before
    for _ in range(3):
        live.inside(live.netns, "nft", "flush", "ruleset")
        wait_for("the rules are back", lambda: rules(live) == before)
    assert "table inet cnm-bridge: written again" in live.log()


def test_a_firewall_that_begins_to_drop_does_not_cut_networks_off(live: LiveDaemon) -> None:
    live.inside(live.netns, "iptables", "-P", "FORWARD", "DROP")
    wait_for("networks are accepted", lambda: "CNM-FORWARD" in rules(live))
    live.inside(live.netns, "iptables", "-F")
    wait_for("networks are accepted again", lambda: "jump CNM-FORWARD" in rules(live))
    live.inside(live.netns, "iptables", "-P", "FORWARD", "ACCEPT")
    wait_for("nothing of ours is left there", lambda: "CNM-FORWARD" not in rules(live))


def test_our_own_changes_are_no_news(live: LiveDaemon) -> None:
    for number in range(5):
        live.net("create", f"n{number}")
        live.net("rm", f"n{number}")
    assert "repaired" not in live.log()


@pytest.mark.timeout(patient(180))
@pytest.mark.parametrize("kind", [Firewalld, Ufw], ids=["firewalld", "ufw"])
def test_a_real_firewall_that_comes_reloads_and_is_flushed(
    kind: type[HostFirewall], live: LiveDaemon
) -> None:
    """CVE-2025-54388, CVE-2025-54410: after each, our rules are those of before, all of them."""
    ours = tables(live)

    def is_in_order() -> bool:
        return "jump CNM-FORWARD" in rules(live) and tables(live) == ours

    with kind(live.netns) as firewall:
        wait_for("our networks are accepted by it", is_in_order)
        firewall.reload()
        wait_for("and so after its reload", is_in_order)
        live.inside(live.netns, "nft", "flush", "ruleset")
        wait_for("our rules are back", lambda: tables(live) == ours)
        firewall.again()
        wait_for("and our networks accepted again", is_in_order)


def tables(live: LiveDaemon) -> str:
    """Our own, as the kernel holds them."""
    shown = [
        live.inside(live.netns, "nft", "-s", "list", "table", family, "cnm-bridge", check=False)
        for family in ("inet", "bridge")
    ]
    return "".join(item.stdout for item in shown)
