"""Ages, times, ports."""

from __future__ import annotations

import pytest

from cnm.cli.display import age, go_time, labels, ports, short_id


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (5400, "1 hours"),
        (2 * 86400, "2 days"),
        (15 * 86400, "2 weeks"),
        (61 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_age(seconds: float, words: str) -> None:
    assert age(seconds) == words


@pytest.mark.parametrize(
    ("rfc", "go"),
    [
        ("2024-01-01T00:00:00.123456789Z", "2024-01-01 00:00:00.123456789 +0000 UTC"),
        ("2024-01-01T00:00:00.100Z", "2024-01-01 00:00:00.1 +0000 UTC"),
        ("2024-01-01T00:00:00.000Z", "2024-01-01 00:00:00 +0000 UTC"),
        ("2024-01-01T00:00:10Z", "2024-01-01 00:00:10 +0000 UTC"),
        ("2024-01-01T00:00:00.5+02:00", "2024-01-01 00:00:00.5 +0200 +0200"),
        ("", ""),
        ("soon", "soon"),
    ],
)
def test_go_time(rfc: str, go: str) -> None:
    assert go_time(rfc) == go


def test_ids_and_labels() -> None:
    assert short_id("0123456789abcdef") == "0123456789ab"
    assert short_id("0123456789abcdef", whole=True) == "0123456789abcdef"
    assert labels({"b": "2", "a": "1"}) == "a=1,b=2"
    assert labels(None) == ""


def port(private: int, public: int = 0, address: str = "", kind: str = "tcp") -> dict[str, object]:
    return {"IP": address, "PrivatePort": private, "PublicPort": public, "Type": kind}


@pytest.mark.parametrize(
    ("bindings", "shown"),
    [
        pytest.param([], "", id="none"),
        pytest.param([port(81), port(80)], "80-81/tcp", id="exposed only"),
        pytest.param([port(80), port(82), port(81, kind="udp")], "80/tcp, 82/tcp, 81/udp"),
        pytest.param([port(80, 5005, "0.0.0.0"), port(80, 5005, "::")],
                     "0.0.0.0:5005->80/tcp, [::]:5005->80/tcp", id="other number"),
        pytest.param([port(n, n, "0.0.0.0") for n in (80, 81, 82, 90)],
                     "0.0.0.0:80-82->80-82/tcp, 0.0.0.0:90->90/tcp", id="same number"),
    ],
)  # fmt: skip
def test_ports(bindings: list[dict[str, object]], shown: str) -> None:
    assert ports(bindings) == shown
