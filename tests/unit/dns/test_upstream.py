"""Which servers stand at the back, and when they are tried again."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from cnm.dns.upstream import Route, Upstream, host_only


def servers(*addresses: str) -> list[Upstream]:
    return [Upstream(ip_address(address), 53, from_host=False) for address in addresses]


def test_three_short_silences_in_a_row_make_it_sick() -> None:
    first, second = servers("192.0.2.1", "192.0.2.2")
    route = Route(None, (first, second))
    for _ in range(2):
        first.silent(0.2, now=0)
        first.silent(0.2, now=0)
        assert route.order() == [first, second]
        first.answered()
    for _ in range(3):
        first.silent(0.2, now=0)
    assert route.order() == [second, first]
    first.answered()
    assert route.order() == [first, second]


def test_one_long_silence_does() -> None:
    first, second = servers("192.0.2.1", "192.0.2.2")
    first.silent(1.0, now=0)
    assert Route(None, (first, second)).order() == [second, first]


def test_a_sick_server_is_due_every_five_seconds() -> None:
    (server,) = servers("192.0.2.1")
    assert not server.due_for_probe(100)
    server.unreachable(100)
    times = [100, 104, 105, 106, 109, 110, 111, 200, 200]
    assert [now for now in times if server.due_for_probe(now)] == [105, 110, 200]
    server.answered()
    assert not server.due_for_probe(1000)


def test_further_trouble_does_not_put_the_next_try_off() -> None:
    (server,) = servers("192.0.2.1")
    server.unreachable(100)
    server.unreachable(104)
    server.silent(4.0, now=104.9)
    assert server.due_for_probe(105)


def test_a_route_is_dead_when_all_are_sick() -> None:
    both = servers("192.0.2.1", "2001:db8::1")
    route = Route(None, both)
    both[0].unreachable(0)
    assert not route.dead
    both[1].unreachable(0)
    assert route.dead
    assert route.order() == both


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.53", True),
        ("127.5.5.5", True),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
        ("fe80::1", False),
    ],
)
def test_what_only_the_host_reaches(address: str, expected: bool) -> None:
    assert host_only(ip_address(address)) is expected


@pytest.mark.parametrize(
    ("address", "sockaddr"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("2001:db8::1", ("2001:db8::1", 53, 0, 0)),
        ("fe80::1%1", ("fe80::1", 53, 0, 1)),
        ("fe80::1%lo", ("fe80::1", 53, 0, 1)),
        ("fe80::1%gone0", ("fe80::1", 53, 0, 0)),
    ],
)
def test_addresses_as_the_kernel_wants_them(address: str, sockaddr: tuple[object, ...]) -> None:
    assert servers(address)[0].sockaddr == sockaddr
