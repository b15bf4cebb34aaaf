"""What only netem can do to a wire, on a kernel that has it; judged by ping, tc and nstat."""

from __future__ import annotations

import re

import pytest
from kernel.namespaces import poll
from kernel.netlab.stage import Stage

from cnm.netlab import impair
from cnm.netlab.model import Impairment

pytestmark = [pytest.mark.kernel, pytest.mark.needs("netem")]

_FAR = "10.9.1.1"


def ping(stage: Stage, *options: str) -> str:
    return stage.near.run("ping", "-n", "-W", "10", *options, _FAR, check=False)


def round_trip_ms(stage: Stage) -> float:
    """The shortest of three."""
    found = re.search(r"= ([\d.]+)/", ping(stage, "-q", "-c", "3"))
    assert found is not None
    return float(found[1])


def counter(stage: Stage, name: str) -> int:
    shown = stage.far.run("nstat", "-asz", name)
    found = re.search(rf"{name}\s+(\d+)", shown)
    assert found is not None, shown
    return int(found[1])


def test_a_delay_is_had_each_way_and_given_back(stage: Stage) -> None:
    before = stage.near.run("tc", "qdisc")
    ping(stage, "-c", "1")  # the neighbours know each other
    impair.apply(stage.wire, Impairment(delay_s=0.3))
    assert round_trip_ms(stage) >= 600
    impair.apply(stage.wire, Impairment(delay_s=0.4, jitter_s=0.05, direction="in"))
    assert 350 <= round_trip_ms(stage)
    assert "delay 400ms  50ms" in str(impair.read(stage.wire))
    assert stage.near.run("tc", "qdisc") == before, "nothing on the way out"
    impair.clear(stage.wire)
    assert str(impair.read(stage.wire)) == "in order"


def test_all_is_lost_in_one_direction(stage: Stage) -> None:
    ping(stage, "-c", "1")
    impair.apply(stage.wire, Impairment(loss_percent=100, direction="in"))
    seen = counter(stage, "IcmpInEchos")
    assert "100% packet loss" in ping(stage, "-c", "2", "-W", "1")
    assert counter(stage, "IcmpInEchos") == seen + 2


def test_packets_come_twice(stage: Stage) -> None:
    ping(stage, "-c", "1")
    impair.apply(stage.wire, Impairment(duplicate_percent=100, direction="out"))
    seen = counter(stage, "IcmpInEchos")
    assert re.search(r"3 received, \+[23] duplicates", ping(stage, "-c", "3", "-i", "0.2"))
    poll(lambda: counter(stage, "IcmpInEchos") == seen + 6, "each request twice")


def test_damaged_packets_are_thrown_away(stage: Stage) -> None:
    """One bit of each is turned, and some checksum on the way does not hold any more.

    But one in sixteen is hit in its sender's hardware address, which nobody looks at:
    10 of 20 come through once in a hundred million runs.
    """
    ping(stage, "-c", "1")
    impair.apply(stage.wire, Impairment(corrupt_percent=100, direction="out"))
    received = re.search(r"(\d+) received", ping(stage, "-c", "20", "-i", "0.05", "-W", "1"))
    assert received is not None
    assert int(received[1]) < 10
    impair.clear(stage.wire)
    assert "1 received" in ping(stage, "-c", "1")


def test_a_rate_and_a_delay_at_once(stage: Stage) -> None:
    impair.apply(stage.wire, Impairment(rate_bit_s=2_000_000, delay_s=0.1, loss_percent=3))
    for way in ("out", "in"):
        assert re.search(
            rf"{way}: netem limit \d+ delay 100ms loss 3% rate 2Mbit", str(impair.read(stage.wire))
        )
