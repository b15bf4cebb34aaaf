"""Tables: what a name means, and that a changed table equals one made anew."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.discovery import NamedEndpoint, NetworkNames
from cnm.dns import message
from cnm.dns.names import Table, wire_key
from cnm.types import EndpointID, NetworkID

NETWORK = NetworkID("n" * 64)
LETTERS = "abcd"


def endpoint(number: int, names: str, addresses: str) -> NamedEndpoint:
    return NamedEndpoint(
        EndpointID(f"{number:064x}"),
        tuple(names.split()),
        tuple(ip_address(address) for address in addresses.split()),
    )


def table(*endpoints: NamedEndpoint, network: str = "front") -> Table:
    return Table.build(NetworkNames(NETWORK, network, endpoints))


def addresses(found: Table, name: str) -> set[str]:
    """Of both families; of ``name.network`` as well."""
    key = wire_key(name)
    owner = found.find(key) or found.find_qualified(key)
    if owner is None:
        return set()
    records = owner.records(message.A) + owner.records(message.AAAA)
    return {str(ip_address(record[12:])) for record in records}


def test_every_name_and_address_is_found() -> None:
    found = table(endpoint(1, "Web www 0123456789ab", "10.0.0.2 fd00::2"))
    for name in ("web", "WEB", "www", "0123456789ab", "web.front", "www.FRONT", "web."):
        assert addresses(found, name) == {"10.0.0.2", "fd00::2"}, name
    for name in ("we", "web.back", "front", "web.front.front", "ww.front", "", "."):
        assert addresses(found, name) == set(), name


@pytest.mark.parametrize(
    ("network", "names", "pointer"),
    [
        pytest.param("Front", "Web www", "Web.Front.", id="name.network, as written"),
        pytest.param("n" * 64, "web", "web.", id="network that no label holds"),
        pytest.param("front", f"{'w' * 64} web", "web.front.", id="name that no label holds"),
        pytest.param("front", "a.b", "a.b.front.", id="name with a dot"),
    ],
)
def test_addresses_lead_to_the_first_name(network: str, names: str, pointer: str) -> None:
    found = table(endpoint(1, names, "10.0.0.2 fd00::2"), network=network)
    for address in ("10.0.0.2", "fd00::2"):
        owner = found.find(wire_key(ip_address(address).reverse_pointer))
        assert owner is not None
        (record,) = owner.records(message.PTR)
        assert record[12:] == message.encode_name(pointer)


def test_a_name_below_the_addresses_domains_is_not_taken() -> None:
    """Else one container could answer for another's address."""
    found = table(
        endpoint(1, "web 3.0.0.10.in-addr.arpa", "10.0.0.2"), endpoint(2, "db", "10.0.0.3")
    )
    owner = found.find(wire_key("3.0.0.10.in-addr.arpa"))
    assert owner is not None
    assert owner.records(message.A) == ()
    assert [record[12:] for record in owner.records(message.PTR)] == [
        message.encode_name("db.front")
    ]


def test_several_holders_come_first_in_turn() -> None:
    found = table(*(endpoint(n, f"c{n} all", f"10.0.0.{n} fd00::{n}") for n in (1, 2, 3)))
    owner = found.find(wire_key("all"))
    assert owner is not None
    rounds = [(owner.records(message.A), owner.records(message.AAAA)) for _ in range(6)]
    assert [a[0][-1] for a, _ in rounds] == [1, 2, 3, 1, 2, 3]
    assert [aaaa[0][-1] for _, aaaa in rounds] == [1, 2, 3, 1, 2, 3]  # pairs do not skip
    assert all(len(a) == len(aaaa) == 3 for a, aaaa in rounds)


def test_what_did_not_change_is_the_same_table() -> None:
    one = endpoint(1, "web", "10.0.0.2")
    found = table(one)
    assert found.with_endpoint(endpoint(1, "web", "10.0.0.2")) is found
    assert found.without(EndpointID("f" * 64)) is found
    assert table().without(one.endpoint_id).names().endpoints == ()


def test_a_change_is_told_to_the_next_table_only() -> None:
    first = table(endpoint(1, "web", "10.0.0.2"), endpoint(2, "db", "10.0.0.3"))
    second = first.with_endpoint(endpoint(2, "db sql", "10.0.0.4"))
    third = second.without(EndpointID(f"{1:064x}"))
    assert first.changed_since(first) == frozenset()
    assert third.changed_since(first) is None
    assert first.changed_since(second) is None
    changed = {wire_key(name) for name in ("db", "sql", "db.front", "sql.front")}
    changed |= {wire_key(f"{n}.0.0.10.in-addr.arpa") for n in (3, 4)}
    assert second.changed_since(first) == frozenset(changed)


endpoints = st.builds(
    endpoint,
    st.integers(0, 5),
    st.lists(st.sampled_from([*LETTERS, "a.b", "A", "a.front"]), max_size=3).map(" ".join),
    st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]), max_size=2).map(
        " ".join
    ),
)
changes = st.lists(st.one_of(endpoints, st.integers(0, 5)), max_size=12)


def everything(found: Table) -> dict[str, object]:
    asked = [*LETTERS, "a.b", "a.front", *(f"{a}.front" for a in LETTERS), "a.front.front"]
    asked += ["1.0.0.10.in-addr.arpa", "2.0.0.10.in-addr.arpa"]
    asked += [ip_address(f"fd00::{n}").reverse_pointer for n in (1, 2)]
    seen: dict[str, object] = {}
    for name, kind in product(asked, (message.A, message.AAAA, message.PTR)):
        for find in (found.find, found.find_qualified):
            owner = find(wire_key(name))
            key = f"{name} {kind} {find.__name__}"
            seen[key] = None if owner is None else sorted(owner.records(kind))
    return seen


@given(changes)
def test_changed_tables_equal_new_ones_and_old_ones_stay(steps: list[NamedEndpoint | int]) -> None:
    found = table()
    wanted: dict[EndpointID, NamedEndpoint] = {}
    for step in steps:
        before, seen_before = found, everything(found)
        if isinstance(step, int):
            endpoint_id = EndpointID(f"{step:064x}")
            wanted.pop(endpoint_id, None)
            found = found.without(endpoint_id)
        else:
            wanted[step.endpoint_id] = step
            found = found.with_endpoint(step)
        assert everything(found) == everything(table(*wanted.values()))
        assert everything(before) == seen_before
        assert set(found.names().endpoints) == set(wanted.values())
        assert_changes_told(before, found)


def assert_changes_told(before: Table, after: Table) -> None:
    told = after.changed_since(before)
    assert told is not None
    old, new = everything(before), everything(after)
    different = {key.split()[0] for key in old if old[key] != new[key]}
    assert {wire_key(name) for name in different} <= told
