"""Default pools and overlap."""

import hashlib
from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.errors import InvalidParameter, PoolOverlap
from cnm.ipam.addrspace import GLOBAL_POOLS, LOCAL_POOLS, AddressSpace, ula_prefix
from cnm.ipamapi import StoredPool
from cnm.types import IPNetwork, PoolID

FULL = "^all predefined address pools have been fully subnetted$"


def hold(space: AddressSpace, network: IPNetwork, sub_pool: IPNetwork | None = None) -> None:
    space.check(network, sub_pool)
    space.add(StoredPool(PoolID(f"{network}/{sub_pool}"), space.name, network, sub_pool))


def draw(space: AddressSpace, version: int = 4, size: int | None = None) -> str:
    network = space.choose(version, size, ())
    hold(space, network)
    return str(network)


def test_local_pools_are_dockers() -> None:
    space = AddressSpace("x", LOCAL_POOLS)
    expected = [f"172.{n}.0.0/16" for n in range(17, 32)]
    expected += [f"192.168.{n}.0/20" for n in range(0, 256, 16)]
    assert [draw(space) for _ in expected] == expected
    with pytest.raises(InvalidParameter, match=FULL):
        space.choose(4, None, ())


def test_global_pools_are_dockers() -> None:
    space = AddressSpace("x", GLOBAL_POOLS)
    assert [draw(space) for _ in range(258)][-3:] == ["10.0.255.0/24", "10.1.0.0/24", "10.1.1.0/24"]


def test_thousands_of_small_networks() -> None:
    space = AddressSpace("x", [(IPv4Network("10.0.0.0/12"), 26)])
    drawn = [draw(space) for _ in range(16384)]
    assert drawn == [str(network) for network in IPv4Network("10.0.0.0/12").subnets(new_prefix=26)]
    with pytest.raises(InvalidParameter, match=FULL):
        space.choose(4, None, ())


@pytest.mark.parametrize(
    ("size", "chosen"),
    [(16, "172.17.0.0/16"), (24, "172.17.0.0/24"), (32, "172.17.0.0/32"), (17, "172.17.0.0/17")],
)
def test_of_a_wanted_size(size: int, chosen: str) -> None:
    assert draw(AddressSpace("x", LOCAL_POOLS), size=size) == chosen


def test_a_small_pool_blocks_the_default_around_it_only() -> None:
    space = AddressSpace("x", LOCAL_POOLS)
    assert [draw(space, size=24), draw(space), draw(space, size=24)] == [
        "172.17.0.0/24",
        "172.18.0.0/16",
        "172.17.1.0/24",
    ]


@pytest.mark.parametrize("size", [0, 8, 15])
def test_too_big_for_every_default(size: int) -> None:
    with pytest.raises(InvalidParameter, match=f"can hold a /{size}: ask for a smaller"):
        AddressSpace("x", LOCAL_POOLS).choose(4, size, ())


@pytest.mark.parametrize(
    ("routes", "chosen"),
    [
        pytest.param(["172.17.5.0/24"], "172.18.0.0/16", id="inside"),
        pytest.param(["172.16.0.0/12"], "192.168.0.0/20", id="around"),
        pytest.param(["172.17.0.1/32", "172.18.0.0/15", "fd00::/8"], "172.20.0.0/16", id="several"),
        pytest.param(["10.0.0.0/8"], "172.17.0.0/16", id="elsewhere"),
    ],
)
def test_excluded(routes: list[str], chosen: str) -> None:
    space = AddressSpace("x", LOCAL_POOLS)
    assert str(space.choose(4, None, [ip_network(route) for route in routes])) == chosen


def test_full_because_of_routes_says_so() -> None:
    space = AddressSpace("x", [(IPv4Network("172.17.0.0/16"), 16)])
    text = "fully subnetted: 172.17.0.0/16 is not used by a network, but the host has a route"
    with pytest.raises(InvalidParameter, match=text):
        space.choose(4, None, [IPv4Network("128.0.0.0/1")])


def test_lowest_base_first_whatever_the_order() -> None:
    bases: list[tuple[IPNetwork, int]] = [
        (IPv4Network("10.9.0.0/24"), 24),
        (IPv4Network("10.2.0.0/24"), 24),
    ]
    assert draw(AddressSpace("x", bases)) == "10.2.0.0/24"


@pytest.mark.parametrize("size", [7, 33])
def test_malformed_default(size: int) -> None:
    with pytest.raises(InvalidParameter, match=f"10.0.0.0/8: size {size} must be from 8 to 32"):
        AddressSpace("x", [(IPv4Network("10.0.0.0/8"), size)])


@pytest.mark.parametrize(
    ("held", "wanted", "other"),
    [
        pytest.param("10.1.0.0/16", "10.1.0.0/16", "10.1.0.0/16", id="same"),
        pytest.param("10.1.0.0/16", "10.1.7.0/24", "10.1.0.0/16", id="inside"),
        pytest.param("10.1.7.0/24", "10.1.0.0/16", "10.1.7.0/24", id="around"),
        pytest.param("10.1.0.0/16", "10.2.0.0/16", None, id="beside"),
        pytest.param("10.1.0.0/16", "10.0.0.0/16", None, id="below"),
        pytest.param("fd00:1::/64", "fd00::/16", "fd00:1::/64", id="v6"),
        pytest.param("::/0", "10.0.0.0/8", None, id="families"),
    ],
)
def test_overlap(held: str, wanted: str, other: str | None) -> None:
    space = AddressSpace("x", LOCAL_POOLS)
    hold(space, ip_network(held))
    if other is None:
        hold(space, ip_network(wanted))
        return
    text = "^Pool overlaps with other one on this address space$"
    with pytest.raises(PoolOverlap, match=text) as caught:
        space.check(ip_network(wanted), None)
    assert caught.value.pool == ip_network(other)


@pytest.mark.parametrize(
    ("held", "wanted", "allowed"),
    [
        pytest.param(None, "10.1.1.0/24", True, id="whole-then-part"),
        pytest.param("10.1.1.0/24", None, False, id="part-then-whole"),
        pytest.param("10.1.1.0/24", "10.1.1.0/24", False, id="same-part"),
        pytest.param("10.1.1.0/24", "10.1.2.0/24", True, id="another-part"),
        pytest.param("10.1.1.0/24", "10.1.0.0/16", True, id="part-is-the-whole"),
    ],
)
def test_same_pool_with_sub_pools(held: str | None, wanted: str | None, allowed: bool) -> None:
    space, pool = AddressSpace("x", ()), IPv4Network("10.1.0.0/16")
    hold(space, pool, ip_network(held) if held else None)
    part = ip_network(wanted) if wanted else None
    if allowed:
        space.check(pool, part)
        return
    with pytest.raises(PoolOverlap):
        space.check(pool, part)


def test_a_shared_subnet_is_free_when_the_last_has_gone() -> None:
    space, pool = AddressSpace("x", ()), IPv4Network("10.1.0.0/16")
    for part in ("10.1.1.0/24", "10.1.2.0/24"):
        hold(space, pool, IPv4Network(part))
    first, second = list(space.pools.values())
    space.remove(first)
    with pytest.raises(PoolOverlap):
        space.check(IPv4Network("10.0.0.0/8"), None)
    space.remove(second)
    space.check(IPv4Network("10.0.0.0/8"), None)


def test_ula_prefix_is_of_the_id_alone() -> None:
    prefix = ula_prefix("ab" * 32)
    digest = hashlib.sha256(("ab" * 32).encode()).hexdigest()
    assert prefix == IPv6Network(f"fd{digest[6:8]}:{digest[8:12]}:{digest[12:16]}::/48")
    assert prefix != ula_prefix("cd" * 32)


networks = st.builds(
    lambda number, size: IPv4Network((number << 8, size), strict=False),
    st.integers(0x0A0000, 0x0A00FF),
    st.integers(16, 26),
)


@given(st.lists(networks, max_size=12), st.lists(networks, max_size=3), st.integers(18, 26))
def test_choice_is_what_a_search_finds(
    wanted: list[IPv4Network], routes: list[IPv4Network], size: int
) -> None:
    base = IPv4Network("10.0.0.0/16")
    space, held = AddressSpace("x", [(base, 20)]), list[IPv4Network]()
    for network in wanted:
        if any(network.overlaps(other) for other in held):
            with pytest.raises(PoolOverlap):
                space.check(network, None)
            continue
        hold(space, network)
        held.append(network)
    blocks = (
        block
        for block in base.subnets(new_prefix=size)
        if not any(block.overlaps(other) for other in held + routes)
    )
    expected = next(blocks, None)
    if expected is not None:
        assert space.choose(4, size, routes) == expected
        return
    with pytest.raises(InvalidParameter):
        space.choose(4, size, routes)
