"""The life of a lease, with a clock and a server of the test's: RFC 2131, chapter 4."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from cnm.ipam.dhcpclient import (
    FIRST_RETRY_S,
    JITTER_S,
    LAST_RETRY_S,
    NAK_WAIT_S,
    REQUESTS,
    Client,
    Identity,
    Lease,
    Outgoing,
    State,
)
from cnm.ipam.dhcpmessage import Kind, Message, Option

MAC, SERVER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
SERVER, OTHER = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.3")
ADDRESS = IPv4Address("10.0.0.50")


class Link:
    """A client, the time, and what the server says."""

    def __init__(self, **client: object) -> None:
        self.now = 1000.0
        identity = Identity(MAC, "01020000000001", "box")
        self.client = Client(identity, lambda: 0.5, **client)  # type: ignore[arg-type]
        self.client.start(self.now)

    def tick(self) -> list[Outgoing]:
        return self.client.tick(self.now)

    def due(self) -> list[Outgoing]:
        """Go on to when something is due."""
        assert self.client.due_s is not None
        self.now = max(self.now, self.client.due_s)
        return self.tick()

    def hear(
        self,
        kind: Kind,
        address: IPv4Address = ADDRESS,
        server: IPv4Address = SERVER,
        **changes: int | str | bytes,
    ) -> list[Outgoing]:
        options: dict[int, bytes] = {
            Option.SERVER: server.packed,
            Option.NETMASK: b"\xff\xff\xff\0",
            Option.ROUTER: server.packed,
            Option.LEASE_TIME: struct.pack("!I", int(changes.pop("lease", 1000))),
        }
        for name in ("t1", "t2"):
            if name in changes:
                options[Option[name.upper()]] = struct.pack("!I", int(changes.pop(name)))
        transaction = int(changes.pop("transaction", self.client._transaction))
        mac = str(changes.pop("mac", MAC))
        message = Message(kind, transaction, mac, yours=address, options=options)
        return self.client.heard(message, SERVER_MAC, self.now)

    def bind(self, **changes: int) -> Lease:
        self.due()
        self.hear(Kind.OFFER, ADDRESS, SERVER, **changes)
        self.hear(Kind.ACK, ADDRESS, SERVER, **changes)
        assert self.client.state is State.BOUND
        assert self.client.lease is not None
        return self.client.lease


def kinds(messages: list[Outgoing]) -> list[Kind]:
    return [item.message.kind for item in messages]


def test_discover_offer_request_ack() -> None:
    link = Link()
    (discover,) = link.tick()
    assert discover.to is None
    assert discover.message.kind is Kind.DISCOVER
    assert discover.message.broadcast
    assert Option.REQUESTED not in discover.message.options
    assert discover.message.options[Option.HOSTNAME] == b"box"
    assert discover.message.options[Option.CLIENT_ID] == bytes.fromhex("01020000000001")
    (request,) = link.hear(Kind.OFFER)
    assert request.message.kind is Kind.REQUEST
    assert request.message.options[Option.REQUESTED] == ADDRESS.packed
    assert request.message.options[Option.SERVER] == SERVER.packed
    link.now += 1
    assert link.hear(Kind.ACK) == []
    lease = link.client.lease
    assert link.client.state is State.BOUND
    # times count from when the request was sent
    assert lease == Lease(
        IPv4Interface("10.0.0.50/24"), SERVER, SERVER_MAC, 1000.0, 1500.0, 1875.0, 2000.0, SERVER
    )
    assert link.client.due_s == 1500.0


def test_repetitions_go_apart_up_to_a_minute() -> None:
    link = Link()
    waits = []
    for _ in range(8):
        assert kinds(link.due()) == [Kind.DISCOVER]
        assert link.client.due_s is not None
        waits.append(link.client.due_s - link.now)
    assert waits == [2, 4, 8, 16, 32, 64, 64, 64]
    assert (FIRST_RETRY_S, LAST_RETRY_S) == (2, 64)


@pytest.mark.parametrize(("drawn", "wait"), [(0.0, 2 - JITTER_S), (1.0, 2 + JITTER_S)])
def test_repetitions_are_not_in_chorus(drawn: float, wait: float) -> None:
    client = Client(Identity(MAC, "01"), lambda: drawn)
    client.start(0.0)
    client.tick(0.0)
    assert client.due_s == wait


def test_a_server_that_offers_and_is_silent_is_given_up() -> None:
    link = Link()
    link.tick()
    sent = kinds(link.hear(Kind.OFFER))
    for _ in range(REQUESTS - 1):
        sent += kinds(link.due())
    assert sent == [Kind.REQUEST] * REQUESTS
    assert kinds(link.due()) == [Kind.DISCOVER]
    assert link.client.state is State.SELECTING


def test_the_wait_for_an_offer_does_not_shorten_the_lease() -> None:
    link = Link()
    for _ in range(5):
        link.due()
    link.hear(Kind.OFFER)
    link.hear(Kind.ACK)
    assert link.client.lease is not None
    assert link.client.lease.expires_s == link.now + 1000


def test_a_refused_request_begins_anew_after_a_moment() -> None:
    link = Link()
    link.tick()
    link.hear(Kind.OFFER)
    assert link.hear(Kind.NAK) == []
    assert link.client.state is State.SELECTING
    assert link.client.due_s == link.now + NAK_WAIT_S
    assert kinds(link.due()) == [Kind.DISCOVER]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (Kind.OFFER, {"transaction": 7}),
        (Kind.OFFER, {"mac": "02:00:00:00:00:09"}),
        (Kind.OFFER, {"address": IPv4Address(0)}),
        (Kind.OFFER, {"address": IPv4Address("224.0.0.1")}),
        (Kind.OFFER, {"address": IPv4Address("255.255.255.255")}),
        (Kind.ACK, {}),
        (Kind.NAK, {}),
        (Kind.DISCOVER, {}),
    ],
)
def test_what_is_not_for_us_now_is_not_heard(kind: Kind, changes: dict[str, object]) -> None:
    link = Link()
    link.tick()
    assert link.hear(kind, **changes) == []  # type: ignore[arg-type]
    assert link.client.state is State.SELECTING
    assert link.client.lease is None


def test_another_servers_refusal_does_not_count() -> None:
    link = Link()
    link.tick()
    link.hear(Kind.OFFER)
    link.hear(Kind.NAK, server=OTHER)
    assert link.client.state is State.REQUESTING


def test_renewal_asks_the_server_then_any() -> None:
    link = Link()
    lease = link.bind()
    (first,) = link.due()
    assert link.client.state is State.RENEWING
    assert first.to == lease
    assert (first.message.kind, first.message.client) == (Kind.REQUEST, ADDRESS)
    assert not first.message.broadcast
    assert not {Option.REQUESTED, Option.SERVER} & first.message.options.keys()
    times = [link.now]
    while link.client.state is State.RENEWING:
        (sent,) = link.due()
        times.append(link.now)
    # half of what is left until T2 each time, but a minute at least
    assert times == [1500.0, 1687.5, 1781.25, 1841.25, 1875.0]
    assert sent.to is None
    assert sent.message.client == ADDRESS
    assert link.client.state is State.REBINDING


@pytest.mark.parametrize("server", [SERVER, OTHER])
def test_a_renewed_lease_is_longer(server: IPv4Address) -> None:
    link = Link()
    link.bind()
    link.due()
    link.hear(Kind.ACK, server=server)
    assert link.client.state is State.BOUND
    assert link.client.lease is not None
    assert link.client.lease.expires_s == 2500.0
    assert link.client.lease.server == server


def test_a_renewal_for_another_address_is_no_renewal() -> None:
    link = Link()
    lease = link.bind()
    link.due()
    link.hear(Kind.ACK, IPv4Address("10.0.0.99"))
    assert link.client.state is State.RENEWING
    assert link.client.lease == lease


def test_a_refused_renewal_gives_another_address() -> None:
    link = Link()
    link.bind()
    link.due()
    link.hear(Kind.NAK)
    (discover,) = link.due()
    assert discover.message.options[Option.REQUESTED] == ADDRESS.packed
    assert not link.client.expired
    link.hear(Kind.OFFER, IPv4Address("10.0.0.60"))
    link.hear(Kind.ACK, IPv4Address("10.0.0.60"))
    assert link.client.lease is not None
    assert str(link.client.lease.address) == "10.0.0.60/24"


def test_a_server_that_is_gone_ends_the_lease_but_not_the_asking() -> None:
    link = Link()
    lease = link.bind()
    while link.client.state is not State.SELECTING:
        assert link.now <= 2000.0
        link.due()
    assert link.now == 2000.0
    assert link.client.expired
    assert link.client.lease == lease
    (discover,) = link.due()
    assert discover.message.options[Option.REQUESTED] == ADDRESS.packed
    link.hear(Kind.OFFER)
    link.hear(Kind.ACK)
    assert not link.client.expired
    assert link.client.state is State.BOUND


def test_a_lease_for_ever_is_never_renewed() -> None:
    link = Link()
    lease = link.bind(lease=0xFFFFFFFF)
    assert (lease.renew_s, lease.rebind_s, lease.expires_s) == (None, None, None)
    assert link.client.due_s is None
    assert link.client.tick(1e12) == []


@pytest.mark.parametrize(
    ("t1", "t2", "expected"),
    [(10, 20, (10, 20)), (0, 0, (500, 875)), (900, 800, (500, 800)), (5000, 6000, (500, 875))],
)
def test_times_that_contradict_are_not_believed(
    t1: int, t2: int, expected: tuple[int, int]
) -> None:
    lease = Link().bind(t1=t1, t2=t2)
    assert (lease.renew_s, lease.rebind_s) == (1000 + expected[0], 1000 + expected[1])


def test_t2_before_the_half_pulls_t1_along() -> None:
    lease = Link().bind(t2=100)
    assert lease.renew_s == lease.rebind_s == 1100


def test_a_wanted_address_is_asked_for_and_no_other_taken() -> None:
    link = Link(wanted=IPv4Address("10.0.0.7"))
    (discover,) = link.tick()
    assert discover.message.options[Option.REQUESTED] == IPv4Address("10.0.0.7").packed
    assert link.hear(Kind.OFFER) == []
    assert link.client.refused == "the DHCP server 10.0.0.1 gives 10.0.0.50, not 10.0.0.7"


def test_only_the_networks_subnet_is_taken() -> None:
    link = Link(within=IPv4Network("10.1.0.0/24"))
    link.tick()
    assert link.hear(Kind.OFFER) == []
    assert "gives 10.0.0.50, not of 10.1.0.0/24" in link.client.refused


def test_a_lease_of_an_earlier_daemon_goes_on() -> None:
    lease = Link().bind()
    link = Link(lease=lease)
    assert link.client.state is State.BOUND
    assert link.tick() == []
    link.now = 1600.0  # T1 passed while no daemon ran
    assert [item.to for item in link.tick()] == [lease]


def test_a_lease_that_ended_meanwhile_is_asked_for_again() -> None:
    lease = Link().bind()
    client = Client(Identity(MAC, "01"), lambda: 0.5, lease)
    client.start(2500.0)
    (discover,) = client.tick(2500.0)
    assert discover.message.options[Option.REQUESTED] == ADDRESS.packed
    assert client.expired


def test_a_lease_of_before_a_boot_is_asked_for_again() -> None:
    lease = Link().bind()
    client = Client(Identity(MAC, "01"), lambda: 0.5, lease)
    client.start(10.0)
    assert kinds(client.tick(10.0)) == [Kind.DISCOVER]


def test_release_goes_to_the_server_and_decline_to_all() -> None:
    link = Link()
    assert link.client.release() is None
    assert link.client.decline() is None
    lease = link.bind()
    release, decline = link.client.release(), link.client.decline()
    assert release is not None
    assert release.to == lease
    assert release.message.client == ADDRESS
    assert release.message.options.keys() == {Option.CLIENT_ID, Option.SERVER}
    assert decline is not None
    assert decline.to is None
    assert decline.message.options[Option.REQUESTED] == ADDRESS.packed
    assert int(decline.message.client) == 0


def test_what_has_ended_is_not_released() -> None:
    link = Link()
    link.bind()
    while link.client.state is not State.SELECTING:
        link.due()
    assert link.client.release() is None
