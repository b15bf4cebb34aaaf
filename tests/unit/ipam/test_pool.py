"""What one pool hands out: tables of limits, ranges and refusals."""

from ipaddress import ip_address, ip_network

import pytest

from cnm.errors import CNMError, Forbidden, InvalidParameter, Unavailable
from cnm.ipam.pool import Pool, Subnet
from cnm.ipamapi import PoolUsage, StoredPool
from cnm.types import PoolID


def make(network: str, sub_pool: str | None = None, subnet: Subnet | None = None) -> Pool:
    pool = ip_network(network)
    part = ip_network(sub_pool) if sub_pool else None
    return Pool(
        subnet or Subnet(pool), StoredPool(PoolID(f"{network}/{sub_pool}"), "x", pool, part)
    )


def draw(pool: Pool, *, serial: bool = False) -> str:
    address = pool.choose(serial=serial)
    pool.take(address, chosen=True)
    return str(address)


def drain(pool: Pool) -> list[str]:
    found = []
    while pool.usage().free:
        found.append(draw(pool))
    with pytest.raises(Unavailable):
        pool.choose()
    return found


@pytest.mark.parametrize(
    ("network", "sub_pool", "handed_out"),
    [
        pytest.param("10.0.0.0/29", None, [f"10.0.0.{n}" for n in range(1, 7)], id="v4"),
        pytest.param("10.0.0.0/30", None, ["10.0.0.1", "10.0.0.2"], id="v4-30"),
        pytest.param("10.0.0.0/31", None, ["10.0.0.0", "10.0.0.1"], id="v4-31"),
        pytest.param("10.0.0.9/32", None, ["10.0.0.9"], id="v4-32"),
        pytest.param("fd00::/125", None, [f"fd00::{n}" for n in range(1, 8)], id="v6"),
        pytest.param("fd00::/126", None, ["fd00::1", "fd00::2", "fd00::3"], id="v6-126"),
        pytest.param("fd00::/127", None, ["fd00::", "fd00::1"], id="v6-127"),
        pytest.param("fd00::9/128", None, ["fd00::9"], id="v6-128"),
        pytest.param(
            "10.0.0.0/16", "10.0.3.0/30", [f"10.0.3.{n}" for n in range(4)], id="range-inside"
        ),
        pytest.param("10.0.0.0/24", "10.0.0.0/30", ["10.0.0.1", "10.0.0.2", "10.0.0.3"], id="low"),
        pytest.param(
            "10.0.0.0/24", "10.0.0.252/30", ["10.0.0.252", "10.0.0.253", "10.0.0.254"], id="high"
        ),
        pytest.param("10.0.0.0/29", "10.0.0.0/29", [f"10.0.0.{n}" for n in range(1, 7)], id="all"),
        pytest.param("10.0.0.0/24", "10.0.0.0/32", [], id="only-the-network-address"),
        pytest.param("fd00::/64", "fd00::/127", ["fd00::1"], id="v6-low"),
        pytest.param("fd00::/64", "fd00::5:0/127", ["fd00::5:0", "fd00::5:1"], id="v6-inside"),
    ],
)
def test_lowest_first_until_it_is_full(
    network: str, sub_pool: str | None, handed_out: list[str]
) -> None:
    assert drain(make(network, sub_pool)) == handed_out


@pytest.mark.parametrize(
    ("network", "address", "error", "text"),
    [
        pytest.param(
            "10.0.0.0/24", "10.0.1.1", InvalidParameter, "10.0.1.1 is not in pool 10.0.0.0/24"
        ),
        pytest.param(
            "10.0.0.0/24", "10.0.0.0", InvalidParameter, "is the network address of 10.0.0.0/24"
        ),
        pytest.param("10.0.0.0/24", "10.0.0.255", InvalidParameter, "is the broadcast address of"),
        pytest.param("10.0.0.0/24", "fd00::1", InvalidParameter, "is not in pool"),
        pytest.param("fd00::/64", "fd00::", InvalidParameter, "is the subnet-router anycast"),
        pytest.param("fd00::/64", "10.0.0.1", InvalidParameter, "is not in pool"),
        pytest.param("10.0.0.0/24", "10.0.0.1", Forbidden, "^Address already in use$"),
        pytest.param("fd00::/64", "fd00::1", Forbidden, "^Address already in use$"),
    ],
)
def test_refused(network: str, address: str, error: type[CNMError], text: str) -> None:
    pool = make(network)
    draw(pool)
    with pytest.raises(error, match=text):
        pool.subnet.check(ip_address(address))


def test_a_wanted_address_may_lie_outside_the_range() -> None:
    pool = make("10.0.0.0/16", "10.0.3.0/24")
    pool.subnet.check(ip_address("10.0.200.1"))
    pool.take(ip_address("10.0.200.1"))
    assert draw(pool) == "10.0.3.0"


@pytest.mark.parametrize(
    ("network", "sub_pool", "text"),
    [
        ("10.0.0.4/32", None, "no available IPv4 addresses on .* address pools: 10.0.0.4/32$"),
        ("10.0.0.0/8", "10.1.0.0/32", "IPv4 addresses on .*: 10.1.0.0/32 of 10.0.0.0/8$"),
        ("fd00::9/128", None, "no available IPv6 addresses on .* address pools: fd00::9/128$"),
    ],
)
def test_exhausted_names_the_pool(network: str, sub_pool: str | None, text: str) -> None:
    pool = make(network, sub_pool)
    draw(pool)
    with pytest.raises(Unavailable, match=text):
        pool.choose()


def test_a_freed_address_is_reused_at_once() -> None:
    pool = make("10.0.0.0/24")
    assert [draw(pool) for _ in range(3)] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    pool.give_back(ip_address("10.0.0.2"))
    assert draw(pool) == "10.0.0.2"


def test_serial_goes_round() -> None:
    pool = make("10.0.0.0/29")
    assert [draw(pool, serial=True) for _ in range(3)] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    pool.give_back(ip_address("10.0.0.1"))
    assert [draw(pool, serial=True) for _ in range(4)] == [
        "10.0.0.4",
        "10.0.0.5",
        "10.0.0.6",
        "10.0.0.1",
    ]


def test_pools_of_one_subnet_share_its_addresses() -> None:
    low = make("10.0.0.0/24", "10.0.0.0/29")
    wide = make("10.0.0.0/24", "10.0.0.0/28", low.subnet)
    assert [draw(low), draw(wide), draw(low)] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert not wide.holds(ip_address("10.0.0.1"))
    low.close()
    assert [str(address) for address in wide.leases()] == ["10.0.0.2"]
    assert draw(wide) == "10.0.0.1"


@pytest.mark.parametrize(
    ("network", "sub_pool", "before", "after"),
    [
        pytest.param("172.16.0.0/16", None, (2, 65534), (3, 65533), id="as-docker"),
        pytest.param("10.0.0.0/31", None, (0, 2), (1, 1), id="v4-31"),
        pytest.param("10.0.0.0/24", "10.0.0.0/28", (2, 15), (3, 14), id="range"),
        pytest.param("fd00::/64", None, (1, 2**64 - 1), (2, 2**64 - 2), id="v6-64"),
    ],
)
def test_usage(
    network: str, sub_pool: str | None, before: tuple[int, int], after: tuple[int, int]
) -> None:
    pool = make(network, sub_pool)
    assert pool.usage() == PoolUsage(*before)
    draw(pool)
    assert pool.usage() == PoolUsage(*after)
