"""Impairments and cuts on a real wire, judged by ping and by tc and nft."""

from __future__ import annotations

import re

import pytest
from kernel.netlab.stage import FAR, NEAR, Stage

from cnm.netlab import impair
from cnm.netlab.errors import LabError
from cnm.netlab.model import Impairment, Ping, Throughput

_MEGABIT = 1_000_000


def _ruleset(stage: Stage) -> str:
    return stage.near.run("nft", "list", "ruleset") + stage.middle.run("nft", "list", "ruleset")


def _queues(stage: Stage) -> str:
    return stage.near.run("tc", "qdisc") + stage.middle.run("tc", "qdisc")


def _addresses(stage: Stage) -> list[str]:
    shown = ("-6 route show default", "-o address show scope global")
    return [stage.near.run("ip", *words.split()) for words in shown]


def _lost(stage: Stage, count: int) -> int:
    detail = stage.look(Ping(NEAR, FAR, count=count), within_s=0.1).detail
    found = re.search(r"(\d+) packets transmitted, (\d+) received", detail)
    assert found is not None, detail
    return int(found[1]) - int(found[2])


def test_a_rate_is_kept_and_given_back(stage: Stage) -> None:
    before = _queues(stage)
    impair.apply(stage.wire, Impairment(rate_bit_s=5 * _MEGABIT))
    slow = stage.look(Throughput(NEAR, FAR, at_most_bit_s=6 * _MEGABIT, seconds=0.5))
    assert slow.passed, slow.detail
    assert "5Mbit" in str(impair.read(stage.wire))
    impair.clear(stage.wire)
    fast = stage.look(Throughput(NEAR, FAR, at_least_bit_s=20 * _MEGABIT, seconds=0.3))
    assert fast.passed, fast.detail
    assert _queues(stage) == before
    assert str(impair.read(stage.wire)) == "in order"


def test_loss_acts_on_its_direction_only(stage: Stage) -> None:
    assert stage.look(Ping(NEAR, FAR)).passed  # the neighbours know each other
    impair.apply(stage.wire, Impairment(loss_percent=100, direction="in"))
    assert stage.look(Ping(NEAR, FAR), expect=False).passed
    arrived = stage.far.run("nstat", "-asz", "IcmpInEchos")
    assert re.search(r"IcmpInEchos\s+([2-9]|\d\d)", arrived), (
        "requests do pass, only answers do not"
    )


def test_some_of_many_packets_are_lost(stage: Stage) -> None:
    assert stage.look(Ping(NEAR, FAR)).passed  # the neighbours know each other
    impair.apply(stage.wire, Impairment(loss_percent=50))
    # a round trip passes twice: 25 % come back; 0 or 40 of 40 have a chance below 1 in 90,000
    assert 0 < _lost(stage, 40) < 40


def test_a_cut_lets_nothing_pass_and_keeps_addresses_and_impairments(stage: Stage) -> None:
    impair.apply(stage.wire, Impairment(rate_bit_s=_MEGABIT))
    before = _addresses(stage)
    impair.cut(stage.wire)
    impair.cut(stage.wire)
    assert stage.look(Ping(NEAR, FAR), expect=False).passed
    assert stage.look(Ping(NEAR, FAR, family=6), expect=False).passed
    assert _addresses(stage) == before
    assert str(impair.read(stage.wire)).startswith("cut")
    impair.mend(stage.wire)
    assert stage.look(Ping(NEAR, FAR)).passed
    assert "1Mbit" in str(impair.read(stage.wire))
    impair.clear(stage.wire)
    assert _ruleset(stage) == ""


def test_what_the_kernel_cannot_do_is_refused_before_anything_changes(stage: Stage) -> None:
    if impair.has_netem():
        impair.apply(stage.wire, Impairment(delay_s=0.2, duplicate_percent=1.0))
        assert "delay 200ms" in stage.near.run("tc", "qdisc")
        return
    before = _queues(stage)
    with pytest.raises(LabError, match="no netem .*: delay, duplicate cannot be done here"):
        impair.apply(stage.wire, Impairment(delay_s=0.2, duplicate_percent=1.0, loss_percent=5))
    assert (_queues(stage), _ruleset(stage)) == (before, "")
