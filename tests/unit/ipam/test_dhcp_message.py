"""DHCP messages: ours as scapy reads them, servers' as we do, and whatever else comes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from dnslib import DNSBuffer
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from cnm.ipam.dhcpdomains import decode as decode_domains
from cnm.ipam.dhcpdomains import is_domain
from cnm.ipam.dhcpmessage import Kind, Message, Option, decode, encode
from cnm.runtime.kernel.dhcpwire import Datagram, datagram_of
from cnm.runtime.kernel.probeframes import claim_of
from cnm.types import StaticRoute

MAC = "02:00:00:00:00:01"


def reply(
    options: bytes, *, sname: bytes = b"", file: bytes = b"", yours: str = "10.0.0.5"
) -> bytes:
    bootp = BOOTP(
        op=2,
        xid=7,
        yiaddr=yours,
        chaddr=bytes.fromhex(MAC.replace(":", "")),
        sname=sname,
        file=file,
        options=b"\x63\x82\x53\x63",
    )
    return bytes(bootp) + options


def heard(options: bytes, **more: object) -> Message:
    found = decode(reply(b"\x35\x01\x05" + options + b"\xff", **more))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_scapy_reads_what_we_say() -> None:
    data = encode(
        Message(
            Kind.REQUEST,
            0xDEADBEEF,
            MAC,
            IPv4Address("10.0.0.5"),
            broadcast=True,
            seconds=70000,
            options={Option.SERVER: bytes([10, 0, 0, 1]), Option.HOSTNAME: b"box"},
        )
    )
    assert len(data) >= 300
    found = BOOTP(data)
    assert (found.op, found.xid, found.flags, found.ciaddr) == (1, 0xDEADBEEF, 0x8000, "10.0.0.5")
    assert found.secs == 0xFFFF
    assert found.chaddr[:6].hex(":") == MAC
    options = {item[0]: item[1] for item in found[DHCP].options if isinstance(item, tuple)}
    assert options["message-type"] == 3
    assert options["server_id"] == "10.0.0.1"
    assert options["hostname"] == b"box"
    assert options["max_dhcp_size"] == 1472


def test_a_release_asks_for_nothing() -> None:
    data = encode(Message(Kind.RELEASE, 1, MAC))
    names = {item[0] for item in BOOTP(data)[DHCP].options if isinstance(item, tuple)}
    assert names == {"message-type"}


def test_address_prefix_and_router() -> None:
    found = heard(b"\x01\x04\xff\xff\xfe\x00" + b"\x03\x08\x0a\x00\x00\x01\x0a\x00\x00\x02")
    assert (found.transaction, found.mac) == (7, MAC)
    assert str(found.interface) == "10.0.0.5/23"
    assert found.routes == (IPv4Address("10.0.0.1"), ())


@pytest.mark.parametrize(
    ("option", "found"),
    [
        (b"", ()),
        (b"\x06\x04\x0a\x00\x00\x09", ("10.0.0.9",)),
        (b"\x06\x05\x0a\x00\x00\x09\x0a", ("10.0.0.9",)),
        (b"\x06\x03\x0a\x00\x00", ()),
        (b"\x06\x10" + bytes(4) + b"\x7f\x00\x00\x01\xe0\x00\x00\xfb\xff\xff\xff\xff", ()),
        (
            b"\x06\x14" + b"".join(bytes([10, 0, 0, last]) for last in (1, 2, 1, 3, 4)),
            ("10.0.0.1", "10.0.0.2", "10.0.0.3"),
        ),
    ],
    ids=["none", "one", "and a rest", "cut short", "nobody's", "the first three"],
)
def test_name_servers(option: bytes, found: tuple[str, ...]) -> None:
    assert tuple(str(item) for item in heard(option).dns_servers) == found


def option(code: Option, value: bytes) -> bytes:
    return bytes([code, len(value)]) + value


def listed(*domains: str) -> bytes:
    """Option 119 as a name server's library packs it: with pointers to what was said before."""
    packed = DNSBuffer()
    for domain in domains:
        packed.encode_name(domain)
    return option(Option.SEARCH, bytes(packed.data))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (b"", ()),
        (option(Option.DOMAIN, b"home.example"), ("home.example",)),
        (option(Option.DOMAIN, b"home.example\0"), ("home.example",)),
        (option(Option.DOMAIN, b"home.example lab.example"), ("home.example", "lab.example")),
        (listed("a.example", "b.a.example", "c.d"), ("a.example", "b.a.example", "c.d")),
        (option(Option.DOMAIN, b"home.example") + listed("a.example"), ("a.example",)),
        (listed(*"abcdefgh"), tuple("abcdef")),
        (listed("a", "b", "a"), ("a", "b")),
        (option(Option.DOMAIN, b"x\nnameserver"), ()),
        (option(Option.DOMAIN, b"a..b"), ()),
        (option(Option.DOMAIN, b"-a"), ()),
        (option(Option.DOMAIN, b"\xff"), ()),
        (option(Option.DOMAIN, b"a." * 127), ()),
        (option(Option.SEARCH, b"\x01a"), ()),
        (option(Option.SEARCH, b"\x05a\0"), ()),
        (option(Option.SEARCH, b"\xc0\x00"), ()),
        (option(Option.SEARCH, b"\x01a\xc0\x00"), ()),
        (option(Option.SEARCH, b"\x01a\x00\xc0"), ()),
        (option(Option.SEARCH, b"\x40a\x00"), ()),
        (option(Option.SEARCH, b"\x00"), ()),
        (option(Option.SEARCH, b"\x03a b\x00"), ()),
        (option(Option.DOMAIN, b"home.example") + option(Option.SEARCH, b"\0"), ("home.example",)),
    ],
)
def test_domains_to_search(options: bytes, found: tuple[str, ...]) -> None:
    assert heard(options).search == found


def test_pointers_to_pointers_end() -> None:
    """As many as a jumbo frame holds, each to the one before."""
    chain = b"\x01a\x00" + b"".join(
        (0xC000 | target).to_bytes(2, "big") for target in (0, *range(3, 8192, 2))
    )
    assert decode_domains(chain) == ()
    assert decode_domains(b"\x01a\x00\xc0\x00\xc0\x03\xc0\x05") == ("a", "a", "a", "a")


@given(st.binary(max_size=200))
def test_domains_of_rubbish_can_be_searched(data: bytes) -> None:
    assert all(map(is_domain, decode_domains(data)))


def test_a_server_is_asked_for_all_that_is_read() -> None:
    options = BOOTP(encode(Message(Kind.DISCOVER, 7, MAC)))[DHCP].options
    (wanted,) = [item[1] for item in options if item[0] == "param_req_list"]
    assert set(wanted) == {1, 3, 6, 15, 51, 58, 59, 119, 121}


@pytest.mark.parametrize(
    ("mask", "yours"),
    [
        (b"\xff\x00\xff\x00", "10.0.0.5"),
        (b"\xff\xff\xff\x00", "0.0.0.0"),
        (b"\xff\xff\xff\x00", "127.0.0.1"),
        (b"\x00\x00\x00\x00", "10.0.0.5"),
    ],
)
def test_what_makes_no_sense_is_no_address(mask: bytes, yours: str) -> None:
    assert heard(b"\x01\x04" + mask, yours=yours).interface is None


def test_routes_without_classes_replace_the_router() -> None:
    routes = (
        bytes([24, 10, 1, 2, 10, 0, 0, 9])
        + bytes([0, 10, 0, 0, 8])
        + bytes([12, 172, 16, 0, 0, 0, 0])
    )
    found = heard(b"\x03\x04\x0a\x00\x00\x01" + bytes([121, len(routes)]) + routes)
    gateway, rest = found.routes
    assert gateway == IPv4Address("10.0.0.8")
    assert rest == (
        StaticRoute(IPv4Network("10.1.2.0/24"), IPv4Address("10.0.0.9")),
        StaticRoute(IPv4Network("172.16.0.0/12"), None),
    )


@pytest.mark.parametrize("routes", [b"\x21\x0a\x00\x00\x01", b"\x18\x0a\x01\x02\x0a", b"\x00"])
def test_malformed_routes_are_dropped(routes: bytes) -> None:
    found = heard(b"\x03\x04\x0a\x00\x00\x01" + bytes([121, len(routes)]) + routes)
    assert found.routes == (IPv4Address("10.0.0.1"), ())


def test_an_option_in_parts_is_put_together() -> None:
    found = heard(b"\x79\x02\x00\x0a" + b"\x79\x03\x00\x00\x08")
    assert found.routes[0] == IPv4Address("10.0.0.8")


def test_options_go_on_in_file_and_sname() -> None:
    found = heard(
        b"\x34\x01\x03", file=b"\x01\x04\xff\xff\xff\x00\xff", sname=b"\x36\x04\x0a\x00\x00\x01\xff"
    )
    assert str(found.interface) == "10.0.0.5/24"
    assert found.address(Option.SERVER) == IPv4Address("10.0.0.1")


def test_times() -> None:
    found = heard(b"\x33\x04\x00\x00\x0e\x10" + b"\x3a\x04\xff\xff\xff\xff" + b"\x3b\x02\x00\x01")
    assert found.seconds_of(Option.LEASE_TIME) == 3600
    assert found.seconds_of(Option.T1) is None
    assert found.seconds_of(Option.T2) is None


def test_a_question_of_another_client_is_no_reply() -> None:
    assert decode(encode(Message(Kind.DISCOVER, 7, MAC))) is None


@given(st.binary(max_size=400))
def test_rubbish_is_survived(data: bytes) -> None:
    decode(data)


@given(st.binary(max_size=120), st.integers(0, 240 + 120))
def test_cut_and_mangled_replies_are_survived(options: bytes, end: int) -> None:
    whole = reply(b"\x35\x01\x02" + options)
    decode(whole[:end])
    found = decode(whole)
    if found is not None:
        assert isinstance(found.interface, IPv4Interface | None)
        assert len(found.routes) == 2


def frame(payload: bytes = b"hello") -> bytes:
    ethernet = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
    return bytes(ethernet / IP(src="10.0.0.1", dst="10.0.0.5") / UDP(sport=67, dport=68) / payload)


def test_a_datagram_out_of_its_frame() -> None:
    assert datagram_of(frame()) == Datagram(b"hello", "02:00:00:00:00:02")
    padded = frame() + bytes(20)  # Ethernet's shortest frame
    assert datagram_of(padded) == Datagram(b"hello", "02:00:00:00:00:02")


def test_every_cut_of_a_frame_is_no_datagram() -> None:
    whole = frame()
    assert [datagram_of(whole[:end]) for end in range(len(whole))] == [None] * len(whole)


@given(st.binary(max_size=100))
def test_frames_of_rubbish_are_survived(data: bytes) -> None:
    datagram_of(data)
    claim_of(data)


@given(st.binary(max_size=60), st.sampled_from([b"\x08\x06", b"\x86\xdd"]))
def test_claims_of_rubbish_are_survived(data: bytes, kind: bytes) -> None:
    claim_of(bytes(12) + kind + data)
