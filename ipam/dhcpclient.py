"""One lease's life: the client's side of RFC 2131, as a state machine. No I/O, no clock.

Messages and times come in, messages to send go out. Times are seconds on one clock that only
goes forward, also while the machine sleeps and over restarts of the daemon (CLOCK_BOOTTIME).

::

    SELECTING --offer--> REQUESTING --ack--> BOUND --T1--> RENEWING --T2--> REBINDING --ack--> BOUND
        ^                    |nak, silence                    |nak             |nak, expiry
        +--------------------+--------------------------------+----------------+

What differs from the RFC, and why:

* The first repetition comes after 2 s, not 4: a container waits for it.
* A lease that ends unheard is not given up: the client asks anew and tells its owner, who
  decides (``lease`` stays, ``expired`` is set).
* INIT-REBOOT is not used: a client that starts with a lease knows its times, and one without has
  its address asked for in DISCOVER, which servers honour as well.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from cnm.ipam.dhcpmessage import Kind, Message, Option
from cnm.types import StaticRoute

FIRST_RETRY_S, LAST_RETRY_S = 2.0, 64.0
JITTER_S = 0.5  # either way (RFC 2131, 4.1: so that many clients do not speak in chorus)
REQUESTS = 3  # unanswered ones until another server is looked for
RENEW_RETRY_S = 60.0  # RFC 2131, 4.4.5: at least so long between two attempts to renew
NAK_WAIT_S = 1.0  # after a refusal: a server that always refuses must not be flooded
SHORTEST_S = 10  # leases that are given for less are taken to be for this long
# RFC 2131, 4.4.5
T1_SHARE, T2_SHARE = 0.5, 0.875


class State(enum.StrEnum):
    """Where a client is."""

    SELECTING = "selecting"
    REQUESTING = "requesting"
    BOUND = "bound"
    RENEWING = "renewing"
    REBINDING = "rebinding"


@dataclass(frozen=True, slots=True)
class Lease:
    """What a server gave. Times are of the machine's clock; ``expires_s`` None: for ever."""

    address: IPv4Interface
    server: IPv4Address
    server_mac: str  # of the frame: the server's, or of the relay that leads to it
    obtained_s: float
    renew_s: float | None = None
    rebind_s: float | None = None
    expires_s: float | None = None
    gateway: IPv4Address | None = None
    routes: tuple[StaticRoute, ...] = ()
    dns_servers: tuple[IPv4Address, ...] = ()
    search: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. ``client_id``: as option 61 carries it."""

    mac: str
    client_id: str  # hex digits
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send: to everybody, or (renewing) to the server that gave the lease."""

    message: Message
    to: Lease | None = None


@dataclass(slots=True)
class Client:
    """One lease. ``draw``: random numbers from 0 to 1.

    ``wanted``: an address that the user asked for by name: no other is taken. ``within``: where
    addresses must lie. ``refused``: why nothing can come of it; the owner ends the client then.
    """

    identity: Identity
    draw: Callable[[], float]
    lease: Lease | None = None
    wanted: IPv4Address | None = None
    within: IPv4Network = IPv4Network("0.0.0.0/0")
    state: State = State.SELECTING
    expired: bool = False
    refused: str = ""
    due_s: float | None = None
    _transaction: int = 0
    _offer: Message | None = None
    _began_s: float = 0.0
    _requested_s: float = 0.0  # a lease counts from when it was asked for (RFC 2131, 4.4.1)
    _attempts: int = 0
    _answers: tuple[Kind, ...] = field(default=())

    def start(self, now_s: float) -> None:
        """Ask for an address, or go on with the lease that there is."""
        if self.lease is None or self._is_over(now_s):
            self._select(now_s)
        else:
            self._bind()

    def tick(self, now_s: float) -> list[Outgoing]:
        """What is to be sent by now."""
        if self.due_s is None or now_s < self.due_s:
            return []
        match self.state:
            case State.SELECTING:
                return self._discover(now_s)
            case State.REQUESTING:
                return self._request_again(now_s)
            case _:
                return self._renew(now_s)

    def heard(self, message: Message, server_mac: str, now_s: float) -> list[Outgoing]:
        """A server's message; others' are told by transaction and MAC."""
        ours = message.transaction == self._transaction and message.mac == self.identity.mac
        server = message.address(Option.SERVER)
        if not ours or message.kind not in self._answers or server is None:
            return []
        if message.kind is Kind.NAK:
            if self._offer is None or self._offer.address(Option.SERVER) == server:
                self._refused(now_s)
            return []
        if message.kind is Kind.OFFER:
            return self._choose(message, server, now_s)
        self._take(message, server, server_mac, now_s)
        return []

    def release(self) -> Outgoing | None:
        """The lease is not needed any more."""
        if self.lease is None or self.expired:
            return None
        lease = self.lease
        return Outgoing(
            self._message(Kind.RELEASE, 0.0, client=lease.address.ip, server=lease.server), lease
        )

    def decline(self) -> Outgoing | None:
        """Somebody on the wire has the address (RFC 2131, 4.4.1)."""
        if self.lease is None:
            return None
        lease = self.lease
        return Outgoing(
            self._message(Kind.DECLINE, 0.0, requested=lease.address.ip, server=lease.server)
        )

    # asking

    def _select(self, now_s: float, after_s: float = 0.0) -> None:
        self.state, self._offer, self._attempts = State.SELECTING, None, 0
        self._transaction = int(self.draw() * 0xFFFFFFFF)
        self._began_s, self.due_s = now_s, now_s + after_s
        self._answers = (Kind.OFFER,)

    def _discover(self, now_s: float) -> list[Outgoing]:
        self._expire(now_s)
        self.due_s = now_s + self._backoff()
        asked = self.wanted or (self.lease.address.ip if self.lease else None)
        return [Outgoing(self._message(Kind.DISCOVER, now_s, requested=asked))]

    def _backoff(self) -> float:
        wait = min(FIRST_RETRY_S * 2**self._attempts, LAST_RETRY_S)
        self._attempts += 1
        return float(wait + (self.draw() * 2 - 1) * JITTER_S)

    def _choose(self, offer: Message, server: IPv4Address, now_s: float) -> list[Outgoing]:
        interface = offer.interface
        if interface is None:
            return []
        if self.wanted not in (None, interface.ip):
            self.refused = f"the DHCP server {server} gives {interface.ip}, not {self.wanted}"
            return []
        if interface.ip not in self.within:
            self.refused = f"the DHCP server {server} gives {interface.ip}, not of {self.within}"
            return []
        self.state, self._offer, self._attempts = State.REQUESTING, offer, 0
        self._answers = (Kind.ACK, Kind.NAK)
        return self._request_again(now_s)

    def _request_again(self, now_s: float) -> list[Outgoing]:
        self._expire(now_s)
        if self._offer is None or self._attempts >= REQUESTS:
            self._select(now_s)
            return self._discover(now_s)
        self.due_s, self._requested_s = now_s + self._backoff(), now_s
        server = self._offer.address(Option.SERVER)
        message = self._message(Kind.REQUEST, now_s, requested=self._offer.yours, server=server)
        return [Outgoing(message)]

    def _refused(self, now_s: float) -> None:
        """NAK: the address is not ours (any more). The owner keeps it until there is another."""
        self._select(now_s, NAK_WAIT_S)

    # having

    def _take(self, message: Message, server: IPv4Address, server_mac: str, now_s: float) -> None:
        interface = message.interface
        if interface is None or interface.ip not in self.within:
            return
        if self.state in (State.RENEWING, State.REBINDING) and self.lease:
            if interface.ip != self.lease.address.ip:
                return  # an answer to a renewal gives the same address
            if Option.NETMASK not in message.options:
                interface = self.lease.address
        gateway, routes = message.routes
        renew_s, rebind_s, lease_s = _times(message)
        begin = self._requested_s
        self.lease = Lease(
            interface,
            server,
            server_mac,
            begin,
            None if renew_s is None else begin + renew_s,
            None if rebind_s is None else begin + rebind_s,
            None if lease_s is None else begin + lease_s,
            gateway,
            routes,
            message.dns_servers,
            message.search,
        )
        self.expired = False
        self._bind()

    def _bind(self) -> None:
        self.state, self._offer, self._answers = State.BOUND, None, ()
        self.due_s = self.lease.renew_s if self.lease else None

    def _renew(self, now_s: float) -> list[Outgoing]:
        """RENEWING asks the server that gave the lease, REBINDING asks any."""
        lease = self.lease
        if lease is None or lease.rebind_s is None or lease.expires_s is None:
            self.due_s = None
            return []
        if now_s >= lease.expires_s:
            self._select(now_s)
            return self._discover(now_s)
        if self.state is State.BOUND:
            self._transaction = int(self.draw() * 0xFFFFFFFF)
        rebinding = now_s >= lease.rebind_s
        self.state = State.REBINDING if rebinding else State.RENEWING
        self._answers = (Kind.ACK, Kind.NAK)
        self._began_s = self._requested_s = now_s
        until = lease.expires_s if rebinding else lease.rebind_s
        self.due_s = min(until, now_s + max((until - now_s) / 2, RENEW_RETRY_S))
        message = self._message(Kind.REQUEST, now_s, client=lease.address.ip)
        return [Outgoing(message, None if rebinding else lease)]

    def _is_over(self, now_s: float) -> bool:
        """Past its end, or of another run of the clock (a boot)."""
        lease = self.lease
        if lease is None:
            return False
        ended = lease.expires_s is not None and now_s >= lease.expires_s
        return ended or lease.obtained_s > now_s

    def _expire(self, now_s: float) -> None:
        self.expired = self._is_over(now_s)

    def _message(
        self,
        kind: Kind,
        now_s: float,
        *,
        client: IPv4Address | None = None,
        requested: IPv4Address | None = None,
        server: IPv4Address | None = None,
    ) -> Message:
        options: dict[int, bytes] = {Option.CLIENT_ID: bytes.fromhex(self.identity.client_id)}
        if requested is not None:
            options[Option.REQUESTED] = requested.packed
        if server is not None:
            options[Option.SERVER] = server.packed
        if self.identity.hostname and kind in (Kind.DISCOVER, Kind.REQUEST):
            options[Option.HOSTNAME] = self.identity.hostname.encode()
        return Message(
            kind,
            self._transaction,
            self.identity.mac,
            client or IPv4Address(0),
            broadcast=client is None,
            seconds=max(0, int(now_s - self._began_s)) if now_s else 0,
            options=options,
        )


def _times(message: Message) -> tuple[float | None, float | None, float | None]:
    """T1, T2 and the end, in this order of time whatever the server says."""
    lease = message.seconds_of(Option.LEASE_TIME)
    if lease is None:
        return None, None, None
    lease = max(lease, SHORTEST_S)
    rebind = message.seconds_of(Option.T2)
    if rebind is None or not 0 < rebind < lease:
        rebind_s = lease * T2_SHARE
    else:
        rebind_s = float(rebind)
    renew = message.seconds_of(Option.T1)
    renew_s = float(renew) if renew is not None and 0 < renew < rebind_s else lease * T1_SHARE
    return min(renew_s, rebind_s), rebind_s, float(lease)
