"""Which range, gateway and address belongs to which subnet; the texts are Docker's."""

from __future__ import annotations

from typing import Any

import pytest

from cnm.cli.errors import CommandError
from cnm.cli.ipamconfig import pools


def given(
    subnets: list[str] | None = None,
    ranges: list[str] | None = None,
    gateways: list[str] | None = None,
    auxiliary: dict[str, str] | None = None,
) -> list[dict[str, Any]]:
    return pools(subnets or [], ranges or [], gateways or [], auxiliary or {})


def test_everything_goes_to_its_subnet() -> None:
    assert given(
        ["10.1.0.0/24", "fd00::/64", "10.2.0.0/24"],
        ["10.2.0.128/25", "fd00::1:0/112"],
        ["fd00::1", "10.1.0.254"],
        {"a": "10.2.0.9", "b": "fd00::9", "c": "10.2.0.10"},
    ) == [
        {"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.254"},
        {
            "Subnet": "fd00::/64",
            "IPRange": "fd00::1:0/112",
            "Gateway": "fd00::1",
            "AuxiliaryAddresses": {"b": "fd00::9"},
        },
        {
            "Subnet": "10.2.0.0/24",
            "IPRange": "10.2.0.128/25",
            "AuxiliaryAddresses": {"a": "10.2.0.9", "c": "10.2.0.10"},
        },
    ]


def test_a_lone_subnet_is_left_to_the_daemon() -> None:
    assert given(["bad"]) == [{"Subnet": "bad"}]


LACKING = "every ip-range or gateway must have a corresponding subnet"
OVERLAP = "multiple overlapping subnet configuration is not supported"
A, B = "10.0.0.0/24", "11.0.0.0/24"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (([], ["10.0.0.0/25"]), LACKING),
        (([], [], ["10.0.0.1"]), LACKING),
        (([A], [], ["10.0.0.1", "10.0.0.2"]), LACKING),
        (([A, "10.0.0.0/25"],), OVERLAP),
        ((["10.0.0.0/25", A],), OVERLAP),
        (([A, A],), OVERLAP),
        (([A, "bad"],), "invalid subnet: invalid CIDR address: bad"),
        ((["bad"], [], ["1.2.3.4"]), "invalid subnet: invalid CIDR address: bad"),
        (([A], ["10.1.0.0/25"]), "no matching subnet for range 10.1.0.0/25"),
        (([A], ["bad"]), "invalid CIDR address: bad"),
        (([A], ["10.0.0.9"]), "invalid CIDR address: 10.0.0.9"),
        (([A], [], ["11.0.0.1"]), "no matching subnet for gateway 11.0.0.1"),
        (([A], [], ["bad"]), "no matching subnet for gateway bad"),
        (([A], [], ["fd00::1"]), "no matching subnet for gateway fd00::1"),
        (([A], [], ["10.0.0.1/99"]), "invalid CIDR address: 10.0.0.1/99"),
        (([A], [], [], {"a": "11.0.0.2"}), "no matching subnet for aux-address 11.0.0.2"),
        (([A], [], [], {"a": ""}), "no matching subnet for aux-address "),
        (
            ([A, B], ["10.0.0.0/25", "10.0.0.0/26"]),
            f"cannot configure multiple ranges (10.0.0.0/26, 10.0.0.0/25) on the same subnet ({A})",
        ),
        (
            ([A, B], [], ["10.0.0.1", "10.0.0.2"]),
            f"cannot configure multiple gateways (10.0.0.2, 10.0.0.1) for the same subnet ({A})",
        ),
    ],
)
def test_refused(arguments: tuple[Any, ...], problem: str) -> None:
    with pytest.raises(CommandError) as refused:
        given(*arguments)
    assert str(refused.value) == problem
